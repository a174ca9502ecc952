"""What a run may still do: budgets, frequency limits, holds, deferrals and the queue, in integers, for whole batches.

`spend` notes what the open step drafts, so that several parts of a step give what
one batch would; only `commit` books. `begin_step` forgets a step that was not
committed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor

from aqpolicy.bundle import Tables
from aqpolicy.errors import IllegalTrainingSetupError, InternalError
from aqpolicy.gate.accounts.decisions import Decisions
from aqpolicy.gate.accounts.ledger import Ledger, halt
from aqpolicy.gate.accounts.obligations import Checks, Closures, Deferrals
from aqpolicy.gate.accounts.queue import Queue, Waiting
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import (
    LARGEST_ENTROPY,
    LARGEST_SURPRISAL,
    NOT_FINITE,
    Batch,
    Reason,
    Spending,
    micro_nats,
)

__all__ = [
    "LARGEST_ENTROPY",
    "LARGEST_SURPRISAL",
    "NOT_FINITE",
    "Accountant",
    "Batch",
    "Reason",
    "Spending",
    "Waiting",
    "micro_nats",
]

_WINDOWS: Final = ("epoch", "phase", "run")


class Accountant:
    """All that a run must remember of its steps to keep a policy's promises."""

    def __init__(self, tables: Tables, examples: int) -> None:
        """Start with nothing spent and nobody waiting.

        Args:
            tables: The tables.
            examples: How many observations the manifest has.
        """
        self._tables, self._examples = tables, examples
        self._state = RunState()
        self._ledger = Ledger(tables, examples)
        self._closures, self._deferrals, self._queue = Closures(tables), Deferrals(tables), Queue(tables)
        self._checks = Checks(tables)

    @property
    def epoch(self) -> list[int]:
        """Per budget, the micro-nats spent in this epoch."""
        return self._ledger.epoch

    @property
    def phase(self) -> list[int]:
        """Per budget, the micro-nats spent in this phase."""
        return self._ledger.phase

    @property
    def run(self) -> list[int]:
        """Per budget, the micro-nats spent in this run."""
        return self._ledger.run

    @property
    def shown(self) -> list[Tensor | None]:
        """Per budget, how often each example was charged; None where that is not limited."""
        return [None if exposures is None else exposures.shown for exposures in self._ledger.exposures]

    @property
    def queue(self) -> tuple[Waiting, ...]:
        """Every example whose last visit was deferred, the longest waiting first."""
        return self._queue.waiting

    @property
    def since(self) -> Mapping[int, Mapping[int, int]]:
        """By example's index and obligation, the epoch of the first of its deferrals that still stand."""
        return self._deferrals.since

    def begin_step(self, state: RunState) -> None:
        """Open a step, in this state of the run."""
        self._state = state
        self._ledger.begin_step()
        self._closures.begin_step(state.step)
        self._deferrals.begin_step()

    def spend(self, batch: Batch) -> Spending:
        """Return what is left for every visit of one part of the step, in order."""
        batch, waits = self._deferrals.judge(self._closures.apply(batch), self._state.epoch)
        return self._ledger.spend(batch, waits)

    def close(self, spending: Spending, broken: Tensor) -> Spending:
        """Return the spending after the groups of `broken` (b, g) turned out to have no finite gradient."""
        broken = broken & (spending.shares > 0)
        if not broken.any():
            return spending
        shares = spending.shares.masked_fill(broken, 0)
        reasons = spending.reasons.masked_fill(broken, int(Reason.GRADIENT_NOT_FINITE))
        return replace(spending, shares=shares, charges=self._ledger.charges(spending.batch, shares), reasons=reasons)

    def halt(self, spendings: Sequence[Spending]) -> tuple[Spending, ...]:
        """Return all parts of a step as the budget that halted in one of them leaves them."""
        names = [one.halted for one in spendings if one.halted]
        return tuple(halt(one, names[0]) for one in spendings) if names else tuple(spendings)

    def commit(self, spendings: Sequence[Spending]) -> None:
        """Book a step that happened, all its parts in order."""
        self._ledger.book(spendings)
        self._closures.book(spendings, self._state.step)
        self._deferrals.book()
        self._queue.book(spendings, self._state)

    def start_epoch(self) -> None:
        """Give every budget its epoch window back."""
        self._ledger.epoch = [0] * len(self._ledger.budgets)

    def start_phase(self) -> None:
        """Give every budget its phase window back."""
        self._ledger.phase = [0] * len(self._ledger.budgets)

    def hold(self, obligation: int, on: bool) -> None:
        """Deny every update that asks for a verification, until it is no longer held."""
        self._closures.hold(obligation, on=on)

    def asked(self, spendings: Sequence[Spending]) -> frozenset[int]:
        """Return the positions of the verifications and promotions that the step's admitted updates ask for."""
        return self._checks.asked(spendings)

    def concerned(self, spendings: Sequence[Spending]) -> tuple[bool, ...]:
        """Return, per budget, whether a visit that it charges is admitted in one of its groups."""
        every = [self._ledger.reached(one.batch, one.shares).any(0) for one in spendings]
        found = torch.stack(every).any(0).tolist() if every else [False] * len(self._ledger.budgets)
        return tuple(found)

    def released(self, decisions: Decisions, state: RunState) -> tuple[str, ...]:
        """Return the examples of the queue that need not wait any more in a state of the run."""
        return self._queue.released(decisions, state)

    def state_dict(self) -> dict[str, Any]:
        """Return all that was booked, as plain values and tensors; an open step is not in it."""
        return {
            "budgets": [budget.name for budget in self._tables.budgets],
            "obligations": [[one.kind, one.rule] for one in self._tables.obligations],
            "spent": {window: list(getattr(self._ledger, window)) for window in _WINDOWS},
            "shown": [None if shown is None else shown.clone() for shown in self.shown],
            "written": [[*key, list(steps)] for key, steps in self._closures.written.items()],
            "held": sorted(self._closures.held),
            "since": [
                [index, obligation, epoch]
                for index, since in self._deferrals.since.items()
                for obligation, epoch in since.items()
            ],
            "queue": self._queue.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            IllegalTrainingSetupError: It is of another policy or manifest; nothing was changed.
        """
        fresh = Accountant(self._tables, self._examples)
        try:
            fresh._restore(state)
        except (AttributeError, InternalError, LookupError, TypeError, ValueError) as error:
            raise IllegalTrainingSetupError(
                "the saved accounts are of another policy or manifest; resume with the bundle and the manifest "
                f"that the run began with ({type(error).__name__}: {error})"
            ) from error
        self._state = fresh._state
        self._ledger, self._closures = fresh._ledger, fresh._closures
        self._deferrals, self._queue = fresh._deferrals, fresh._queue

    def _restore(self, state: Mapping[str, Any]) -> None:
        own = self.state_dict()
        if any(list(map(list, state[name])) != list(map(list, own[name])) for name in ("budgets", "obligations")):
            raise ValueError("other budgets or obligations")
        for window in _WINDOWS:
            spent = [int(value) for value in state["spent"][window]]
            if len(spent) != len(self._ledger.budgets) or min(spent, default=0) < 0:
                raise ValueError("not one amount per budget")
            setattr(self._ledger, window, spent)
        for exposures, shown in zip(self._ledger.exposures, state["shown"], strict=True):
            if exposures is not None:
                exposures.restore(shown)
        self._closures.restore(state["written"], state["held"])
        for index, obligation, epoch in state["since"]:
            self._deferrals.since.setdefault(int(index), {})[int(obligation)] = int(epoch)
        self._queue.restore(state["queue"])
