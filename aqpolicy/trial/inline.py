"""The test cases that a policy itself holds: decided for every observation that they are given, not sampled."""

from __future__ import annotations

from aqpolicy.analysis import CheckSettings, run_cases
from aqpolicy.model.policy import Policy
from aqpolicy.trial.outcome import Outcome


def decide_cases(policy: Policy, settings: CheckSettings) -> tuple[Outcome, ...]:
    """Return what comes of each case; one that was left open has a finding AQ300."""
    results = run_cases(policy, settings)
    return tuple(Outcome(each.case.title, "case", each.case.span, each.findings) for each in results)
