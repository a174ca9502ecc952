"""Movement and drift budgets: what a step may keep, what it is charged, and that nothing is ever overspent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.promises import GROUPS, Fake, budget, metered, metered_budgets
from support.promises import policy as tables_of

from aqpolicy.bundle.tables import BudgetTable, Tables
from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.motion.meters import Meters
from aqpolicy.units import MICRO


def policy(*budgets: BudgetTable) -> Tables:
    return tables_of(budgets)


def test_a_movement_that_fits_is_left_alone_and_charged_rounded_up() -> None:
    meters, change = Meters(policy(metered("movement", 3.0, groups=(0, 1)))), Fake((1.0, 2.0**0.5, 5.0))
    ruling = meters.settle(change, [True])
    assert ruling.factors == (1.0, 1.0, 1.0)
    assert ruling.movement_charges == (math.ceil(3**0.5 * MICRO),)
    assert change.applied == []
    assert ruling.drift is None
    assert not ruling.halted


def test_exactly_the_limit_fits() -> None:
    ruling = Meters(policy(metered("movement", 1.0))).settle(Fake(), [True])
    assert ruling.factors == (1.0, 1.0, 1.0)
    assert ruling.movement_charges == (MICRO,)


@pytest.mark.parametrize("on_exhaust", ["deny", "defer"])
def test_what_does_not_fit_is_put_back(on_exhaust: str) -> None:
    meters, change = Meters(policy(metered("movement", 0.999999, groups=(0, 2), on_exhaust=on_exhaust))), Fake()
    ruling = meters.settle(change, [True])
    assert ruling.factors == change.factors == (0.0, 1.0, 0.0)
    assert ruling.movement == (0.0, 1.0, 0.0)
    assert ruling.movement_charges == (0,)


def test_attenuated_movement_uses_nearly_all_of_the_room() -> None:
    meters = Meters(policy(metered("movement", 0.3, groups=(0, 1), on_exhaust="attenuate")))
    ruling = meters.settle(Fake((3.0, 4.0, 9.0)), [True])
    assert ruling.factors[0] == ruling.factors[1] < 0.06
    assert ruling.factors[2] == 1.0
    assert 299_998 <= ruling.movement_charges[0] <= 300_000


def test_a_movement_that_swells_when_scaled_is_halved_until_it_fits() -> None:
    meters = Meters(policy(metered("movement", 0.3, on_exhaust="attenuate")))
    ruling = meters.settle(Fake(swells=3.0), [True])
    assert 0.07 < ruling.factors[0] < 0.08
    assert ruling.movement_charges[0] <= 300_000
    never = meters.settle(Fake(swells=1e9), [True])
    assert never.factors == (0.0, 1.0, 1.0)
    assert never.movement_charges == (0,)


def test_a_budget_without_room_closes_its_groups() -> None:
    ruling = Meters(policy(metered("movement", 0.0, on_exhaust="attenuate"))).settle(Fake(), [True])
    assert ruling.factors == (0.0, 1.0, 1.0)
    still = Meters(policy(metered("movement", 0.0, on_exhaust="halt"))).settle(Fake((0.0, 1.0, 1.0)), [True])
    assert not still.halted


@pytest.mark.parametrize("meter", ["movement", "drift"])
def test_a_budget_that_halts_takes_the_whole_step_back_and_charges_nothing(meter: str) -> None:
    roomy = metered("movement", 9.0, groups=(1,))
    meters = Meters(policy(roomy, metered(meter, 0.5, on_exhaust="halt")))
    ruling = meters.settle(Fake(), [True, True])
    assert ruling.halted == f"{meter} halt"
    assert ruling.factors == ruling.movement == (0.0, 0.0, 0.0)
    assert ruling.movement_charges == ruling.drift_charges == (0, 0)


def test_budgets_judge_one_measurement_and_a_group_takes_the_least() -> None:
    tight = metered("movement", 0.5, groups=(0, 1), on_exhaust="attenuate")
    loose = metered("movement", 1.0, groups=(1, 2), on_exhaust="attenuate")
    ruling = Meters(policy(tight, loose)).settle(Fake(), [True, True])
    # Measured one after the other, the second budget would find room for group 2.
    assert ruling.factors == pytest.approx((0.5 / 2**0.5, 0.5 / 2**0.5, 1 / 2**0.5), rel=1e-5)


def test_a_budget_that_no_admitted_update_concerns_has_no_say_and_no_charge() -> None:
    meters = Meters(policy(metered("movement", 0.0), metered("drift", 0.0)))
    change = Fake()
    ruling = meters.settle(change, [False, False])
    assert ruling.factors == (1.0, 1.0, 1.0)
    assert ruling.movement_charges == ruling.drift_charges == (0, 0)
    assert change.drifts_measured == 0
    assert not meters.watches("drift", [True, False])
    assert meters.watches("drift", [False, True])
    assert meters.drifting_groups == {0}


def test_drift_is_charged_as_measured_and_the_largest_counts() -> None:
    meters = Meters(policy(metered("drift", 1.0, groups=(0, 1))))
    ruling = meters.settle(Fake(deep=lambda _: (0.1, 0.25, 7.0)), [True])
    assert ruling.drift_charges == (250_000,)
    assert ruling.drift == (0.1, 0.25, 7.0)
    assert ruling.movement_charges == (0,)


def test_attenuated_drift_is_halved_and_measured_again() -> None:
    meters = Meters(policy(metered("drift", 0.2, on_exhaust="attenuate")))
    change = Fake()
    ruling = meters.settle(change, [True])
    assert ruling.factors == (0.125, 1.0, 1.0)
    assert ruling.drift_charges == (125_000,)
    assert change.drifts_measured == 4
    assert meters.settle(Fake(), [True]).movement == (0.125, 1.0, 1.0)


def test_drift_that_four_halvings_do_not_cure_puts_the_groups_back() -> None:
    meters = Meters(policy(metered("drift", 0.05, on_exhaust="attenuate")))
    assert meters.settle(Fake(), [True]).factors == (0.0, 1.0, 1.0)


@pytest.mark.parametrize("on_exhaust", ["deny", "defer", "attenuate"])
def test_drift_that_earlier_groups_cause_puts_every_group_back(on_exhaust: str) -> None:
    meters = Meters(policy(metered("drift", 0.5, groups=(2,), on_exhaust=on_exhaust)))
    change = Fake(deep=lambda factors: (0.0, 0.0, max(factors)))
    ruling = meters.settle(change, [True])
    assert ruling.factors == ruling.drift == (0.0, 0.0, 0.0)
    assert ruling.drift_charges == (0,)


def test_denied_drift_puts_back_the_covered_groups_first() -> None:
    ruling = Meters(policy(metered("drift", 0.5, groups=(1,)))).settle(Fake(), [True])
    assert ruling.factors == (1.0, 0.0, 1.0)


def test_movement_is_charged_after_what_drift_took() -> None:
    both = budget(
        "both", (0,), meters=(("drift", "step", MICRO // 2), ("movement", "step", MICRO)), on_exhaust="attenuate"
    )
    ruling = Meters(policy(both)).settle(Fake(), [True])
    assert ruling.factors[0] == 0.5
    assert ruling.movement_charges == ruling.drift_charges == (500_000,)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_is_not_finite_never_fits(wrong: float) -> None:
    far = Meters(policy(metered("movement", 1e9, on_exhaust="attenuate")))

    class Broken(Fake):
        def movement(self) -> list[float]:
            return [wrong if self.factors[0] else 0.0, 1.0, 1.0]

        def drift(self) -> list[float]:
            return [wrong if self.factors[0] else 0.0, 0.0, 0.0]

    assert far.settle(Broken(), [True]).factors == (0.0, 1.0, 1.0)
    deep = Meters(policy(metered("drift", 1e9, on_exhaust="attenuate")))
    assert deep.settle(Broken(), [True]).factors == (0.0, 1.0, 1.0)


def test_windows_open_again_each_in_its_own_time() -> None:
    limits = tuple(("movement", window, 10 * MICRO) for window in ("epoch", "phase", "run", "step"))
    meters = Meters(policy(budget("all", (0,), meters=limits)))

    def spent() -> dict[str, int]:
        return {account.window: account.spent // MICRO for account in meters.accounts}

    for _ in range(2):
        meters.book(meters.settle(Fake(), [True]))
    assert spent() == {"epoch": 2, "phase": 2, "run": 2, "step": 0}
    meters.start_epoch()
    meters.book(meters.settle(Fake(), [True]))
    assert spent() == {"epoch": 1, "phase": 3, "run": 3, "step": 0}
    meters.start_phase()
    assert spent() == {"epoch": 1, "phase": 0, "run": 3, "step": 0}


def test_the_tightest_window_decides() -> None:
    limits = (("movement", "epoch", 2 * MICRO), ("movement", "run", 3 * MICRO))
    meters = Meters(policy(budget("all", (0,), meters=limits)))
    taken = []
    for step in range(6):
        if step == 3:
            meters.start_epoch()
        ruling = meters.settle(Fake(), [True])
        meters.book(ruling)
        taken.append(ruling.factors[0])
    assert taken == [1, 1, 0, 1, 0, 0]


def test_settling_books_nothing() -> None:
    meters = Meters(policy(metered("movement", 9.0, window="run")))
    meters.settle(Fake(), [True])
    assert meters.accounts[0].spent == 0
    assert meters.accounts[0].room == 9 * MICRO


def test_a_saved_state_goes_on_and_one_of_other_budgets_is_refused() -> None:
    meters = Meters(policy(metered("movement", 9.0, window="run")))
    meters.book(meters.settle(Fake(), [True]))
    again = Meters(policy(metered("movement", 9.0, window="run")))
    again.load_state_dict(meters.state_dict())
    assert again.accounts == meters.accounts
    for other in ({}, meters.state_dict() | {"spent": [10 * MICRO]}, meters.state_dict() | {"spent": [-1]}):
        with pytest.raises(IllegalTrainingSetupError, match="the saved state"):
            again.load_state_dict(other)
    with pytest.raises(IllegalTrainingSetupError, match="other movement and drift budgets"):
        Meters(policy(metered("movement", 8.0, window="run"))).load_state_dict(meters.state_dict())


def test_a_policy_without_such_budgets_measures_movement_only() -> None:
    meters, change = Meters(policy(budget("plain", (0,)))), Fake()
    assert not meters.active
    ruling = meters.settle(change, [True])
    assert ruling.movement == (1.0, 1.0, 1.0)
    assert ruling.drift is None
    assert change.applied == []


amounts = st.one_of(st.sampled_from([0.0, 1e-6, 0.5, 1.0]), st.floats(0.0, 3.0))


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_no_budget_is_ever_overspent_whatever_the_steps_do(data: st.DataObject) -> None:
    budgets = data.draw(metered_budgets())
    meters = Meters(policy(*budgets))
    total = {}
    for _ in range(data.draw(st.integers(1, 6))):
        far = data.draw(st.lists(amounts, min_size=GROUPS, max_size=GROUPS))
        mixing = data.draw(
            st.lists(st.lists(amounts, min_size=GROUPS, max_size=GROUPS), min_size=GROUPS, max_size=GROUPS)
        )

        def deep(factors: Sequence[float], mixing: Sequence[Sequence[float]] = mixing) -> list[float]:
            return [abs(sum(m * f for m, f in zip(row, factors, strict=True))) for row in mixing]

        change = Fake(far, deep, data.draw(st.sampled_from([1.0, 1.0, 1.5, 1e6])))
        concerned = data.draw(st.lists(st.booleans(), min_size=len(budgets), max_size=len(budgets)))
        ruling = meters.settle(change, concerned)
        meters.book(ruling)
        assert ruling.factors == change.factors
        assert list(ruling.movement) == pytest.approx(change.movement())
        if ruling.halted:
            assert not any(ruling.factors)
        for number, one in enumerate(budgets):
            moved = math.sqrt(sum(change.movement()[group] ** 2 for group in one.groups))
            for meter, window, limit in one.meters:
                charges = ruling.movement_charges if meter == "movement" else ruling.drift_charges
                spent = charges[number] + (0 if window == "step" else total.get((number, meter, window), 0))
                total[number, meter, window] = spent
                assert spent <= limit
                if meter == "movement" and concerned[number]:
                    assert charges[number] >= moved * MICRO * (1 - 1e-12)
        for window, restart in (("epoch", meters.start_epoch), ("phase", meters.start_phase)):
            if data.draw(st.booleans()):
                restart()
                total = {key: 0 if key[2] == window else value for key, value in total.items()}
