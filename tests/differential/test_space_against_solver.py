"""Bit sets and solver must give the same least witness, or both prove that there is none."""

from __future__ import annotations

from itertools import combinations

from hypothesis import HealthCheck, given, settings

from aqpolicy.analysis import Prover
from aqpolicy.analysis.query import Holds
from aqpolicy.model import All, Any, Condition, Not, Policy
from aqpolicy.space import Space, both, either, opposite
from aqpolicy.testing import policies

MODEST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def guards_of(policy: Policy) -> list[Condition]:
    return [*(rule.when for rule in policy.rules), *(budget.when for budget in policy.budgets)]


def solved(policy: Policy, condition: Condition) -> dict[str, str | int] | None:
    return Prover(policy, solver="z3").witness(Holds(condition))


@MODEST
@given(policies())
def test_guards_and_their_opposites(policy: Policy) -> None:
    space = Space(policy.attributes, guards_of(policy))
    for guard in guards_of(policy):
        assert space.find(space.formula(guard)) == solved(policy, guard)
        assert space.find(opposite(space.formula(guard))) == solved(policy, Not(guard))


@MODEST
@given(policies())
def test_pairs_of_guards(policy: Policy) -> None:
    space = Space(policy.attributes, guards_of(policy))
    for one, other in combinations(guards_of(policy), 2):
        assert space.find(both(space.formula(one), space.formula(other))) == solved(policy, All((one, other)))


@MODEST
@given(policies())
def test_what_all_other_guards_leave_of_one(policy: Policy) -> None:
    guards = guards_of(policy)
    space = Space(policy.attributes, guards)
    for number, guard in enumerate(guards):
        others = [*guards[:number], *guards[number + 1 :]]
        rest = both(space.formula(guard), opposite(either(*(space.formula(other) for other in others))))
        assert space.find(rest) == solved(policy, All((guard, Not(Any(tuple(others))))))


@MODEST
@given(policies())
def test_exactly_one_of_two_guards(policy: Policy) -> None:
    guards = guards_of(policy)
    space = Space(policy.attributes, guards)
    for one, other in combinations(guards, 2):
        a, b = space.formula(one), space.formula(other)
        differs = either(both(a, opposite(b)), both(opposite(a), b))
        assert space.find(differs) == solved(policy, Any((All((one, Not(other))), All((Not(one), other)))))
