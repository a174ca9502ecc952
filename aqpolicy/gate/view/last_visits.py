"""The last visit of every example, kept as one row of integers for each, by manifest index.

A step is only put on a list. When the list is full, its older half is written
as rows, but only what no later visit has replaced: where epochs are
shorter than the list, that is nothing. An example takes
`44 + 12 * groups + 8 * budgets` bytes, most of them only once it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from aqpolicy.bundle.tables import Tables
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import NOT_FINITE, Spending
from aqpolicy.lineage import NOT_FINITE as NORM_NOT_FINITE
from aqpolicy.lineage import NOT_MEASURED

LISTED: Final = 2**16
"""Visits that the list may hold."""

FACTS: Final = 8
"""Numbers of a row that do not depend on the policy."""

TURNED_AWAY: Final = -1
"""Charge of a budget that deferred the visit."""

_NEVER: Final = -1
_LARGEST_STEP: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class LastVisit:
    """What became of an example when it was visited last.

    Shapes:
        shares, reasons, norms (g); charges (number of budgets).

    Units:
        surprisal, entropy, charges: millionths of a nat; shares: millionths.
    """

    visits: int
    """How often the example has been visited."""
    step: int
    epoch: int
    phase: str
    stage: str
    route: int
    surprisal: int | None
    """None where the loss was not finite."""
    entropy: int | None
    """None where it was not finite or not given."""
    deferred: bool
    shares: tuple[int, ...]
    reasons: tuple[int, ...]
    charges: tuple[int, ...]
    norms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    state: RunState
    spendings: tuple[Spending, ...]
    norms: Tensor | None
    first: int
    """Number of its first visit; visits are numbered through the run."""
    size: int

    def index(self) -> Tensor:
        """Return the manifest index of every visit."""
        return torch.cat([part.batch.scheduled.index for part in self.spendings])


class LastVisits:
    """What became of each example of a manifest when it was visited last."""

    def __init__(self, tables: Tables, examples: int, listed: int = LISTED) -> None:
        """Start with nothing visited.

        Args:
            tables: The policy's tables.
            examples: How many observations the manifest has.
            listed: How many visits the list may hold.
        """
        groups, budgets = len(tables.groups), len(tables.budgets)
        self._phases = ("", *tables.phases)
        self._stages = ("", *(stage.name for stage in tables.stages))
        self._visits = torch.zeros(examples, dtype=torch.int32, device="cpu")
        self._latest = torch.full((examples,), _NEVER, dtype=torch.int64, device="cpu")
        # Memory that is never written is never taken.
        self._rows = torch.empty(examples, FACTS + 3 * groups + 2 * budgets, dtype=torch.int32, device="cpu")
        self._groups, self._listed, self._count = groups, listed, 0
        self._steps: list[_Step] = []
        self._unmarked = 0
        """How many steps at the end of the list the rows know nothing of."""

    def observe(self, state: RunState, spendings: Sequence[Spending], norms: Tensor | None) -> None:
        """Take note of a step that happened.

        Args:
            state: The state of the run in that step.
            spendings: Its parts, in order.
            norms: Norms of the examples' own gradients over all parts; None where they are not measured.

        Shapes:
            norms (b, g).
        """
        size = sum(part.shares.shape[0] for part in spendings)
        self._steps.append(_Step(state, tuple(spendings), norms, self._count, size))
        self._count += size
        self._unmarked += 1
        if self._count - self._steps[0].first > self._listed:
            self._settle((len(self._steps) + 1) // 2)

    def of(self, index: int) -> LastVisit | None:
        """Return the last visit of an example, or None where it has not been visited."""
        self._settle(len(self._steps))
        if not self._visits[index]:
            return None
        row, ends = self._rows[index], [FACTS + part * self._groups for part in range(4)]
        step, epoch, phase, stage, route, surprisal, entropy, deferred = row[:FACTS].tolist()
        return LastVisit(
            visits=int(self._visits[index]),
            step=step,
            epoch=epoch,
            phase=self._phases[phase],
            stage=self._stages[stage],
            route=route,
            surprisal=None if surprisal == NOT_FINITE else surprisal,
            entropy=None if entropy == NOT_FINITE else entropy,
            deferred=bool(deferred),
            shares=tuple(row[ends[0] : ends[1]].tolist()),
            reasons=tuple(row[ends[1] : ends[2]].tolist()),
            norms=tuple(row[ends[2] : ends[3]].clone().view(torch.float32).tolist()),
            charges=tuple(row[ends[3] :].clone().view(torch.int64).tolist()),
        )

    def _settle(self, count: int) -> None:
        """Take the oldest steps from the list, and write what no later visit has replaced."""
        self._mark()
        steps = self._steps[:count]
        del self._steps[:count]
        if not steps:
            return
        index = torch.cat([step.index() for step in steps])
        number = torch.arange(steps[0].first, steps[0].first + len(index), device="cpu")
        rows = ((index >= 0) & (self._latest[index] == number)).nonzero().squeeze(1)
        if rows.numel():
            self._write(index[rows], rows, steps)

    def _mark(self) -> None:
        """Note of every new visit that it is the latest of its example so far, and count it."""
        fresh = self._steps[len(self._steps) - self._unmarked :]
        if fresh:
            index = torch.cat([step.index() for step in fresh])
            known = (index >= 0).nonzero().squeeze(1)
            at = index[known]
            self._latest.scatter_reduce_(0, at, fresh[0].first + known, "amax")
            self._visits.index_add_(0, at, torch.ones_like(at, dtype=torch.int32))
        self._unmarked = 0

    def _write(self, at: Tensor, rows: Tensor, steps: Sequence[_Step]) -> None:
        """Write visits as rows of 32 bits: facts, shares, reasons, the bits of norms and of charges."""
        parts = [part for step in steps for part in step.spendings]
        columns = (
            self._states(steps),
            torch.cat([_visit_facts(part) for part in parts]).int(),
            torch.cat([part.shares for part in parts]).int(),
            torch.cat([part.reasons for part in parts]).int(),
            torch.cat([self._norms_of(step) for step in steps]).view(torch.int32),
            torch.cat([_charges(part) for part in parts]).view(torch.int32),
        )
        self._rows.index_copy_(0, at, torch.cat(columns, dim=1).index_select(0, rows))

    def _states(self, steps: Sequence[_Step]) -> Tensor:
        """Return step, epoch, phase and stage of every visit."""
        facts = [
            (min(s.step, _LARGEST_STEP), s.epoch, self._phases.index(s.phase), self._stages.index(s.stage))
            for s in (step.state for step in steps)
        ]
        return torch.tensor(facts, dtype=torch.int32, device="cpu").repeat_interleave(
            torch.tensor([step.size for step in steps], device="cpu"), dim=0
        )

    def _norms_of(self, step: _Step) -> Tensor:
        if step.norms is None:
            return torch.full((step.size, self._groups), NOT_MEASURED, device="cpu")
        return step.norms.to("cpu", torch.float32).nan_to_num(NORM_NOT_FINITE, NORM_NOT_FINITE, NORM_NOT_FINITE)


def _visit_facts(part: Spending) -> Tensor:
    batch = part.batch
    return torch.stack([batch.route, batch.surprisal, batch.entropy, part.deferred.long()], dim=1)


def _charges(part: Spending) -> Tensor:
    return part.charges if part.turned is None else part.charges.masked_fill(part.turned, TURNED_AWAY)
