"""What is spent, booked and remembered over the steps of a run."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.accounts import (
    MICRO,
    World,
    budget,
    frequency,
    promotion,
    row,
    verification,
    whole,
)

from aqpolicy.errors import InternalError
from aqpolicy.gate.accounts.accountant import Accountant, Spending
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import Reason

NAMES = ("1-a", "1-b", "1-c", "2-a")
NAT = MICRO


class Books(World):
    """A world with an accountant, stepped in few words."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.accountant = Accountant(self.tables, self.manifest.size)
        self.state = RunState()

    def draft(self, names: object, nats: object = 0, state: RunState | None = None) -> Spending:
        """Open a step and spend on one batch."""
        self.accountant.begin_step(state or self.state)
        return self.part(names, nats)

    def part(self, names: object, nats: object = 0) -> Spending:
        return self.accountant.spend(self.batch(names, nats, self.state))

    def step(self, names: object, nats: object = 0, state: RunState | None = None) -> Spending:
        """Take a whole step."""
        spending = self.draft(names, nats, state)
        self.accountant.commit([spending])
        return spending


def books(
    *budgets: object, shares: tuple[tuple[int, ...], ...] = ((MICRO, MICRO), (0, MICRO)), **more: object
) -> Books:
    return Books(whole([row(one) for one in shares], budgets=budgets, **more), NAMES)


# ---- Budgets


def test_without_budgets_what_was_decided_is_left_as_it_is() -> None:
    spending = books().step(NAMES, NAT)
    assert spending.shares.tolist() == [[MICRO, MICRO]] * 3 + [[0, MICRO]]
    assert spending.charges.shape == (4, 0)
    assert not spending.reasons.any()
    assert not spending.deferred.any()
    assert spending.halted == ""


def test_a_charge_is_rounded_up() -> None:
    made = books(budget(groups=(0, 1)), shares=((1, 0), (MICRO, 1)))
    spending = made.step(("1-a", "2-a", "1-a", "1-a"), (1, 7, 0, MICRO + 1))
    assert spending.charges.tolist() == [[1], [7], [0], [2]]
    assert made.accountant.run == made.accountant.epoch == made.accountant.phase == [10]


def test_a_window_is_spent_in_order_and_what_did_not_fit_counts_within_the_step() -> None:
    made = books(budget(groups=(0,), per_run=10 * NAT))
    spending = made.step(("1-a", "1-b", "1-c"), (6 * NAT, 5 * NAT, 4 * NAT))
    assert spending.shares.tolist() == [[MICRO, MICRO], [0, MICRO], [0, MICRO]]
    assert spending.reasons.tolist() == [[0, 0], [Reason.EXHAUSTED, 0], [Reason.EXHAUSTED, 0]]
    assert made.accountant.run == [6 * NAT]
    assert made.step(("1-c",), 4 * NAT).shares.tolist() == [[MICRO, MICRO]]
    assert made.accountant.run == [10 * NAT]
    assert made.step(("1-c",), 1).shares.tolist() == [[0, MICRO]]
    assert made.step(("1-c",), 0).shares.tolist() == [[MICRO, MICRO]]


@pytest.mark.parametrize("window", ["step", "phase"])
def test_a_window_is_given_back_when_its_time_is_over(window: str) -> None:
    made = books(budget(groups=(0,), meters=(("surprisal", window, 3 * NAT),)))
    assert made.step(("1-a", "1-b"), 2 * NAT).shares[:, 0].tolist() == [MICRO, 0]
    again = made.step(("1-a",), 2 * NAT).shares[:, 0].tolist()
    assert again == [MICRO if window == "step" else 0]
    made.accountant.start_epoch()
    assert made.step(("1-a",), 2 * NAT).shares[:, 0].tolist() == again
    made.accountant.start_phase()
    assert made.step(("1-a",), 2 * NAT).shares[:, 0].tolist() == [MICRO]


def test_movement_and_drift_are_no_windows_of_surprisal() -> None:
    meters = [(meter, window, 0) for meter in ("drift", "movement") for window in ("epoch", "phase", "run", "step")]
    made = books(budget(groups=(0,), meters=tuple(meters)))
    assert made.step(("1-a",), NAT).shares.tolist() == [[MICRO, MICRO]]


def test_an_epoch_gives_back_its_own_window_only() -> None:
    made = books(budget("e", (0,), per_epoch=NAT), budget("r", (1,), per_run=NAT))
    made.step(("1-a",), NAT)
    assert made.step(("1-a",), NAT).shares.tolist() == [[0, 0]]
    made.accountant.start_epoch()
    assert made.step(("1-a",), NAT).shares.tolist() == [[MICRO, 0]]


