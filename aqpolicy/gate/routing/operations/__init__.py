"""Operations on governed parameters outside of layers that have a rule. Entry: `aqpolicy.gate.routing.intercept`."""
