"""Parts make no difference, and a resumed accountant goes on exactly as one that never stopped."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.accounts import MICRO, NAMES, Turn, World, budget, drawn_tables, drawn_turns, frequency, row, whole

from aqpolicy.bundle.tables import Tables
from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.accounts.accountant import Accountant, Spending
from aqpolicy.gate.accounts.state import RunState

HELD = 2
"""Position of the verification among the drawn obligations."""


def saved(accountant: Accountant) -> Any:
    """Return what is left of an accountant's state on its way through a file."""
    file = io.BytesIO()
    torch.save(accountant.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def plain(value: Any) -> Any:
    """Return a state with lists in place of tensors and tuples, to be compared."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def resumed(world: World, accountant: Accountant) -> Accountant:
    fresh = Accountant(world.tables, world.manifest.size)
    fresh.load_state_dict(saved(accountant))
    return fresh


def take(world: World, accountant: Accountant, turn: Turn, state: RunState, *, parts: bool = True) -> list[Spending]:
    """Take one drawn step, in its parts or as one batch."""
    accountant.hold(HELD, on=turn.held)
    accountant.begin_step(state)
    spendings = []
    for part in turn.parts if parts else [sum(turn.parts, ())]:
        names, nats, broken = zip(*part, strict=True)
        spending = accountant.spend(world.batch(names, nats, state))
        lost = torch.zeros_like(spending.shares, dtype=torch.bool)
        for visit, groups in enumerate(broken):
            lost[visit, list(groups)] = True
        spendings.append(spending if spending.halted else accountant.close(spending, lost))
    return list(accountant.halt(spendings))


def flat(spendings: list[Spending]) -> list[Any]:
    """Return all that is told of the visits of a step."""
    columns = ("shares", "charges", "reasons", "deferred")
    told = {name: torch.cat([getattr(one, name) for one in spendings]).tolist() for name in columns}
    told["decided"] = torch.cat([one.batch.shares for one in spendings]).tolist()
    return [told, bool(spendings[0].halted)]


def passing(turn: Turn, state: RunState, accountants: list[Accountant], step: int) -> RunState:
    """Go on to the epoch and phase of a step."""
    for accountant in accountants:
        if turn.new_epoch:
            accountant.start_epoch()
        if turn.phase != state.phase:
            accountant.start_phase()
    return RunState(step, state.epoch + turn.new_epoch, turn.phase)


def worlds() -> st.SearchStrategy[World]:
    return drawn_tables().map(lambda tables: World(tables, NAMES[:-1]))


@settings(deadline=None, max_examples=60)
@given(worlds(), drawn_turns())
def test_parts_of_a_step_give_what_one_batch_would(world: World, turns: tuple[Turn, ...]) -> None:
    parted, whole_steps = (Accountant(world.tables, world.manifest.size) for _ in range(2))
    state = RunState(phase=turns[0].phase)
    for step, turn in enumerate(turns):
        state = passing(turn, state, [parted, whole_steps], step)
        mine, other = take(world, parted, turn, state), take(world, whole_steps, turn, state, parts=False)
        assert flat(mine) == flat(other)
        assert parted.asked(mine) == whole_steps.asked(other)
        assert parted.concerned(mine) == whole_steps.concerned(other)
        if mine[0].halted:
            return
        if turn.committed:
            parted.commit(mine)
            whole_steps.commit(other)
        assert plain(parted.state_dict()) == plain(whole_steps.state_dict())


@settings(deadline=None, max_examples=60)
@given(worlds(), drawn_turns())
def test_a_resumed_accountant_goes_on_as_one_that_never_stopped(world: World, turns: tuple[Turn, ...]) -> None:
    steady = stopped = Accountant(world.tables, world.manifest.size)
    state = RunState(phase=turns[0].phase)
    for step, turn in enumerate(turns):
        stopped = resumed(world, stopped)
        state = passing(turn, state, [steady, stopped], step)
        mine, other = take(world, steady, turn, state), take(world, stopped, turn, state)
        assert flat(mine) == flat(other)
        if mine[0].halted:
            return
        if turn.committed:
            steady.commit(mine)
            stopped.commit(other)
        assert steady.queue == stopped.queue
        assert plain(steady.state_dict()) == plain(stopped.state_dict())


def test_a_saved_state_does_not_change_with_the_run() -> None:
    world = World(whole([row((MICRO,))], budgets=[budget(exposures=5)]), ("1-a",))
    accountant = Accountant(world.tables, 1)
    state = accountant.state_dict()
    accountant.commit([accountant.spend(world.batch(("1-a",), MICRO))])
    assert state["shown"][0].tolist() == [0]
    assert state["spent"]["run"] == [0]
    accountant.load_state_dict(state)
    accountant.commit([accountant.spend(world.batch(("1-a",), MICRO))])
    assert state["shown"][0].tolist() == [0]


def some_tables(name: str = "b", exposures: int = 5) -> Tables:
    return whole([row((MICRO,))], budgets=[budget(name, exposures=exposures)], obligations=[frequency((0,), 1, 3)])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state | {"budgets": ["other"]},
        lambda state: state | {"obligations": []},
        lambda state: state | {"spent": {"epoch": [0], "phase": [0], "run": []}},
        lambda state: state | {"spent": {"epoch": [0], "phase": [0], "run": [-1]}},
        lambda state: state | {"shown": [torch.zeros(3, dtype=torch.int64)]},
        lambda state: state | {"shown": [torch.zeros(2)]},
        lambda state: state | {"shown": [torch.tensor([-1, 0])]},
        lambda state: state | {"shown": [None]},
        lambda state: state | {"shown": []},
        lambda state: state | {"written": [[7, 0, [1]]]},
        lambda state: state | {"held": [0]},
        lambda state: state | {"since": [[0, 1]]},
        lambda state: state | {"queue": [["1-a"]]},
        lambda state: {name: value for name, value in state.items() if name != "queue"},
    ],
)
def test_a_state_of_another_policy_or_manifest_changes_nothing(spoil: Any) -> None:
    world = World(some_tables(), ("1-a", "1-b"))
    accountant = Accountant(world.tables, 2)
    accountant.commit([accountant.spend(world.batch(("1-a",), MICRO))])
    before = plain(accountant.state_dict())
    with pytest.raises(
        IllegalTrainingSetupError, match="resume with the bundle and the manifest that the run began with"
    ):
        accountant.load_state_dict(spoil(Accountant(world.tables, 2).state_dict()))
    assert plain(accountant.state_dict()) == before
