"""Draw observations that fit a policy's taxonomy, with the edges of its conditions in mind."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st

from aqpolicy.model import (
    Admitted,
    Atom,
    Attribute,
    Category,
    Charged,
    Condition,
    Defer,
    Never,
    Not,
    Numeric,
    Policy,
)


def observations(policy: Policy) -> st.SearchStrategy[dict[str, str | int]]:
    """Draw values for all attributes of a policy: names for categories, integer millionths for numbers."""
    cuts = thresholds(policy)
    return st.fixed_dictionaries(
        {attribute.name: _values(attribute, cuts[attribute.name]) for attribute in policy.attributes}
    )


def thresholds(policy: Policy) -> dict[str, frozenset[int]]:
    """Return for each attribute the numbers that conditions of the policy compare it with."""
    found: dict[str, set[int]] = {attribute.name: set() for attribute in policy.attributes}
    for condition in _conditions(policy):
        for atom in _atoms(condition):
            if isinstance(atom.value, int):
                found[atom.attribute].add(atom.value)
    return {name: frozenset(values) for name, values in found.items()}


def _conditions(policy: Policy) -> Iterator[Condition]:
    yield from (rule.when for rule in policy.rules)
    yield from (budget.when for budget in policy.budgets)
    yield from (obligation.until for _, obligation in policy.obligations if isinstance(obligation, Defer))
    yield from (proof.never for proof in policy.proofs if isinstance(proof, Never))
    yield from (case.given for case in policy.cases)


def boundary_values(kind: Numeric, cuts: frozenset[int]) -> tuple[int, ...]:
    """Return the ends of a range and, for each cut, the values at it and next to it."""
    near = {cut + offset for cut in cuts for offset in (-kind.step, 0, kind.step)}
    return tuple(sorted(value for value in near | {kind.low, kind.high} if kind.low <= value <= kind.high))


def _values(attribute: Attribute, cuts: frozenset[int]) -> st.SearchStrategy[str | int]:
    if isinstance(attribute.type, Category):
        return st.sampled_from(attribute.type.values)
    kind = attribute.type
    inside = st.integers(kind.low // kind.step, kind.high // kind.step).map(lambda count: count * kind.step)
    return st.one_of(st.sampled_from(boundary_values(kind, cuts)), inside)


def _atoms(condition: Condition) -> Iterator[Atom]:
    if isinstance(condition, Atom):
        yield condition
    elif isinstance(condition, Not):
        yield from _atoms(condition.term)
    elif not isinstance(condition, Admitted | Charged):
        for term in condition.terms:
            yield from _atoms(term)
