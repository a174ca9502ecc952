"""Laws of the bit sets, held against the evaluator: what is found holds, is least, and None means nothing holds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from aqpolicy.model import Category, Condition, Numeric, Policy
from aqpolicy.semantics import holds
from aqpolicy.space import Formula, Region, Space, both, either, opposite
from aqpolicy.space.partition import comparisons
from aqpolicy.testing import observations, policies, thresholds

MODEST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

Observation = Mapping[str, str | int]

LARGEST_ENUMERATION = 4000


@dataclass(frozen=True)
class Asked:
    """One question twice: for the space, and for the evaluator."""

    formula: Formula
    true_of: Callable[[Observation], bool]


def guards_of(policy: Policy) -> list[Condition]:
    return [*(rule.when for rule in policy.rules), *(budget.when for budget in policy.budgets)]


def drawn_question(data: st.DataObject, policy: Policy, space: Space) -> Asked:
    atoms = [Asked(space.formula(when), lambda o, when=when: holds(when, o)) for when in guards_of(policy)]
    leaves = st.sampled_from(atoms)
    return data.draw(st.recursive(leaves, _combined, max_leaves=6))


def _combined(inner: st.SearchStrategy[Asked]) -> st.SearchStrategy[Asked]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        inner.map(lambda one: Asked(opposite(one.formula), lambda o: not one.true_of(o))),
        several.map(
            lambda all_of: Asked(both(*(a.formula for a in all_of)), lambda o: all(a.true_of(o) for a in all_of))
        ),
        several.map(
            lambda any_of: Asked(either(*(a.formula for a in any_of)), lambda o: any(a.true_of(o) for a in any_of))
        ),
    )


def place(policy: Policy, observation: Observation) -> tuple[int, ...]:
    """Return where an observation stands in the order in which witnesses are least."""
    return tuple(
        attribute.type.values.index(str(observation[attribute.name]))
        if isinstance(attribute.type, Category)
        else int(observation[attribute.name])
        for attribute in policy.attributes
    )


def enumerated(policy: Policy) -> Iterator[Observation]:
    """Return one observation for every way in which conditions can tell observations apart, ascending."""
    compared = {atom.attribute for when in guards_of(policy) for atom in comparisons(when)}
    cuts = thresholds(policy)
    columns: list[list[str | int]] = []
    for attribute in policy.attributes:
        kind = attribute.type
        if isinstance(kind, Category):
            values: list[str | int] = list(kind.values)
        else:
            around = {cut + offset for cut in cuts[attribute.name] for offset in (0, kind.step)}
            values = sorted(value for value in {kind.low, *around} if kind.low <= value <= kind.high)
        columns.append(values if attribute.name in compared else values[:1])
    assume(prod(len(column) for column in columns) <= LARGEST_ENUMERATION)
    names = [attribute.name for attribute in policy.attributes]
    return (dict(zip(names, values, strict=True)) for values in product(*columns))


def is_inside(region: Region, observation: Observation) -> bool:
    for part, allowed in zip(region.partitions, region.allowed, strict=True):
        value = observation[part.attribute.name]
        numeric = isinstance(part.attribute.type, Numeric)
        interval = bisect_right(part.lowest, value) - 1 if numeric else part.lowest.index(value)
        if not allowed >> interval & 1:
            return False
    return True


@MODEST
@given(st.data())
def test_the_first_of_all_observations_that_satisfy_a_question_is_found(data: st.DataObject) -> None:
    policy = data.draw(policies())
    space = Space(policy.attributes, guards_of(policy))
    asked = drawn_question(data, policy, space)
    assert space.find(asked.formula) == next((o for o in enumerated(policy) if asked.true_of(o)), None)


@MODEST
@given(st.data())
def test_no_observation_that_satisfies_a_question_comes_before_what_is_found(data: st.DataObject) -> None:
    policy = data.draw(policies())
    space = Space(policy.attributes, guards_of(policy))
    asked = drawn_question(data, policy, space)
    found = space.find(asked.formula)
    assert found is None or asked.true_of(found)
    assert space.possible(asked.formula) is (found is not None)
    for observation in data.draw(st.lists(observations(policy), min_size=1, max_size=6)):
        if asked.true_of(observation):
            assert found is not None
            assert place(policy, found) <= place(policy, observation)


@MODEST
@given(policies())
def test_overlaps_are_the_pairs_that_can_hold_together(policy: Policy) -> None:
    guards = guards_of(policy)
    space = Space(policy.attributes, guards)
    rows = space.overlapping([space.mask(guard) for guard in guards])
    for one, row in zip(guards, rows, strict=True):
        together = [space.possible(both(space.formula(one), space.formula(other))) for other in guards]
        assert [bool(row >> number & 1) for number in range(len(guards))] == together
        assert row >> len(guards) == 0


@MODEST
@given(st.data())
def test_regions_hold_what_satisfies_a_question_and_nothing_else(data: st.DataObject) -> None:
    policy = data.draw(policies())
    space = Space(policy.attributes, guards_of(policy))
    asked = drawn_question(data, policy, space)
    found = list(space.regions(asked.formula, 30))
    assert [region.witness for region in found[:1]] == [w for w in [space.find(asked.formula)] if w is not None]
    places = [place(policy, region.witness) for region in found]
    assert places == sorted(set(places))
    for observation in data.draw(st.lists(observations(policy), min_size=1, max_size=6)):
        inside = any(is_inside(region, observation) for region in found)
        assert asked.true_of(observation) or not inside
        assert inside or not asked.true_of(observation) or len(found) == 30


@MODEST
@given(st.data())
def test_a_projection_holds_where_some_values_of_the_named_attributes_do(data: st.DataObject) -> None:
    policy = data.draw(policies())
    guard = data.draw(st.sampled_from(guards_of(policy)))
    names = frozenset(data.draw(st.sets(st.sampled_from([a.name for a in policy.attributes]), max_size=2)))
    space = Space(policy.attributes, guards_of(policy), [(guard, names)])
    projected = space.projected(guard, names)
    assert not space.possible(both(space.formula(guard), opposite(projected)))
    all_of_them = list(enumerated(policy))
    kept = [a.name for a in policy.attributes if a.name not in names]
    reached = {tuple(o[name] for name in kept) for o in all_of_them if holds(guard, o)}
    first = next((o for o in all_of_them if tuple(o[name] for name in kept) not in reached), None)
    assert space.find(opposite(projected)) == first
