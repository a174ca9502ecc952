"""The least that one update can be charged to a budget."""

from __future__ import annotations

from bisect import bisect_left

from aqpolicy.analysis.prover import Prover
from aqpolicy.analysis.query import And, Holds, charged_over
from aqpolicy.analysis.reading import amounts, linear_limits
from aqpolicy.model.policy import Atom, Budget, Numeric, Policy
from aqpolicy.space.partition import comparisons
from aqpolicy.units import MICRO

_SURPRISAL = "surprisal"


def least_charge(prover: Prover, budget: Budget) -> int:
    """Return a number of micro-nats that no charge to a budget is below.

    It is above 0 only where conditions bound `surprisal` from below: the least
    surprisal of all observations that are charged, times the least share.
    """
    policy = prover.policies[0]
    shares = _shares(policy, budget)
    surprisal = _least_surprisal(prover, policy, budget)
    return -(-surprisal * min(shares) // MICRO) if shares else 0


def _shares(policy: Policy, budget: Budget) -> list[int]:
    """Return shares above 0 that a covered group can get; a linear limit may leave any."""
    if any(linear_limits(policy, group) for group in budget.groups):
        return [1]
    return [share for group in budget.groups for share in amounts(policy, group) if share > 0]


def _least_surprisal(prover: Prover, policy: Policy, budget: Budget) -> int:
    """Return the least surprisal among observations that are charged; 0 where no condition speaks of it."""
    attribute = next((a for a in policy.derived if a.name == _SURPRISAL), None)
    if attribute is None or not isinstance(attribute.type, Numeric):
        return 0
    found = (atom for rule in policy.rules for atom in comparisons(rule.when))
    scope = comparisons(budget.when)
    starts = {int(a.value) + offset for a in (*found, *scope) if a.attribute == _SURPRISAL for offset in (0, 1)}
    steps = sorted({attribute.type.low} | {start for start in starts if start <= attribute.type.high})

    def charged_at_most(step: int) -> bool:
        return prover.possible(And((charged_over(budget, 0), Holds(Atom(_SURPRISAL, "<=", step, budget.span)))))

    prover.learn([Holds(Atom(_SURPRISAL, "<=", step, budget.span)) for step in steps])
    position = bisect_left(steps, True, key=charged_at_most)
    return steps[position] if position < len(steps) else 0
