"""Turn what a step knew and did into the rows and the book of the lineage log.

It decides nothing. Without a log it still keeps the live totals.
"""

from __future__ import annotations

import io
import struct
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

from aqpolicy.bundle.tables import CAUSES, EFFECTS, NO_LIMIT, Tables
from aqpolicy.gate.accountant import NOT_FINITE, Reason, Spending
from aqpolicy.gate.book import Entry
from aqpolicy.gate.examples import UNKNOWN, Scheduled
from aqpolicy.gate.sketch import SketchPlan
from aqpolicy.lineage import NO_INDEX, NO_SURPRISAL, Book, Row, StepBlock
from aqpolicy.trust import encode_base64, replace_file, sha256
from aqpolicy.units import MICRO

NORM_NOT_FINITE: Final = -1.0
"""What the log holds in place of a norm that is no finite number."""

_WHOLE_ROW: Final = (
    Reason.UNKNOWN_EXAMPLE,
    Reason.REFUSED_EXAMPLE,
    Reason.NOT_FINITE,
    Reason.GRADIENT_NOT_FINITE,
    Reason.HALTED,
    Reason.DEFERRED,
)
"""Reasons that make up a row's reason before those that lowered a group, most telling first."""


@dataclass(frozen=True, slots=True)
class StepFacts:
    """All that is known of the examples of a step.

    Shapes:
        norms (b, g); sketches: one record per example, or None.
    """

    scheduled: Scheduled
    spending: Spending
    norms: Tensor
    sketches: Sequence[bytes] | None


@dataclass(slots=True)
class Totals:
    """Live numbers of a run; `spent` is in millionths of a nat."""

    steps: int = 0
    examples: int = 0
    effects: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    spent: dict[str, int] = field(default_factory=dict)


class Log(Protocol):
    """The part of `lineage.LineageWriter` that the gate uses."""

    def append_step(self, block: StepBlock) -> Any:
        """Take a step."""

    def append_model(self, step: int, model_digest: bytes, facts: Mapping[str, Any]) -> Any:
        """Take the digest of a published model."""

    def close(self) -> None:
        """End and sign the log."""


class Recorder:
    """Rows of one run, in the order of its steps."""

    def __init__(self, tables: Tables, run: Path | None = None) -> None:
        """Start before the first step of epoch 0; `log` is set once the gate stands."""
        self._tables, self._run = tables, run
        self.log: Log | None = None
        self._shares = [row.shares for row in tables.rows]
        self._limited = [any(norm != NO_LIMIT for norm in row.norms) for row in tables.rows]
        self._causes = [row.cause for row in tables.rows]
        self.totals = Totals(spent={budget.name: 0 for budget in tables.budgets})
        self.epoch = 0
        self.closed = False

    def append(self, facts: StepFacts, entry: Entry) -> None:
        """Log a step, then count it."""
        rows = self._rows(facts)
        if self.log is not None:
            self.log.append_step(self._block(rows, entry))
        totals = self.totals
        totals.steps += 1
        totals.examples += len(rows)
        totals.effects.update(row.effect for row in rows)
        totals.causes.update(row.cause for row in rows)
        for budget, spent in zip(self._tables.budgets, facts.spending.charges.sum(0).tolist(), strict=True):
            totals.spent[budget.name] += spent

    def finish(self, model: nn.Module, plan: SketchPlan, travelled: Sequence[Tensor]) -> None:
        """Publish the model: its digest into the log, then the model beside it."""
        if self.log is None or self._run is None:
            return
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        data = file.getvalue()
        facts = {"sketch_k": plan.k, "sketch_seed": plan.seed, "travelled": _packed(travelled)}
        # The log first: nothing leaves the process before its lineage is durable.
        self.log.append_model(self.totals.steps, sha256(data), facts)
        replace_file(self._run / "model.pt", data)

    def close(self) -> None:
        """End the log."""
        self.closed = True
        if self.log is not None:
            self.log.close()

    def _block(self, rows: tuple[Row, ...], entry: Entry) -> StepBlock:
        book = Book(
            lr=entry.lr,
            momentum=entry.momentum,
            dampening=entry.dampening,
            weight_decay=entry.weight_decay,
            nesterov=entry.nesterov,
            optimizer=entry.optimizer,
            movement=entry.movement,
            residual=entry.residual,
            closed=entry.closed,
            denominator=len(rows),
        )
        now = time.time_ns()
        return StepBlock(attempt=0, step=self.totals.steps, epoch=self.epoch, time_ns=now, rows=rows, book=book)

    def _rows(self, facts: StepFacts) -> tuple[Row, ...]:
        scheduled, spending = facts.scheduled, facts.spending
        norms = facts.norms.nan_to_num(NORM_NOT_FINITE, NORM_NOT_FINITE, NORM_NOT_FINITE).tolist()
        shares, reasons = spending.shares.tolist(), spending.reasons.tolist()
        columns = (scheduled.keys, scheduled.index.tolist(), scheduled.route.tolist(), scheduled.refused.tolist())
        surprisals, charges = spending.batch.surprisal.tolist(), spending.charges.tolist()
        sketches = facts.sketches or [b""] * len(shares)
        rows = []
        for key, index, route, refused, left, why, surprisal, charge, norm, sketch in zip(
            *columns, shares, reasons, surprisals, charges, norms, sketches, strict=True
        ):
            reason = _reason(index, why, refused=refused)
            rows.append(
                Row(
                    example_key=key,
                    manifest_index=NO_INDEX if index == UNKNOWN else index,
                    route=route,
                    effect=self._effect(route, left, reason),
                    cause=self._cause(route, left, reason),
                    reason_code=int(reason),
                    surprisal=NO_SURPRISAL if surprisal == NOT_FINITE else surprisal,
                    norms=tuple(norm),
                    charges=tuple(charge),
                    exceptions=tuple(
                        (group, why[group], share)
                        for group, (share, said) in enumerate(zip(left, self._shares[route], strict=True))
                        if share != said
                    ),
                    sketch=sketch,
                )
            )
        return tuple(rows)

    def _effect(self, route: int, shares: Sequence[int], reason: Reason) -> str:
        if reason is Reason.DEFERRED:
            return EFFECTS[1]
        if not any(shares):
            return EFFECTS[0]
        whole = all(share == MICRO for share in shares) and not self._limited[route]
        return EFFECTS[3] if whole else EFFECTS[2]

    def _cause(self, route: int, shares: Sequence[int], reason: Reason) -> str:
        if reason in _WHOLE_ROW[:4]:
            return CAUSES[3]
        if reason is not Reason.TABLE and not any(shares):
            return CAUSES[1] if any(self._shares[route]) else self._causes[route]
        return self._causes[route]


def _packed(travelled: Sequence[Tensor]) -> list[str]:
    """Return each group's sketch as base64 of little-endian float32."""
    return [
        encode_base64(struct.pack(f"<{sketch.numel()}f", *sketch.detach().to("cpu", torch.float32).tolist()))
        for sketch in travelled
    ]


def _reason(index: int, reasons: Sequence[int], *, refused: bool) -> Reason:
    """Return the one reason by which the log calls what became of an example."""
    if index == UNKNOWN:
        return Reason.UNKNOWN_EXAMPLE
    if refused:
        return Reason.REFUSED_EXAMPLE
    if not any(reasons):
        return Reason.TABLE
    for reason in _WHOLE_ROW:
        if reason in reasons:
            return reason
    return Reason(max(reasons))
