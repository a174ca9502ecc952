"""Who was deferred waits in the queue until the next visit that is not, and is released when there is hope."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.accounts import MICRO, World, budget, category, deferral, number, row, whole

from aqpolicy.bundle.tables import Tables
from aqpolicy.gate.accounts.accountant import Accountant, Spending
from aqpolicy.gate.accounts.queue import Waiting
from aqpolicy.gate.accounts.state import RunState

NAT = MICRO
HERE = RunState(phase="warm")


class Run(World):
    """A run that takes steps over examples by name."""

    def __init__(self, tables: Tables, *names: str) -> None:
        super().__init__(tables, names)
        self.accountant, self.state = Accountant(tables, len(names)), HERE

    def step(self, *names: str, nats: object = 0) -> Spending:
        self.accountant.begin_step(self.state)
        spending = self.accountant.spend(self.batch(names, nats, self.state))
        self.accountant.commit([spending])
        self.state = replace(self.state, step=self.state.step + 1)
        return spending

    @property
    def queue(self) -> list[str]:
        return [one.example for one in self.accountant.queue]

    def released(self, **changes: object) -> tuple[str, ...]:
        return self.accountant.released(self.decisions, replace(self.state, **changes))


def until_late() -> Tables:
    """Return tables in which kind 1 waits for the later phase, unless its surprisal is at least 1 nat."""
    waits, opened = row((0,), effect="defer", obligations=(0,)), row((MICRO,))
    attributes = [
        category("kind", "1", "2"),
        category("phase", "warm", "late", origin="run"),
        number("surprisal", 0, NAT, high=2**31 - 1, origin="run"),
    ]
    return whole([waits, opened, opened, opened, *[opened] * 4], attributes, obligations=[deferral(3)])


def test_who_is_deferred_by_the_row_waits_with_a_reason() -> None:
    run = Run(until_late(), "1-a", "2-a")
    run.step("2-a")
    run.step("2-a", "1-a", "stranger", nats=(0, 7, 0))
    assert run.accountant.queue == (
        Waiting(
            example="1-a",
            index=0,
            reason="because",
            budgets=(),
            step=1,
            epoch=0,
            last_step=1,
            last_epoch=0,
            last_phase="warm",
            surprisal=7,
            entropy=-1,
        ),
    )


def test_the_queue_keeps_since_when_each_waits_and_forgets_who_was_let_in() -> None:
    run = Run(until_late(), "1-a", "1-b")
    run.step("1-b")
    run.state = replace(run.state, epoch=1)
    run.step("1-a", "1-b", nats=(0, 5))
    assert [(one.example, one.step, one.epoch) for one in run.accountant.queue] == [("1-b", 0, 0), ("1-a", 1, 1)]
    assert [(one.last_step, one.last_epoch, one.surprisal) for one in run.accountant.queue] == [(1, 1, 5), (1, 1, 0)]
    run.step("1-b", nats=NAT)
    assert run.queue == ["1-a"]
    run.step("1-b")
    assert [(one.example, one.step) for one in run.accountant.queue] == [("1-a", 1), ("1-b", 3)]


def test_the_last_visit_of_a_step_counts() -> None:
    run = Run(until_late(), "1-a")
    run.step("1-a", "1-a", nats=(0, NAT))
    assert run.queue == []
    run.step("1-a", "1-a", nats=(NAT, 0))
    assert run.queue == ["1-a"]


def test_whose_deferral_has_expired_waits_no_more() -> None:
    run = Run(until_late(), "1-a")
    run.step("1-a")
    run.state = replace(run.state, epoch=3)
    assert run.queue == ["1-a"]
    run.step("1-a")
    assert run.queue == []


def test_a_step_that_was_not_committed_leaves_the_queue_alone() -> None:
    run = Run(until_late(), "1-a")
    run.accountant.spend(run.batch(("1-a",), 0, HERE))
    assert run.queue == []


def test_who_waits_for_the_row_is_released_when_the_row_is_another() -> None:
    run = Run(until_late(), "1-a", "1-b")
    run.step("1-a", "1-b")
    assert run.released() == ()
    assert run.released(epoch=9) == ()
    assert run.released(phase="late") == ("1-a", "1-b")
    assert run.queue == ["1-a", "1-b"]


def limited(**limits: object) -> Tables:
    return whole([row((MICRO,))], budgets=[budget(on_exhaust="defer", **limits)])


@pytest.mark.parametrize(
    ("limits", "step", "epoch", "phase"),
    [
        ({"per_run": 0}, True, True, True),
        ({"per_run": 0, "exposures": 9}, True, True, True),
        ({"meters": (("surprisal", "step", 0),)}, True, True, True),
        ({"per_epoch": 0}, False, True, False),
        ({"meters": (("surprisal", "phase", 0),)}, False, False, True),
        ({"per_epoch": 0, "meters": (("surprisal", "phase", 0),)}, False, True, True),
        ({"per_run": 0, "meters": (("movement", "phase", 0),)}, True, True, True),
    ],
)
def test_who_waits_for_a_budget_is_released_when_it_may_have_room(
    limits: dict[str, object], step: bool, epoch: bool, phase: bool
) -> None:
    run = Run(limited(**limits), "1-a")
    run.step("1-a", nats=NAT)
    (waiting,) = run.accountant.queue
    assert (waiting.budgets, waiting.reason) == (("b",), "no room in budget `b`")
    assert run.released(step=0) == ()
    assert run.released() == (("1-a",) if step else ())
    assert run.released(epoch=1) == (("1-a",) if epoch else ())
    assert run.released(phase="late") == (("1-a",) if phase else ())


def test_the_epoch_of_the_last_visit_counts_not_the_first() -> None:
    run = Run(limited(per_epoch=0), "1-a")
    run.step("1-a", nats=NAT)
    run.state = replace(run.state, epoch=1)
    assert run.released() == ("1-a",)
    run.step("1-a", nats=NAT)
    assert run.released() == ()
    assert run.released(epoch=2) == ("1-a",)


def test_every_budget_that_deferred_must_have_room_again() -> None:
    budgets = [budget("e", per_epoch=0, on_exhaust="defer"), budget("r", per_run=0, on_exhaust="defer")]
    run = Run(whole([row((MICRO,)), row((MICRO,), charged=(False, True))], budgets=budgets), "1-a", "2-a")
    run.step("1-a", "2-a", nats=NAT)
    assert [one.reason for one in run.accountant.queue] == ["no room in budget `e`, `r`", "no room in budget `r`"]
    assert run.released() == ("2-a",)
    assert run.released(epoch=1) == ("1-a", "2-a")
