"""Hypothesis strategies for policies and observations; needs `hypothesis` installed.

Use them to property-test your own policy:

    @given(observations(POLICY))
    def test_synthetic_labels_never_reach_the_head(observation): ...

`policy_texts` and `policies` draw well-typed policies, for tools that read or
compile any policy; `observations` draws attributes for one policy, at its cut
points more often than chance would.
"""

from aqpolicy.testing.observations import boundary_values, observations, thresholds
from aqpolicy.testing.policies import policies, policy_texts

__all__ = ["boundary_values", "observations", "policies", "policy_texts", "thresholds"]
