"""Frequency limits, holds and deferrals keep their promises over the steps of a run."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.accounts import (
    MICRO,
    World,
    budget,
    category,
    deferral,
    frequency,
    number,
    promotion,
    row,
    verification,
    whole,
)

from aqpolicy.bundle.tables import ObligationTable, Tables
from aqpolicy.errors import BundleError
from aqpolicy.gate.accounts.accountant import Accountant, Spending
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import Reason

OPEN = (MICRO, MICRO)


class Steps:
    """An accountant that takes steps over examples by name."""

    def __init__(self, tables: Tables, names: tuple[str, ...]) -> None:
        self.world, self.names = World(tables, names), names
        self.accountant, self.at = Accountant(tables, len(names)), 0

    def draft(self, *names: str, epoch: int = 0, nats: object = 0) -> Spending:
        self.accountant.begin_step(RunState(self.at, epoch))
        return self.accountant.spend(self.world.batch(names, nats, RunState(self.at, epoch)))

    def step(self, *names: str, epoch: int = 0, nats: object = 0) -> Spending:
        spending = self.draft(*names, epoch=epoch, nats=nats)
        self.accountant.commit([spending])
        self.at += 1
        return spending


# ---- Frequency


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 3), st.integers(1, 5), st.lists(st.sets(st.integers(0, 3)), min_size=1, max_size=20))
def test_a_group_is_written_in_at_most_n_of_any_m_steps(updates: int, steps: int, course: list[set[int]]) -> None:
    rows = [
        row((MICRO, 0), obligations=(0,)),
        row(OPEN, obligations=(0,)),
        row((0, MICRO), obligations=(0,)),
        row(OPEN),
    ]
    names = ("1-a", "2-a", "3-a", "4-a")
    run = Steps(whole(rows, obligations=[frequency((0, 1), updates, steps)]), names)
    wrote: list[tuple[bool, bool]] = []
    for scheduled in course:
        spending = run.step(*(names[n] for n in sorted(scheduled)))
        by_rule = [left for n, left in zip(sorted(scheduled), spending.shares.tolist(), strict=True) if n < 3]
        wrote.append(tuple(any(left[group] for left in by_rule) for group in (0, 1)))
        for group in (0, 1):
            before = sum(one[group] for one in wrote[-steps:-1])
            assert before + wrote[-1][group] <= updates
            # Nothing is refused that there was room for.
            wants = any(rows[n].shares[group] for n in scheduled if n < 3)
            assert wrote[-1][group] == (wants and before < updates)
        for n, left in zip(sorted(scheduled), spending.shares.tolist(), strict=True):
            if n == 3:
                assert left == list(OPEN)


def test_a_closed_group_says_so_and_is_not_charged() -> None:
    tables = whole([row(OPEN, obligations=(0,))], budgets=[budget(groups=(0,))], obligations=[frequency((0,), 1, 3)])
    run = Steps(tables, ("1-a",))
    assert run.step("1-a", nats=MICRO).charges.tolist() == [[MICRO]]
    spending = run.step("1-a", nats=MICRO)
    assert spending.shares.tolist() == [[0, MICRO]]
    assert spending.reasons.tolist() == [[Reason.FREQUENCY, Reason.TABLE]]
    assert spending.batch.charged.tolist() == spending.charges.tolist() == [[0]]


def test_a_step_in_which_nothing_was_admitted_in_the_end_does_not_count() -> None:
    tables = whole(
        [row(OPEN, obligations=(0,))],
        budgets=[budget(groups=(0,), per_run=MICRO)],
        obligations=[frequency((0, 1), 1, 9)],
    )
    run = Steps(tables, ("1-a",))
    assert run.step("1-a", nats=2 * MICRO).shares.tolist() == [[0, MICRO]]
    assert run.step("1-a", nats=[None]).shares.tolist() == [[0, 0]]
    assert run.step("1-a", nats=MICRO).shares.tolist() == [[MICRO, 0]]


def test_a_group_with_a_broken_gradient_does_not_count() -> None:
    run = Steps(whole([row(OPEN, obligations=(0,))], obligations=[frequency((0, 1), 1, 9)]), ("1-a",))
    spending = run.accountant.close(run.draft("1-a"), torch.tensor([[True, False]]))
    run.accountant.commit([spending])
    run.at += 1
    assert run.step("1-a").shares.tolist() == [[MICRO, 0]]


def test_limits_of_several_rules_all_count() -> None:
    rows = [row(OPEN, obligations=(0, 1)), row(OPEN, obligations=(1,))]
    run = Steps(whole(rows, obligations=[frequency((0,), 0, 1), frequency((1,), 1, 2)]), ("1-a", "2-a"))
    assert run.step("1-a", "2-a").shares.tolist() == [[0, MICRO], [MICRO, MICRO]]
    assert run.step("1-a", "2-a").shares.tolist() == [[0, 0], [MICRO, 0]]


def test_only_the_steps_that_matter_are_remembered() -> None:
    tables = whole([row(OPEN, obligations=(0, 1))], obligations=[frequency((0,), 2, 4), frequency((1,), 5, 5)])
    run = Steps(tables, ("1-a",))
    for _ in range(30):
        run.step("1-a")
    (written,) = run.accountant.state_dict()["written"]
    assert written[:2] == [0, 0]
    assert len(written[2]) <= 2


# ---- Holds


def holding() -> Steps:
    rows = [row(OPEN, obligations=(0,)), row(OPEN, obligations=(1, 2)), row((0, 0))]
    tables = whole(rows, budgets=[budget()], obligations=[verification(), promotion(), verification("rollback")])
    return Steps(tables, ("1-a", "2-a", "3-a"))


def test_what_is_held_gets_nothing_until_it_is_let_go() -> None:
    run = holding()
    run.accountant.hold(0, on=True)
    spending = run.step(*run.names, nats=MICRO)
    assert spending.shares.tolist() == [[0, 0], [MICRO, MICRO], [0, 0]]
    assert spending.reasons.tolist() == [[Reason.HELD] * 2, [0, 0], [0, 0]]
    assert spending.charges.tolist() == [[0], [MICRO], [0]]
    run.accountant.hold(2, on=True)
    assert not run.step(*run.names).shares.any()
    run.accountant.hold(0, on=False)
    assert run.step(*run.names).shares.tolist() == [[MICRO, MICRO], [0, 0], [0, 0]]


def test_a_group_that_was_closed_before_is_not_said_to_be_held() -> None:
    tables = whole([row(OPEN, obligations=(0, 1))], obligations=[frequency((0,), 0, 1), verification()])
    run = Steps(tables, ("1-a",))
    run.accountant.hold(1, on=True)
    assert run.step("1-a").reasons.tolist() == [[Reason.FREQUENCY, Reason.HELD]]


# ---- Deferrals


def waiting(*epochs: int) -> Tables:
    """Return tables in which kind 1 waits for all deferrals below 1 nat of surprisal, for the first one below 2."""
    obligations = [deferral(one) for one in epochs]
    rows = [
        row((0, 0), effect="defer", obligations=tuple(range(len(epochs)))),
        row((0, 0), effect="defer", obligations=(0,)),
        row(OPEN),
    ]
    nats = number("surprisal", 0, MICRO, 2 * MICRO, high=2**31 - 1, origin="run")
    return whole(rows, [category("kind", "1"), nats], obligations=obligations)


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_a_deferral_expires_after_its_epochs(epochs: int) -> None:
    run = Steps(waiting(epochs), ("1-a", "1-b"))
    for epoch in range(2, 7):
        spending = run.step("1-a", "1-a", epoch=epoch)
        expired = epoch - 2 >= epochs
        assert spending.deferred.tolist() == [not expired] * 2
        assert spending.reasons.tolist() == [[Reason.DEFERRAL_EXPIRED if expired else Reason.TABLE] * 2] * 2
        assert not spending.shares.any()
    assert run.step("1-b", epoch=9).deferred.tolist() == [epochs > 0]


def test_the_first_deferral_to_expire_decides() -> None:
    run = Steps(waiting(5, 1), ("1-a",))
    assert run.step("1-a", epoch=0).deferred.tolist() == [True]
    assert run.step("1-a", epoch=1).deferred.tolist() == [False]
    # The second is not pending any more; the first has not lasted long enough.
    assert run.step("1-a", epoch=2, nats=MICRO).deferred.tolist() == [True]
    # The second begins anew.
    assert run.step("1-a", epoch=3).deferred.tolist() == [True]
    assert run.step("1-a", epoch=4).deferred.tolist() == [False]
    assert run.step("1-a", epoch=5, nats=MICRO).deferred.tolist() == [False]


def test_a_visit_that_need_not_wait_ends_the_deferral() -> None:
    run = Steps(waiting(2), ("1-a",))
    run.step("1-a", epoch=0)
    assert run.accountant.since == {0: {0: 0}}
    assert run.step("1-a", epoch=1, nats=2 * MICRO).shares.tolist() == [[MICRO, MICRO]]
    assert run.accountant.since == {}
    assert run.step("1-a", epoch=2).deferred.tolist() == [True]
    assert run.step("1-a", epoch=3).deferred.tolist() == [True]


def test_within_a_step_visits_count_in_order() -> None:
    run = Steps(waiting(2), ("1-a",))
    run.step("1-a", epoch=0)
    spending = run.step("1-a", "1-a", "1-a", epoch=2, nats=(0, 2 * MICRO, 0))
    assert spending.deferred.tolist() == [False, False, True]
    assert run.accountant.since == {0: {0: 2}}


def test_a_step_that_did_not_happen_begins_no_deferral() -> None:
    run = Steps(waiting(1), ("1-a",))
    for epoch in (0, 4):
        assert run.draft("1-a", epoch=epoch).deferred.tolist() == [True]
    run.step("1-a", epoch=5)
    run.draft("1-a", epoch=5, nats=2 * MICRO)
    assert run.step("1-a", epoch=6).deferred.tolist() == [False]


def test_a_loss_that_is_not_finite_waits_as_its_row_says_and_keeps_its_reason() -> None:
    run = Steps(whole([row((0,), effect="defer", obligations=(0,))], obligations=[deferral(1)]), ("1-a",))
    first, later = run.step("1-a", epoch=0, nats=[None]), run.step("1-a", epoch=1, nats=[None])
    assert first.deferred.tolist() == [True]
    assert later.deferred.tolist() == [False]
    assert first.reasons.tolist() == later.reasons.tolist() == [[Reason.NOT_FINITE]]


def test_nobody_unknown_waits() -> None:
    run = Steps(waiting(1), ("1-a",))
    assert run.step("stranger").deferred.tolist() == [False]
    assert run.accountant.since == {}


@pytest.mark.parametrize(
    "broken",
    [
        ObligationTable("frequency", "r", "often", {"groups": (0,), "steps": 3}),
        ObligationTable("defer", "r", "wait", {}),
    ],
    ids=lambda one: one.kind,
)
def test_an_obligation_without_its_numbers_is_refused(broken: ObligationTable) -> None:
    with pytest.raises(BundleError, match=f"the obligation `{broken.text}` has no number"):
        Accountant(whole([row(OPEN)], obligations=[broken]), 1)