def test_the_tightest_window_counts() -> None:
    made = books(budget(groups=(0,), per_run=9 * NAT, per_epoch=5 * NAT, meters=(("surprisal", "step", 7 * NAT),)))
    assert made.step(("1-a", "1-b"), 3 * NAT).shares[:, 0].tolist() == [MICRO, 0]


def test_an_update_shrinks_to_the_limit_on_one_update() -> None:
    made = books(budget(groups=(0,), per_update=NAT), shares=((MICRO, MICRO), (500_000, 1)))
    spending = made.step(("1-a", "2-a"), 3 * NAT)
    assert spending.shares.tolist() == [[333_333, MICRO], [333_333, 1]]
    assert spending.reasons.tolist() == [[Reason.PER_UPDATE, 0]] * 2
    assert spending.charges.tolist() == [[999_999]] * 2


def test_attenuation_leaves_the_part_for_which_there_is_room() -> None:
    made = books(budget(groups=(0, 1), per_run=10 * NAT, on_exhaust="attenuate"), shares=((MICRO, 500_000), (0, 1)))
    spending = made.step(("1-a", "1-b", "1-c"), (6 * NAT, 8 * NAT, 1))
    assert spending.shares.tolist() == [[MICRO, 500_000], [500_000, 250_000], [0, 0]]
    assert spending.reasons.tolist() == [[0, 0], [Reason.ATTENUATED] * 2, [Reason.EXHAUSTED] * 2]
    assert made.accountant.run == [10 * NAT]


def test_what_one_budget_narrows_stays_narrow_where_another_defers() -> None:
    made = books(budget("a", (0,), per_run=5 * NAT), budget("b", (1,), per_run=9 * NAT, on_exhaust="defer"))
    spending = made.step(("1-a", "1-b", "1-c"), 4 * NAT)
    assert spending.shares.tolist() == [[MICRO, MICRO], [0, MICRO], [0, 0]]
    assert spending.reasons.tolist() == [[0, 0], [Reason.EXHAUSTED, 0], [Reason.DEFERRED] * 2]
    assert spending.deferred.tolist() == [False, False, True]
    assert spending.turned is not None
    assert spending.turned.tolist() == [[False, False], [False, False], [False, True]]


def test_exposures_are_counted_per_example_within_a_step_and_over_steps() -> None:
    made = books(budget(groups=(0,), exposures=2))
    spending = made.step(("1-a", "1-b", "1-a", "1-a", "2-a", "2-a", "2-a"), 0)
    assert spending.shares[:, 0].tolist() == [MICRO, MICRO, MICRO, 0, 0, 0, 0]
    assert spending.reasons[:, 0].tolist() == [0, 0, 0, Reason.EXHAUSTED, 0, 0, 0]
    assert made.accountant.shown[0].tolist() == [2, 1, 0, 0]
    assert made.step(("1-b", "1-a", "stranger"), 0).shares[:, 0].tolist() == [MICRO, 0, 0]
    assert made.step(("1-b",), 0).shares[:, 0].tolist() == [0]


def test_a_budget_that_halts_takes_everything_and_all_parts_of_the_step_with_it() -> None:
    made = books(budget("a", (0,), per_run=3 * NAT, on_exhaust="halt"))
    first, second = made.draft(("1-a",), 2 * NAT), made.part(("1-b", "2-a"), 2 * NAT)
    assert (first.halted, second.halted) == ("", "a")
    for one in made.accountant.halt([first, second]):
        assert one.halted == "a"
        assert not one.shares.any()
        assert not one.charges.any()
        assert (one.reasons == Reason.HALTED).all()
    assert made.accountant.halt([first]) == (first,)


def test_a_visit_that_is_not_finite_is_charged_nothing_and_not_exposed() -> None:
    made = books(budget(groups=(0,), per_run=NAT, exposures=1))
    spending = made.step(("1-a", "1-b"), (None, NAT))
    assert spending.shares.tolist() == [[0, 0], [MICRO, MICRO]]
    assert spending.charges.tolist() == [[0], [NAT]]
    assert spending.reasons.tolist() == [[Reason.NOT_FINITE] * 2, [0, 0]]
    assert made.accountant.shown[0].tolist() == [0, 1, 0, 0]


def test_what_is_broken_is_closed_and_not_charged() -> None:
    made = books(budget("a", (0,), exposures=9), budget("b", (0, 1)))
    spending = made.draft(("1-a", "1-b", "2-a"), NAT)
    broken = torch.tensor([[True, False], [False, False], [True, False]])
    closed = made.accountant.close(spending, broken)
    assert closed.shares.tolist() == [[0, MICRO], [MICRO, MICRO], [0, MICRO]]
    assert closed.reasons.tolist() == [[Reason.GRADIENT_NOT_FINITE, 0], [0, 0], [0, 0]]
    assert closed.charges.tolist() == [[0, NAT], [NAT, NAT], [0, NAT]]
    made.accountant.commit([closed])
    assert made.accountant.run == [NAT, 3 * NAT]
    assert made.accountant.shown[0].tolist() == [0, 1, 0, 0]
    assert made.accountant.close(spending, torch.zeros_like(broken)) is spending


