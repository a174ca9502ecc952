"""The gate decides and spends exactly as the reference does, over whole runs, part by part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.running import (
    EXAMPLES,
    GROUPS,
    LARGEST_ENTROPY,
    Course,
    Seen,
    acted,
    courses,
    is_step,
    name_of,
    next_phase,
)
from torch import Tensor

from aqpolicy.gate.accounts.accountant import Accountant, Spending
from aqpolicy.gate.accounts.decisions import Decisions
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import NOT_FINITE, micro_nats
from aqpolicy.semantics import LARGEST_SURPRISAL, Step, begin, take_step
from aqpolicy.semantics.run import released
from aqpolicy.semantics.visit import nats_up

OFTEN = settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
SELDOM = settings(OFTEN, max_examples=100)


class Pair:
    """One run, taken by the gate and by the reference side by side."""

    def __init__(self, course: Course) -> None:
        self.course, self.tables = course, course.tables
        self.decisions = Decisions(course.tables, course.observed, {name_of(EXAMPLES - 1)})
        self.accountant = Accountant(course.tables, EXAMPLES)
        self.run = begin(course.tables)

    def act(self, action: object) -> None:
        """Do what is no step."""
        if action == "epoch":
            self.accountant.start_epoch()
        elif action == "phase":
            if next_phase(self.run) is not None:
                self.accountant.start_phase()
        else:
            assert isinstance(action, tuple)
            self.accountant.hold(*action)
        self.run = acted(self.run, action)  # type: ignore[arg-type]

    def step(self, parts: Sequence[Sequence[Seen]]) -> bool:
        """Take a step; return whether the run goes on."""
        self.accountant.begin_step(self.state)
        spendings = []
        for number, part in enumerate(parts, 1):
            spending = self.accountant.spend(self._decided(part))
            # A budget that halts is named as soon as a part does not fit.
            assert spending.halted == take_step(self.tables, self.run, self.course.visits(parts[:number])).run.halted
            spendings.append(self.accountant.close(spending, broken(part)))
            if spending.halted:
                return False
        want = take_step(self.tables, self.run, self.course.visits(parts))
        self._compare(spendings, want)
        self.accountant.commit(spendings)
        self.run = want.run
        self._compare_memory()
        return True

    @property
    def state(self) -> RunState:
        """The state of the run, as the gate has it."""
        now = self.run.state
        return RunState(now.step, now.epoch, now.phase, now.stage, now.today)

    def _decided(self, part: Sequence[Seen]):  # type: ignore[no-untyped-def]
        scheduled = self.decisions.schedule([name_of(seen.example) for seen in part])
        surprisal, entropy = (column([getattr(seen, name) for seen in part]) for name in ("surprisal", "entropy"))
        return self.decisions.decide(scheduled, self.state, surprisal, entropy)

    def _compare(self, spendings: Sequence[Spending], want: Step) -> None:
        visits = want.visits
        assert joined(spendings, "shares") == [list(one.shares) for one in visits]
        assert joined(spendings, "charges") == [list(one.charges) for one in visits]
        assert joined(spendings, "reasons") == [list(one.reasons) for one in visits]
        assert joined(spendings, "deferred") == [one.effect == "defer" for one in visits]
        assert [route for one in spendings for route in one.batch.route.tolist()] == [v.decided.route for v in visits]
        assert self.accountant.asked(spendings) == want.asked
        assert self.accountant.concerned(spendings) == want.concerned

    def _compare_memory(self) -> None:
        run, accountant = self.run, self.accountant
        for window in ("epoch", "phase", "run"):
            assert getattr(accountant, window) == [getattr(spent, window) for spent in run.ledger]
        for shown, spent in zip(accountant.shown, run.ledger, strict=True):
            if shown is not None:
                keys = [name_of(example).encode() for example in range(EXAMPLES)]
                assert shown.tolist() == [spent.exposures.get(key, 0) for key in keys]
        want = [(key.decode(), one.step, one.epoch, budget_names(self, one.budgets)) for key, one in run.queue.items()]
        assert [(one.example, one.step, one.epoch, one.budgets) for one in accountant.queue] == want
        self.compare_released()

    def compare_released(self) -> None:
        """Compare who need not wait any more."""
        observed = {name_of(n).encode(): self.course.observed.attributes(n) for n in range(EXAMPLES)}
        want = [key.decode() for key in released(self.tables, self.run, observed)]
        assert list(self.accountant.released(self.decisions, self.state)) == want


def budget_names(pair: Pair, numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(pair.tables.budgets[number].name for number in numbers)


def column(values: Sequence[int | None]) -> Tensor:
    return torch.tensor([NOT_FINITE if value is None else value for value in values], dtype=torch.int64)


def broken(part: Sequence[Seen]) -> Tensor:
    return torch.tensor([[group in seen.broken for group in range(GROUPS)] for seen in part])


def joined(spendings: Sequence[Spending], name: str) -> list[object]:
    return [row for one in spendings for row in getattr(one, name).tolist()]


@OFTEN
@given(courses())
def test_runs_are_those_of_the_reference(course: Course) -> None:
    pair = Pair(course)
    for action in course.actions:
        if not is_step(action):
            pair.act(action)
            pair.compare_released()
        elif not pair.step(action):  # type: ignore[arg-type]
            break


@SELDOM
@given(courses(("deny", "defer", "attenuate")))
def test_a_step_that_was_not_committed_leaves_nothing_behind(course: Course) -> None:
    pair = Pair(course)
    for action in course.actions:
        if is_step(action):
            pair.accountant.begin_step(pair.state)
            for part in reversed(action):  # type: ignore[arg-type]
                pair.accountant.spend(pair._decided(part))
            pair.step(action)  # type: ignore[arg-type]
        else:
            pair.act(action)


@SELDOM
@given(courses(("deny", "defer", "attenuate")))
def test_accounts_that_were_saved_go_on_as_if_nothing_had_happened(course: Course) -> None:
    pair = Pair(course)
    for action in course.actions:
        fresh = Accountant(course.tables, EXAMPLES)
        fresh.load_state_dict(pair.accountant.state_dict())
        pair.accountant = fresh
        if is_step(action):
            pair.step(action)  # type: ignore[arg-type]
        else:
            pair.act(action)


@settings(OFTEN, max_examples=200)
@given(st.one_of(st.floats(width=32), st.floats(), st.floats(0, 1e-5), st.floats(0, 3000)))
def test_nats_are_rounded_and_clipped_as_the_reference_says(amount: float) -> None:
    for largest in (LARGEST_SURPRISAL, LARGEST_ENTROPY):
        want = nats_up(amount, largest)
        assert micro_nats(torch.tensor([amount], dtype=torch.float64), largest).item() == (
            NOT_FINITE if want is None else want
        )
