"""Movement and drift as the auditor derives them from a book, by hand; lies of every kind."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from support.promises import budget, metered, policy

from aqpolicy.bundle.tables import BudgetTable
from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage import NOT_MEASURED, Book
from aqpolicy.trace.auditing.metering import MARGIN, Metering
from aqpolicy.units import MICRO

BOTH = {"groups": (0, 1)}


def book(proposed: tuple[float, ...] = (3.0, 4.0, 0.0), **changes: Any) -> Book:
    """Return a book in which factors did what they say."""
    factors = changes.pop("factors", (1.0,) * 3)
    moved = tuple(far * factor for far, factor in zip(proposed, factors, strict=True))
    made = Book(
        *(0.1, 0.0, 0.0, 0.0, False, "SGD"),
        movement=moved,
        residual=(0.0,) * 3,
        closed=(False,) * 3,
        denominator=1.0,
        proposed=proposed,
        factors=factors,
        movement_charges=(0,),
        drift_charges=(0,),
    )
    return replace(made, **changes)


def check(one: BudgetTable, *books: Book, concerned: bool = True) -> Metering:
    metering = Metering(policy([one]))
    for each in books:
        metering.check(each, [concerned])
    return metering


def test_groups_move_together_and_the_room_shrinks() -> None:
    one = metered("movement", 12.0, window="run", **BOTH)
    fits = book(movement_charges=(5 * MICRO,))
    assert check(one, fits, fits).movement[0].room == 2 * MICRO
    with pytest.raises(CorruptLogError, match="group `a` has factor 1, its budgets leave 0"):
        check(one, fits, fits, fits)
    check(one, fits, fits, book(factors=(0.0, 0.0, 1.0)))


def test_windows_are_given_back() -> None:
    one = budget("b", (0,), "deny", [("movement", "epoch", 3 * MICRO), ("movement", "phase", 5 * MICRO)])
    metering = check(one, book(movement_charges=(3 * MICRO,)))
    metering.start("epoch")
    metering.check(book(factors=(0.0, 1.0, 1.0)), [True])
    metering.start("phase")
    metering.check(book(movement_charges=(3 * MICRO,)), [True])


def test_a_budget_that_is_not_concerned_neither_counts_nor_judges() -> None:
    one = metered("movement", 0.0)
    check(one, book(), concerned=False)
    with pytest.raises(CorruptLogError, match="the movement charged to budget `movement deny` is 1 in the log and 0"):
        check(one, book(movement_charges=(1,)), concerned=False)


def attenuated(halvings: int = 0) -> Book:
    factor = 2 * MICRO / (5.0 * MICRO) * MARGIN * 0.5**halvings
    moved = math.sqrt((3 * factor) * (3 * factor) + (4 * factor) * (4 * factor))
    return book(factors=(factor, factor, 1.0), movement_charges=(math.ceil(moved * MICRO),))


@pytest.mark.parametrize("halvings", [0, 1, 8])
def test_an_attenuated_movement_is_cut_to_its_room_and_perhaps_halved(halvings: int) -> None:
    check(metered("movement", 2.0, on_exhaust="attenuate", **BOTH), attenuated(halvings))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"movement_charges": (1,)}, "is 1 in the log and 199999"),
        ({"factors": (0.41, 0.41, 1.0)}, "group `a` has factor 0.41, its budgets leave 0.4"),
        ({"factors": (0.3, 0.3, 1.0)}, "group `a` has factor 0.3, no budget asks for less"),
        ({"factors": (0.4 * MARGIN, 0.4 * MARGIN, 0.5)}, "group `c` has factor 0.5, no budget asks for less than 1"),
        ({"movement": (1.0, -1.0, 0.0)}, "how far group `b` moved is no number"),
    ],
    ids=str,
)
def test_a_lie_about_an_attenuated_movement_is_found(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CorruptLogError, match=message):
        check(metered("movement", 2.0, on_exhaust="attenuate", **BOTH), replace(attenuated(), **change))


def test_a_group_that_was_put_back_did_not_move() -> None:
    lie = replace(book(factors=(0.0, 0.0, 1.0)), movement=(0.1, 0.0, 0.0))
    with pytest.raises(CorruptLogError, match=r"group `a` moved by 0\.1 of 3 under factor 0"):
        check(metered("movement", 1.0, **BOTH), lie)


def test_a_charge_beyond_the_room_is_overspending() -> None:
    small = book((0.5, 0.0, 0.0), movement_charges=(500_000,))
    one = metered("movement", 0.75, window="epoch")
    swollen = replace(small, movement=(0.75, 0.0, 0.0), factors=(0.5, 1.0, 1.0), proposed=(2.0, 0.0, 0.0))
    with pytest.raises(CorruptLogError):
        check(one, small, replace(swollen, movement_charges=(750_000,)))


def test_a_movement_that_halts_puts_everything_back() -> None:
    one = metered("movement", 1.0, on_exhaust="halt")
    assert check(one, book(factors=(0.0,) * 3)).halted == "movement halt"
    with pytest.raises(CorruptLogError, match="group `b` has factor 1, its budgets leave 0"):
        check(one, book(factors=(0.0, 1.0, 1.0)))


def drifting(drift: tuple[float, ...] = (0.25, 0.5, NOT_MEASURED), charge: int = 500_000, **changes: Any) -> Book:
    return book(drift=drift, drift_charges=(charge,), **changes)


def test_drift_is_the_largest_of_the_groups_and_adds_up() -> None:
    one = metered("drift", 1.25, window="run", **BOTH)
    assert check(one, drifting(), drifting()).drift[0].room == 250_000
    with pytest.raises(CorruptLogError, match="the drift of budget `drift deny` is overspent"):
        check(one, drifting(), drifting(), drifting())


@pytest.mark.parametrize("factors", [(0.0, 0.0, 1.0), (0.0,) * 3])
def test_a_drift_budget_may_put_its_groups_back_or_the_whole_step(factors: tuple[float, ...]) -> None:
    check(metered("drift", 1.0, **BOTH), drifting((0.0, 0.0, NOT_MEASURED), 0, factors=factors))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: drifting((NOT_MEASURED,) * 3, 0), "the drift that budget `drift attenuate` counts was not measured"),
        (lambda: drifting(charge=499_999), "is 499999 in the log and 500000"),
        (lambda: drifting(factors=(0.3, 0.3, 1.0)), "no budget asks for less"),
        (lambda: drifting(factors=(0.5, 0.5, 0.5)), "group `c` has factor 0.5"),
    ],
)
def test_a_lie_about_drift_is_found(made: Any, message: str) -> None:
    one = metered("drift", 1.0, on_exhaust="attenuate", **BOTH)
    check(one, drifting(factors=(0.25, 0.25, 1.0)))
    with pytest.raises(CorruptLogError, match=message):
        check(one, made())
