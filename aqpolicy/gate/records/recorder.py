"""Turn what a step knew and did into the rows and the book of the lineage log.

It decides nothing. Without a log it still keeps the live totals.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aqpolicy.bundle.tables import CAUSES, EFFECTS, NO_LIMIT, Tables
from aqpolicy.gate.motion.book import Entry
from aqpolicy.gate.records.verdict import Judge
from aqpolicy.lineage import NOT_MEASURED, Book
from aqpolicy.scribe.columns import Floats, Integers, StepColumns
from aqpolicy.units import MICRO

if TYPE_CHECKING:
    from aqpolicy.gate.accounts.state import RunState
    from aqpolicy.gate.accounts.visits import Spending


@dataclass(frozen=True, slots=True)
class StepFacts:
    """All that is known of the visits of a step.

    Shapes:
        spendings: one per part, of all ranks; norms (b, g), float64, over all visits in order, `NOT_MEASURED` where
        the run does not measure them, or None where it measures none; sketches: one record per visit, or None.
    """

    state: RunState
    spendings: tuple[Spending, ...]
    norms: Tensor | None
    sketches: Sequence[bytes] | None
    denominator: float
    visits: tuple[tuple[int, ...], ...] = ()
    """Visits per part, and in it per rank; left out where there is one of each."""


@dataclass(slots=True)
class Totals:
    """Live numbers of a run; `spent` is in millionths of a nat, the masses are sums of norms of gradients.

    Shapes:
        mass (4): what the visits of each effect brought, in the order of `EFFECTS`; offered (g): what all visits
        brought; admitted (g): what of it was let in. Visits whose norm was not measured count nothing.
    """

    mass: Floats
    offered: Floats
    admitted: Floats
    steps: int = 0
    examples: int = 0
    effects: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    spent: dict[str, int] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)


class Log(Protocol):
    """The part of `lineage.LineageWriter` that the gate uses."""

    def append_step(self, block: StepColumns) -> Any:
        """Take a step."""

    def append_event(self, facts: Mapping[str, Any]) -> Any:
        """Take what happened between two steps."""

    def append_model(self, step: int, model_digest: bytes, facts: Mapping[str, Any]) -> Any:
        """Take the digest of a published model."""

    def close(self) -> None:
        """End and sign the log."""


class Recorder:
    """Rows of one run, in the order of its steps."""

    def __init__(self, tables: Tables) -> None:
        """Start before the first step; `log` is set once the gate stands."""
        self._tables = tables
        self.log: Log | None = None
        self.attempt = 0
        """Number of the attempt that steps are made in."""
        self._judge, groups = Judge(tables), len(tables.groups)
        norms = np.array([row.norms for row in tables.rows], np.float64).reshape(-1, groups)
        self._limits = np.where(norms == NO_LIMIT, np.inf, norms / MICRO)
        spent = {budget.name: 0 for budget in tables.budgets}
        self.totals = Totals(np.zeros(len(EFFECTS)), np.zeros(groups), np.zeros(groups), spent=spent)
        self.closed = False

    def append(self, facts: StepFacts, entry: Entry) -> StepColumns:
        """Log a step, to be counted once it is accepted everywhere.

        Raises:
            LineageError: The log did not take it.
        """
        step = self._columns(facts, entry)
        if self.log is not None:
            self.log.append_step(step)
        return step

    def event(self, facts: Mapping[str, Any]) -> None:
        """Log something that happened between two steps; `facts["event"]` says what kind of thing.

        Raises:
            LineageError: The log did not take it.
        """
        if self.log is not None:
            self.log.append_event(facts)
        self.totals.events[str(facts["event"])] += 1

    def close(self) -> None:
        """End the log."""
        self.closed = True
        if self.log is not None:
            self.log.close()

    def _columns(self, facts: StepFacts, entry: Entry) -> StepColumns:
        parts, state = facts.spendings, facts.state
        scheduled = [one.batch.scheduled for one in parts]
        route, index = _joined([one.batch.route for one in parts]), _joined([one.index for one in scheduled])
        shares, reasons = _joined([one.shares for one in parts]), _joined([one.reasons for one in parts])
        deferred, refused = _joined([one.deferred for one in parts]), _joined([one.refused for one in scheduled])
        verdict = self._judge(route, shares, reasons, deferred, index, refused)
        return StepColumns(
            step=state.step,
            epoch=state.epoch,
            phase=state.phase,
            stage=state.stage,
            today=state.today,
            time_ns=time.time_ns(),
            book=self._book(facts, entry),
            keys=b"".join([key for one in scheduled for key in one.keys]),
            index=index,
            route=route,
            effect=verdict.effect,
            cause=verdict.cause,
            reason=verdict.reason,
            surprisal=_joined([one.batch.surprisal for one in parts]),
            entropy=_joined([one.batch.entropy for one in parts]),
            norms=np.full(shares.shape, NOT_MEASURED) if facts.norms is None else facts.norms.numpy(),
            charges=_joined([one.charges for one in parts]),
            exceptions=verdict.exceptions,
            sketches=facts.sketches,
            attempt=self.attempt,
            visits=facts.visits,
        )

    def _book(self, facts: StepFacts, entry: Entry) -> Book:
        none = (0,) * len(self._tables.budgets)
        return Book(
            lr=entry.lr,
            momentum=entry.momentum,
            dampening=entry.dampening,
            weight_decay=entry.weight_decay,
            nesterov=entry.nesterov,
            optimizer=entry.optimizer,
            movement=entry.movement,
            residual=entry.residual,
            closed=entry.closed,
            denominator=facts.denominator,
            mixed=entry.mixed,
            parts=len(facts.spendings),
            loss_scale=entry.loss_scale,
            proposed=entry.proposed,
            factors=entry.factors,
            drift=entry.drift,
            clip=entry.clip,
            second_momentum=entry.second_momentum,
            epsilon=entry.epsilon,
            amsgrad=entry.amsgrad,
            decoupled=entry.decoupled,
            **_accounts(entry),
            movement_charges=entry.movement_charges or none,
            drift_charges=entry.drift_charges or none,
            touched=entry.touched,
        )

    def count(self, facts: StepFacts, step: StepColumns) -> None:
        """Count a step in the totals."""
        totals = self.totals
        totals.steps += 1
        totals.examples += len(step.effect)
        _tally(totals.effects, EFFECTS, step.effect)
        _tally(totals.causes, CAUSES, step.cause)
        for name, spent in zip(totals.spent, step.charges.sum(0).tolist(), strict=True):
            totals.spent[name] += spent
        if facts.norms is None:
            return
        norms = np.where(step.norms > 0, step.norms, 0.0)
        norms[~np.isfinite(norms)] = 0.0
        totals.mass += np.bincount(step.effect, norms.sum(1), len(EFFECTS))
        totals.offered += norms.sum(0)
        shares = _joined([one.shares for one in facts.spendings])
        totals.admitted += (np.minimum(norms, self._limits[step.route]) * shares).sum(0) / MICRO


def _joined(parts: Sequence[Tensor]) -> npt.NDArray[Any]:
    """Return the parts of a step one after the other."""
    return (parts[0] if len(parts) == 1 else torch.cat(list(parts))).numpy()


def _accounts(entry: Entry) -> dict[str, tuple[float, ...]]:
    """Return the columns of a book for what a change is made of; none where that is not known."""
    accounts = entry.accounts
    if accounts is None:
        return {}
    # What was clipped is to what was left as the factors say: clipping bends nothing.
    kept = entry.clip or (1.0,) * len(accounts.fresh)
    haircut = tuple(
        fresh * (1.0 / part - 1.0) if part > 0 else NOT_MEASURED
        for fresh, part in zip(accounts.fresh, kept, strict=True)
    )
    return {"fresh": accounts.fresh, "haircut": haircut, "carry": accounts.carry, "decay": accounts.decay}


def _tally(counter: Counter[str], names: Sequence[str], codes: Integers) -> None:
    for name, count in zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True):
        if count:
            counter[name] += count
