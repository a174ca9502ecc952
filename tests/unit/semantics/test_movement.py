"""The meaning of movement and drift budgets, one number at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import pytest

from aqpolicy.bundle.tables import NO_LIMIT, BudgetTable
from aqpolicy.semantics.movement import Factors, Settled, booked, micro_up, nothing_metered, renew, room_of, settle

MICRO = 1_000_000
Exhaust = Literal["deny", "defer", "attenuate", "halt"]


def budget(
    on_exhaust: Exhaust,
    groups: tuple[int, ...] = (0, 1),
    limit: int = MICRO,
    window: str = "step",
    meter: str = "movement",
) -> BudgetTable:
    none = NO_LIMIT
    return BudgetTable(f"{meter} {on_exhaust}", groups, none, none, none, none, on_exhaust, ((meter, window, limit),))


def settled(
    budgets: Sequence[BudgetTable],
    far: Sequence[float],
    deep: Sequence[float] | None = None,
    *,
    swell: float = 1.0,
) -> Settled:
    """Settle one step; with `swell` a step that is scaled moves further than its factor says."""

    def movement(factors: Factors) -> list[float]:
        return [
            way * factor * (1.0 if factor in (0.0, 1.0) else swell) for way, factor in zip(far, factors, strict=True)
        ]

    def drift(factors: Factors) -> list[float]:
        return [way * factor for way, factor in zip(deep or far, factors, strict=True)]

    concerned = [True] * len(budgets)
    ledger = nothing_metered(budgets)
    return settle(budgets, ledger, concerned, len(far), movement, None if deep is None else drift)


def test_what_fits_moves_as_the_optimizer_moved_it() -> None:
    done = settled([budget("deny")], (0.6, 0.8))
    assert (done.factors, done.movement_charges) == ((1.0, 1.0), (micro_up(1.0),))


def test_groups_of_a_budget_are_measured_together() -> None:
    assert settled([budget("deny")], (0.8, 0.8)).factors == (0.0, 0.0)
    assert settled([budget("deny", (0,))], (0.8, 0.8)).factors == (1.0, 1.0)


@pytest.mark.parametrize("on_exhaust", ["deny", "defer"])
def test_what_does_not_fit_is_put_back_and_costs_nothing(on_exhaust: Exhaust) -> None:
    done = settled([budget(on_exhaust, (0,))], (2.0, 3.0))
    assert (done.factors, done.movement, done.movement_charges) == ((0.0, 1.0), (0.0, 3.0), (0,))


def test_attenuation_scales_to_the_room_and_never_beyond() -> None:
    done = settled([budget("attenuate")], (3.0, 4.0))
    assert done.factors == pytest.approx((0.2, 0.2), rel=2e-6)
    assert MICRO - 2 <= done.movement_charges[0] <= MICRO


def test_a_scaled_step_that_still_does_not_fit_is_halved_and_at_last_put_back() -> None:
    assert settled([budget("attenuate")], (3.0, 4.0), swell=3.0).factors == pytest.approx((0.05, 0.05), rel=1e-5)
    assert settled([budget("attenuate")], (3.0, 4.0), swell=1000.0).factors == (0.0, 0.0)


def test_a_group_takes_the_least_that_any_budget_leaves_it() -> None:
    both = [budget("attenuate", (0, 1)), budget("deny", (1,), limit=MICRO // 2)]
    first, second = settled(both, (3.0, 4.0)).factors
    assert (round(first, 4), second) == (0.2, 0.0)


def test_a_halt_takes_nothing_and_names_the_budget() -> None:
    done = settled([budget("attenuate"), budget("halt")], (3.0, 4.0))
    assert (done.halted, done.factors, done.movement_charges) == ("movement halt", (0.0, 0.0), (0, 0))


@pytest.mark.parametrize("far", [math.inf, math.nan])
def test_a_movement_that_is_not_finite_never_fits(far: float) -> None:
    def movement(factors: Factors) -> list[float]:
        return [far if factors[0] else 0.0]

    limit = [budget("attenuate", (0,))]
    assert settle(limit, nothing_metered(limit), [True], 1, movement).factors == (0.0,)


def test_a_budget_that_is_not_concerned_neither_judges_nor_charges() -> None:
    limit = [budget("halt")]
    done = settle(limit, nothing_metered(limit), [False], 2, lambda factors: [9.0 * factor for factor in factors])
    assert (done.halted, done.factors, done.movement_charges) == ("", (1.0, 1.0), (0,))


def test_windows_add_up_and_are_given_back() -> None:
    owned = [budget("deny", window="epoch"), budget("deny", window="phase"), budget("deny", window="run")]
    ledger = booked(nothing_metered(owned), settled(owned, (0.3, 0.4)))
    rooms = [room_of(*pair) for pair in zip(owned, ["movement"] * 3, ledger.movement, strict=True)]  # type: ignore[arg-type]
    assert rooms == [MICRO // 2] * 3
    fresh = renew(ledger, "epoch")
    assert room_of(owned[0], "movement", fresh.movement[0]) == MICRO
    assert room_of(owned[1], "movement", fresh.movement[1]) == MICRO // 2
    assert room_of(owned[0], "drift", fresh.drift[0]) is None


def test_the_largest_drift_of_the_covered_groups_counts() -> None:
    done = settled([budget("deny", meter="drift")], (0.0, 0.0), (0.25, 0.5))
    assert (done.factors, done.drift_charges) == ((1.0, 1.0), (500_000,))


def test_drift_is_halved_up_to_four_times_and_then_put_back() -> None:
    attenuate = [budget("attenuate", meter="drift")]
    assert settled(attenuate, (0.0, 0.0), (16.0, 1.0)).factors == (1 / 16, 1 / 16)
    assert settled(attenuate, (0.0, 0.0), (17.0, 1.0)).factors == (0.0, 0.0)
    assert settled([budget("deny", meter="drift")], (0.0, 0.0), (2.0, 1.0)).factors == (0.0, 0.0)
    assert settled([budget("halt", meter="drift")], (0.0, 0.0), (2.0, 1.0)).halted == "drift halt"


def test_every_group_is_put_back_where_the_covered_ones_are_not_enough() -> None:
    limit = [budget("deny", (1,), meter="drift")]

    def drift(factors: Factors) -> list[float]:
        return [0.0, 5.0 * factors[0] + factors[1]]  # the group before moves its output too

    done = settle(limit, nothing_metered(limit), [True], 2, lambda factors: [f * 1.0 for f in factors], drift)
    assert (done.factors, done.drift_charges) == ((0.0, 0.0), (0,))


def test_movement_is_charged_as_it_is_after_drift_has_been_settled() -> None:
    both = [budget("deny", limit=9 * MICRO), budget("attenuate", meter="drift")]
    done = settled(both, (3.0, 4.0), (2.0, 2.0))
    assert (done.factors, done.movement_charges, done.drift_charges) == ((0.5, 0.5), (2_500_000, 0), (0, MICRO))