def test_no_tensor_of_the_batch_is_changed() -> None:
    made = books(budget(groups=(0, 1), per_run=NAT, per_update=NAT // 2, on_exhaust="attenuate"))
    batch = made.batch(("1-a", "1-b", "1-c"), NAT)
    before = [batch.shares.clone(), batch.charged.clone(), batch.reasons.clone()]
    made.accountant.spend(batch)
    assert all(torch.equal(*pair) for pair in zip(before, (batch.shares, batch.charged, batch.reasons), strict=True))


# ---- Parts, and steps that did not happen


def test_a_step_that_was_not_committed_leaves_nothing() -> None:
    made = books(
        budget("a", (0,), per_run=3 * NAT), budget("b", (1,), exposures=1), obligations=[frequency((0,), 0, 1)]
    )
    for _ in range(3):
        assert made.draft(("1-a",), 2 * NAT).shares.tolist() == [[MICRO, MICRO]]
    assert made.accountant.run == [0, 0]
    made.accountant.commit([made.draft(("1-a",), 2 * NAT)])
    assert made.draft(("1-a",), 2 * NAT).shares.tolist() == [[0, 0]]


def test_the_drafts_of_earlier_parts_count() -> None:
    made = books(budget("a", (0,), per_run=5 * NAT), budget("b", (1,), exposures=1))
    first, second = made.draft(("1-a", "1-b"), 3 * NAT), made.part(("1-a", "1-c"), 1)
    assert first.shares.tolist() == [[MICRO, MICRO], [0, MICRO]]
    assert second.shares.tolist() == [[0, 0], [0, MICRO]]
    made.accountant.commit([first, second])
    assert made.accountant.run == [3 * NAT, 2 * 3 * NAT + 1]
    assert made.accountant.shown[1].tolist() == [1, 1, 1, 0]


# ---- What the rest of the gate asks


def asking() -> Books:
    rows = [
        row((MICRO, 0), obligations=(0, 2)),
        row((0, MICRO), charged=(False, True), obligations=(1,)),
        row((MICRO, MICRO)),
    ]
    tables = whole(
        rows,
        budgets=[budget("a", (0,), per_update=NAT), budget("b", (1,))],
        obligations=[verification(), promotion(), frequency((0,), 1, 2)],
    )
    return Books(tables, ("1-a", "2-a", "3-a"))


def test_admitted_updates_ask_for_what_their_rows_ask() -> None:
    made = asking()
    parts = [made.draft(("3-a",), NAT), made.part(("1-a",), NAT)]
    assert made.accountant.asked(parts) == {0}
    assert made.accountant.asked([*parts, made.part(("2-a",), NAT)]) == {0, 1}
    assert made.accountant.asked([]) == frozenset()


def test_updates_that_come_to_nothing_ask_for_nothing() -> None:
    made = asking()
    spending = made.draft(("1-a", "2-a"), (None, NAT))
    assert made.accountant.asked([spending]) == {1}
    assert made.accountant.asked([made.accountant.close(spending, torch.ones(2, 2, dtype=torch.bool))]) == frozenset()


def test_a_budget_is_concerned_by_what_it_charges_and_what_is_admitted_where_it_looks() -> None:
    made = asking()
    first, second = made.draft(("1-a",), NAT), made.part(("2-a",), NAT)
    assert made.accountant.concerned([first]) == (True, False)
    assert made.accountant.concerned([second]) == (False, True)
    assert made.accountant.concerned([first, second]) == (True, True)
    assert made.accountant.concerned([]) == (False, False)
    assert made.accountant.concerned([made.accountant.close(first, torch.ones(1, 2, dtype=torch.bool))]) == (
        False,
        False,
    )


@pytest.mark.parametrize("obligation", [-1, 1, 2, 3])
def test_only_verifications_are_held(obligation: int) -> None:
    with pytest.raises(InternalError, match=f"obligation {obligation} is no verification"):
        asking().accountant.hold(obligation, on=True)
    asking().accountant.hold(obligation, on=False)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.booleans(), min_size=12, max_size=12))
def test_who_comes_again_in_a_batch_is_counted_once_more(who: list[int], opened: list[bool]) -> None:
    made = Books(whole([row((MICRO,)), row((0,))], budgets=[budget(exposures=2)]), ("1-a", "1-b", "2-a", "2-b"))
    names = [made.names[index] if opened[n] else "stranger" for n, index in enumerate(who)]
    spending = made.draft(names)
    for n, name in enumerate(names):
        earlier = names[:n].count(name)
        assert spending.shares[n].tolist() == [MICRO if name.startswith("1") and earlier < 2 else 0]
