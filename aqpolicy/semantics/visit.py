"""What a visit is, and what its row and the limits of the run leave of it before budgets are asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from aqpolicy.bundle.tables import ERROR_ROW, Tables, linear_limit
from aqpolicy.semantics.frequency import Written, is_closed, limited_groups
from aqpolicy.semantics.reasons import Reason
from aqpolicy.semantics.state import RunState
from aqpolicy.units import MICRO


@dataclass(frozen=True, slots=True)
class Visit:
    """One example in one step.

    `surprisal` and `entropy` are micro-nats, rounded up and clipped; None where the loss is not
    finite, or the entropy is not known. `broken` names the groups in which its gradient is not finite.
    """

    key: bytes
    attributes: Mapping[str, object]
    surprisal: int | None
    entropy: int | None = None
    known: bool = True
    refused: bool = False
    broken: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Decided:
    """A visit before budgets: its row, and what its limits leave.

    Shapes:
        shares (g), reasons (g), charged (number of budgets).
    """

    route: int
    shares: tuple[int, ...]
    reasons: tuple[Reason, ...]
    charged: tuple[int, ...]


def nats_up(amount: float, largest: int) -> int | None:
    """Return nats in millionths, rounded up and clipped to 0 and the largest; None where they are not finite."""
    if not math.isfinite(amount):
        return None
    return min(max(math.ceil(Fraction(amount) * MICRO), 0), largest)


def decide(tables: Tables, state: RunState, visit: Visit, written: Written, held: frozenset[int]) -> Decided:
    """Return a visit's row, and its shares after linear limits, frequency limits and what is held.

    Args:
        tables: The tables.
        state: The state of the run.
        visit: The visit.
        written: In which steps frequency limits were used.
        held: Verifications whose updates are held, by position.
    """
    route, attributes = row_of(tables, state, visit), _attributes(tables, state, visit)
    row = tables.rows[route]
    left = [(share, Reason.TABLE) for share in row.shares]
    for group, position, intercept, slope in row.linear:
        value = attributes[tables.attributes[position].name]
        if isinstance(value, int):  # no other selects a row but the error row
            _lower(left, group, linear_limit(intercept, slope, value), Reason.LINEAR)
    for number in row.obligations:
        obligation = tables.obligations[number]
        for group in limited_groups(obligation):
            if is_closed(obligation, written.get((number, group), frozenset()), state.step):
                _lower(left, group, 0, Reason.FREQUENCY)
    if not held.isdisjoint(row.obligations):
        for group in range(len(left)):
            _lower(left, group, 0, Reason.HELD)
    shares = tuple(share for share, _ in left)
    charged = tuple(
        max((shares[g] for g in budget.groups), default=0) if cost > 0 else 0
        for budget, cost in zip(tables.budgets, row.charged, strict=True)
    )
    return Decided(route, shares, tuple(reason for _, reason in left), charged)


def row_of(tables: Tables, state: RunState, visit: Visit) -> int:
    """Return the row that a visit selects, by number."""
    if visit.refused or not visit.known:
        return ERROR_ROW
    return tables.row_of(_attributes(tables, state, visit))


def _attributes(tables: Tables, state: RunState, visit: Visit) -> Mapping[str, object]:
    """Return what a visit is decided by: its own attributes, and those of the run that the tables ask for."""
    given = {"surprisal": visit.surprisal, "predictive_entropy": visit.entropy, **state.attributes}
    of_run = {table.name: given.get(table.name) for table in tables.attributes if table.origin == "run"}
    return {**visit.attributes, **of_run}


def _lower(left: list[tuple[int, Reason]], group: int, limit: int, reason: Reason) -> None:
    if limit < left[group][0]:
        left[group] = (limit, reason)
