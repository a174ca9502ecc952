"""What a frequency limit means: in any M steps in a row, its rule writes each group in at most N of them.

Input: the steps in which a group was written under an obligation; output: whether
it is closed, and the steps after this one. A step counts once, however many
examples wrote in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from aqpolicy.bundle.tables import ObligationTable

Written = Mapping[tuple[int, int], frozenset[int]]
"""Per obligation and group, by position, the numbers of the steps in which it was written."""


def is_closed(obligation: ObligationTable, written: frozenset[int], step: int) -> bool:
    """Say whether the limit is used up in a step, given the steps in which the group was written."""
    updates, steps = _number(obligation, "updates"), _number(obligation, "steps")
    return sum(step - steps + 1 <= at < step for at in written) >= updates


def after_step(written: Written, step: int, pairs: Iterable[tuple[int, int]]) -> Written:
    """Return what is written after a step in which some example was admitted under these obligations and groups."""
    booked = dict(written)
    for pair in pairs:
        booked[pair] = booked.get(pair, frozenset()) | {step}
    return MappingProxyType(booked)


def limited_groups(obligation: ObligationTable) -> tuple[int, ...]:
    """Return the groups that a frequency limit speaks of, by position; none for any other obligation."""
    groups = obligation.parameters.get("groups", ())
    return groups if obligation.kind == "frequency" and isinstance(groups, tuple) else ()


def _number(obligation: ObligationTable, name: str) -> int:
    value = obligation.parameters[name]
    return value if isinstance(value, int) else 0
