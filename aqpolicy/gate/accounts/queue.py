"""Who waits to be visited again: every example whose last visit was deferred, by its row or by a budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch

from aqpolicy.bundle import NO_LIMIT, BudgetTable, Tables
from aqpolicy.gate.accounts.decisions import Decisions
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import Spending


@dataclass(frozen=True, slots=True)
class Waiting:
    """One example in the queue.

    Units:
        `surprisal` and `entropy` are those of the last visit, in micro-nats, -1 where not known.
    """

    example: str
    index: int
    reason: str
    """For people: what it waits for."""
    budgets: tuple[str, ...]
    """The budgets that deferred it; none where its row did."""
    step: int
    """Since which step it waits, without a visit that was not deferred."""
    epoch: int
    last_step: int
    last_epoch: int
    last_phase: str
    surprisal: int
    entropy: int


class Queue:
    """The examples that wait, those that wait longest first."""

    def __init__(self, tables: Tables) -> None:
        """Start with nobody waiting."""
        self._budgets = {budget.name: budget for budget in tables.budgets}
        self._rows = tables.rows
        self._defers = torch.tensor([row.effect == "defer" for row in tables.rows], device="cpu")
        self._ever = bool(self._defers.any()) or any(budget.on_exhaust == "defer" for budget in tables.budgets)
        self._waiting: dict[int, Waiting] = {}

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """Return the queue."""
        return tuple(self._waiting.values())

    def book(self, spendings: Sequence[Spending], state: RunState) -> None:
        """Take in who was deferred in a step, and let go who was visited and not."""
        for one in spendings if self._ever else ():
            late = one.deferred.tolist() if self._waiting or bool(one.deferred.any()) else ()
            for visit, (index, deferred) in enumerate(zip(one.batch.scheduled.index.tolist(), late, strict=False)):
                if deferred:
                    self._waiting[index] = self._enter(one, visit, index, state)
                else:
                    self._waiting.pop(index, None)

    def released(self, decisions: Decisions, state: RunState) -> tuple[str, ...]:
        """Return who need not wait any more in the present state of the run, as far as the last visit tells."""
        by_row = [one for one in self.waiting if not one.budgets]
        scheduled = decisions.schedule([one.example for one in by_row])
        surprisal = torch.tensor([one.surprisal for one in by_row], dtype=torch.int64, device="cpu")
        entropy = torch.tensor([one.entropy for one in by_row], dtype=torch.int64, device="cpu")
        route = decisions.decide(scheduled, state, surprisal, entropy).route
        still = {one.index for one, waits in zip(by_row, self._defers[route].tolist(), strict=True) if waits}
        still |= {one.index for one in self.waiting if one.budgets and not self._has_room(one, state)}
        return tuple(one.example for one in self.waiting if one.index not in still)

    def state(self) -> list[tuple[Any, ...]]:
        """Return the queue as plain values."""
        return [astuple(one) for one in self.waiting]

    def restore(self, values: Iterable[Sequence[Any]]) -> None:
        """Go on from what `state` returned.

        Raises:
            TypeError: It returns no such thing.
        """
        self._waiting = {one.index: one for one in (Waiting(*value) for value in values)}

    def _enter(self, spending: Spending, visit: int, index: int, state: RunState) -> Waiting:
        batch, since = spending.batch, self._waiting.get(index)
        turned = [] if spending.turned is None else spending.turned[visit].tolist()
        budgets = tuple(name for name, late in zip(self._budgets, turned, strict=False) if late)
        row = self._rows[int(batch.route[visit])]
        return Waiting(
            example=batch.scheduled.names[visit],
            index=index,
            reason=f"no room in budget {', '.join(f'`{name}`' for name in budgets)}" if budgets else row.reason,
            budgets=budgets,
            step=state.step if since is None else since.step,
            epoch=state.epoch if since is None else since.epoch,
            last_step=state.step,
            last_epoch=state.epoch,
            last_phase=state.phase,
            surprisal=int(batch.surprisal[visit]),
            entropy=int(batch.entropy[visit]),
        )

    def _has_room(self, one: Waiting, state: RunState) -> bool:
        return all(_renewed(self._budgets[name], one, state) for name in one.budgets)


def _renewed(budget: BudgetTable, one: Waiting, state: RunState) -> bool:
    """Say whether a budget has been given something back since a visit, or might have room at any time."""
    phased = any((meter, window) == ("surprisal", "phase") for meter, window, _ in budget.meters)
    if budget.per_epoch == NO_LIMIT and not phased:
        return state.step > one.last_step
    later = budget.per_epoch != NO_LIMIT and state.epoch > one.last_epoch
    return later or (phased and state.phase != one.last_phase)
