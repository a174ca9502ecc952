"""What the gate of this version can do: modules that it cannot route, features of a policy that it enforces.

The compiler refuses the rest, modules when a policy is bound to a model (AQ321),
features when a bundle is made (AQ322). The gate refuses both again when it is
attached. Nothing of a policy is ever skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from aqpolicy.bundle.tables import ObligationKind
from aqpolicy.errors import BundleError

MIXING_MODULES: Final = frozenset(
    {
        "BatchNorm1d",
        "BatchNorm2d",
        "BatchNorm3d",
        "LazyBatchNorm1d",
        "LazyBatchNorm2d",
        "LazyBatchNorm3d",
        "SyncBatchNorm",
    }
)
"""Types that mix the examples of a batch in training mode, so that no example has a gradient of its own.

In eval mode with running statistics they do not; the description of a model then calls them `Frozen...`.
"""

FEATURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "share": "scale what an example writes into a depth group",
        "norm": "bound what one example writes into a depth group's gradient",
        "surprisal budget": "count the nats of admitted labels per update, per epoch and per run",
        "exposures": "count how often an example is charged in a run",
        "linear share": "scale by a share that is computed from an attribute",
        "amplify": "scale by a share above 1",
        "frequency limit": "bound in how many steps a depth group is written",
        "deferral": "hold an example back until a condition holds, and deny it after a time",
        "verification": "check a metric after an update is committed, and take the update back",
        "promotion": "keep what was learned in the run until a metric passes",
        "movement budget": "count how far the optimizer moves parameters",
        "drift budget": "count how far a depth group's representation drifts",
        "surprisal per step": "count the nats of admitted labels over one step",
        "surprisal per phase": "count the nats of admitted labels over one phase",
        "evidence weighting": "weigh the judgments behind a label",
        "surprisal in conditions": "decide by the surprisal of the update at hand",
        "predictive entropy in conditions": "decide by the predictive entropy of the update at hand",
        "phases": "tell which phase the run is in",
        "stages": "tell which stage the run has been certified for",
        "steps and epochs in conditions": "decide by how far the run has come",
        "dates in conditions": "decide by today's date",
        "tied parameters": "govern a parameter that several modules share",
        "parameters tied across groups": "give a parameter that lies in several depth groups the least of their shares",
    }
)
"""All that a policy can ask of a gate: names, and what a gate does that enforces them."""

ENFORCED: Final = frozenset(FEATURES) - {"evidence weighting"}
"""The features that the gate of this version enforces; what asks for more is not compiled (AQ322) and not attached."""

ATTRIBUTE_FEATURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "evidence": "evidence weighting",
        "surprisal": "surprisal in conditions",
        "predictive_entropy": "predictive entropy in conditions",
        "phase": "phases",
        "stage": "stages",
        "step": "steps and epochs in conditions",
        "epoch": "steps and epochs in conditions",
        "today": "dates in conditions",
    }
)
"""What it takes to know an attribute that is not in a manifest."""

OBLIGATION_FEATURES: Final[Mapping[ObligationKind, str]] = MappingProxyType(
    {"frequency": "frequency limit", "defer": "deferral", "verify": "verification", "promote": "promotion"}
)

_METERS: Final = MappingProxyType({"movement": "movement budget", "drift": "drift budget"})
_WINDOWS: Final = MappingProxyType({"step": "surprisal per step", "phase": "surprisal per phase"})


def meter_feature(meter: str, window: str) -> str:
    """Return the feature that counts a meter over a window."""
    return _METERS.get(meter) or _WINDOWS.get(window, "surprisal budget")


def refuse_unenforced(requires: Iterable[str]) -> None:
    """Refuse tables that ask for what the gate of this version does not enforce.

    Raises:
        BundleError: They do; the features are named.
    """
    beyond = sorted(set(requires) - ENFORCED)
    if beyond:
        raise BundleError(f"the bundle asks for what the gate of this version does not enforce: {', '.join(beyond)}")
