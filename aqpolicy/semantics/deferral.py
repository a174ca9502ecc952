"""What a deferral means: how long an example waits, when it has waited long enough, and who is in the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from aqpolicy.bundle.tables import BudgetTable, ObligationTable, Row
from aqpolicy.semantics.budget import surprisal_windows
from aqpolicy.semantics.state import RunState

Firsts = Mapping[tuple[bytes, int], int]
"""Per example and pending deferral (by position), the epoch in which it was first deferred."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An example in the queue.

    `budgets` names, by position, the budgets that deferred it in its last visit; none where its row did.
    `step` and `epoch` say since when it waits without interruption; `last`, `surprisal` and `entropy` are of its
    last visit.
    """

    key: bytes
    step: int
    epoch: int
    budgets: tuple[int, ...]
    last: RunState
    surprisal: int | None
    entropy: int | None


def pending(row: Row) -> tuple[int, ...]:
    """Return the deferrals that a row waits for, by position."""
    return row.obligations if row.effect == "defer" else ()


def visited(firsts: Firsts, key: bytes, row: Row, epoch: int) -> Firsts:
    """Return what is remembered of an example once it has been visited: its row's pending deferrals and no others."""
    kept = {pair: first for pair, first in firsts.items() if pair[0] != key or pair[1] in pending(row)}
    return MappingProxyType({(key, number): epoch for number in pending(row)} | kept)


def has_expired(obligations: Sequence[ObligationTable], firsts: Firsts, key: bytes, row: Row, epoch: int) -> bool:
    """Say whether one of the deferrals that a visit waits for has lasted as long as it may."""
    return any(epoch - firsts.get((key, number), epoch) >= _epochs(obligations[number]) for number in pending(row))


def has_room_again(budgets: Sequence[BudgetTable], waiting: Waiting, state: RunState) -> bool:
    """Say whether every budget that deferred an example may have room for it again.

    A budget gives room back with a window of its own: at the next epoch or phase
    where it counts over such a window, at the next step where it counts over neither.
    """
    return all(_renewed(budgets[number], waiting.last, state) for number in waiting.budgets)


def _renewed(budget: BudgetTable, last: RunState, state: RunState) -> bool:
    windows = surprisal_windows(budget)
    if "epoch" not in windows and "phase" not in windows:
        return state.step > last.step
    return ("epoch" in windows and state.epoch > last.epoch) or ("phase" in windows and state.phase != last.phase)


def _epochs(obligation: ObligationTable) -> int:
    epochs = obligation.parameters["epochs"]
    return epochs if isinstance(epochs, int) else 0
