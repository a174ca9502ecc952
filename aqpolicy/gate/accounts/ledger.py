"""Budgets of surprisal and exposures over the windows of a run, in integers, for whole batches.

Every budget judges the charges of the same draft (the shares after the limits per
update), so the order of budgets is immaterial; and a charge never exceeds what the
budget has left. Charges of drafts that did not fit count within the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from aqpolicy.bundle import LARGEST_SHARE, NO_LIMIT, BudgetTable, Tables
from aqpolicy.gate.accounts.exposures import Exposures
from aqpolicy.gate.accounts.quotients import part_of, within
from aqpolicy.gate.accounts.visits import LARGEST_SURPRISAL, Batch, Reason, Spending, coverage, largest
from aqpolicy.units import MICRO

_EVER: Final = 2**62
"""Room where there is no window."""

_LARGEST_CHARGE: Final = LARGEST_SHARE // MICRO * LARGEST_SURPRISAL
"""Micro-nats of the dearest visit there can be; a limit per update beyond it never binds."""


class Ledger:
    """What all budgets have spent."""

    def __init__(self, tables: Tables, examples: int) -> None:
        """Start with nothing spent."""
        self.budgets = tables.budgets
        self.epoch, self.phase, self.run = ([0] * len(self.budgets) for _ in range(3))
        self.exposures = [
            None if budget.exposures == NO_LIMIT else Exposures(budget.exposures, examples) for budget in self.budgets
        ]
        self._coverage = coverage(tables)
        self._covers = self._coverage > 0
        self._windows = [_windows(budget) for budget in self.budgets]
        self._bounded = any(budget.per_update != NO_LIMIT for budget in self.budgets)
        self._per_update = torch.tensor(
            [_per_update(budget) for budget in self.budgets], dtype=torch.int64, device="cpu"
        )
        self._drafted = [0] * len(self.budgets)
        """Charges of this step's drafts so far."""

    def begin_step(self) -> None:
        """Forget what an uncompleted step drafted."""
        self._drafted = [0] * len(self.budgets)
        for exposures in self.exposures:
            if exposures is not None:
                exposures.begin_step()

    def spend(self, batch: Batch, waits: Tensor) -> Spending:
        """Return what is left for every visit, in batch order, after the parts of the step before.

        Args:
            batch: The visits as decided.
            waits: Which of them their row defers.

        Shapes:
            waits (b,).
        """
        if not self.budgets:
            return Spending(batch, batch.shares, batch.charged, batch.reasons, waits)
        cost = batch.charged * batch.surprisal.clamp_min(0).unsqueeze(1)
        spending = Spending(batch, batch.shares, _rounded_up(cost), batch.reasons, waits)
        if self._bounded and bool((over := cost > self._per_update).any()):
            spending = self._within_update(spending, cost, over)
        totals = spending.charges.sum(0).tolist()
        judged = [n for n in range(len(totals)) if self.exposures[n] is not None or totals[n] > self._room(n)]
        left = self._judged(spending, judged) if judged else spending
        self._drafted = [before + total for before, total in zip(self._drafted, totals, strict=True)]
        return left

    def charges(self, batch: Batch, shares: Tensor) -> Tensor:
        """Return what shares cost, rounded up to micro-nats, shape (b, budgets)."""
        if not self.budgets:
            return batch.charged
        taken = largest(shares, self._coverage) * (batch.charged > 0)
        return _rounded_up(taken * batch.surprisal.clamp_min(0).unsqueeze(1))

    def reached(self, batch: Batch, shares: Tensor) -> Tensor:
        """Return which budgets apply to a visit of which something is admitted where they look, (b, budgets)."""
        return (largest(shares, self._coverage) > 0) & (batch.charged > 0)

    def book(self, spendings: Sequence[Spending]) -> None:
        """Book the charges and exposures of a step that happened."""
        for one in spendings:
            for n, total in enumerate(one.charges.sum(0).tolist()):
                for window in (self.epoch, self.phase, self.run):
                    window[n] += total
            for n, exposures in enumerate(self.exposures):
                if exposures is not None:
                    exposures.book(one.batch.scheduled.index, self.reached(one.batch, one.shares)[:, n])
        self.begin_step()

    def _room(self, number: int) -> int:
        """Return what the tightest window of a budget has left for the rest of this step."""
        spent = {"step": 0, "epoch": self.epoch[number], "phase": self.phase[number], "run": self.run[number]}
        room = min((limit - spent[window] for window, limit in self._windows[number]), default=_EVER)
        return min(room, _EVER) - self._drafted[number]

    def _within_update(self, spending: Spending, cost: Tensor, over: Tensor) -> Spending:
        """Return the draft: shares after every budget's limit on one update."""
        batch, shares = spending.batch, spending.shares
        surprisal = batch.surprisal.clamp_min(1).unsqueeze(1)
        limits = torch.minimum(cost, self._per_update)
        for n, bounds in enumerate(over.any(0).tolist()):
            if bounds:
                visits = slice(n, n + 1)
                left = within(batch.shares, limits[:, visits], batch.charged[:, visits].clamp_min(1), surprisal)
                less = over[:, visits] & self._covers[n]
                shares = torch.where(less, torch.minimum(shares, left), shares)
        reasons = batch.reasons.masked_fill(shares < batch.shares, int(Reason.PER_UPDATE))
        return replace(spending, shares=shares, charges=self.charges(batch, shares), reasons=reasons)

    def _judged(self, draft: Spending, judged: Sequence[int]) -> Spending:
        """Let the budgets that may be exceeded take what does not fit."""
        left, turned, halted = draft, torch.zeros_like(draft.charges, dtype=torch.bool), ""
        for n in judged:
            budget, room = self.budgets[n], self._room_before(n, draft)
            over = draft.charges[:, n] > room
            if not bool(over.any()):
                continue
            if budget.on_exhaust == "halt":
                halted = halted or budget.name
            elif budget.on_exhaust == "defer":
                turned[:, n] = over
            else:
                rest = room if budget.on_exhaust == "attenuate" else None
                left = _narrowed(left, draft, n, over.unsqueeze(1) & self._covers[n], rest)
        if halted:
            return halt(draft, halted)
        late = turned.any(1)
        if bool(late.any()):
            left = _emptied(left, late.unsqueeze(1), Reason.DEFERRED)
            left = replace(left, deferred=draft.deferred | late, turned=turned)
        return replace(left, charges=self.charges(draft.batch, left.shares))

    def _room_before(self, number: int, draft: Spending) -> Tensor:
        """Return what is left before each visit; below its charge, even if that is 0, where exposures are used up."""
        charge = draft.charges[:, number]
        left = (self._room(number) - (charge.cumsum(0) - charge)).clamp_min(0)
        exposures = self.exposures[number]
        if exposures is None:
            return left
        reached = self.reached(draft.batch, draft.shares)[:, number]
        return left.masked_fill(exposures.used_up(draft.batch.scheduled.index, reached), -1)


def halt(spending: Spending, budget: str) -> Spending:
    """Return a spending as a budget that halts leaves it: nothing is taken."""
    everyone = torch.ones_like(spending.deferred).unsqueeze(1)
    left = _emptied(spending, everyone, Reason.HALTED)
    if left.turned is not None:  # an earlier part of the step, in which budgets had visits wait
        left = replace(left, deferred=left.deferred & ~left.turned.any(1), turned=None)
    return replace(left, charges=torch.zeros_like(spending.charges), halted=budget)


def _windows(budget: BudgetTable) -> list[tuple[str, int]]:
    known = [("epoch", budget.per_epoch), ("run", budget.per_run)]
    known += [(window, limit) for meter, window, limit in budget.meters if meter == "surprisal"]
    return [(window, limit) for window, limit in known if limit != NO_LIMIT]


def _per_update(budget: BudgetTable) -> int:
    """Return the limit per update as millionths of a micro-nat."""
    limit = _LARGEST_CHARGE if budget.per_update == NO_LIMIT else budget.per_update
    return min(limit, _LARGEST_CHARGE) * MICRO


def _rounded_up(cost: Tensor) -> Tensor:
    return (cost + (MICRO - 1)).div_(MICRO, rounding_mode="trunc")


def _emptied(spending: Spending, visits: Tensor, reason: Reason) -> Spending:
    """Take everything from visits (b, 1)."""
    reasons = spending.reasons.masked_fill(visits, int(reason))
    return replace(spending, shares=spending.shares.masked_fill(visits, 0), reasons=reasons)


def _narrowed(left: Spending, draft: Spending, number: int, where: Tensor, room: Tensor | None) -> Spending:
    """Take from covered groups of visits that do not fit (b, g) what exceeds the room (b,), or everything."""
    if room is None:
        less = where & (left.shares > 0)
        reasons = left.reasons.masked_fill(less, int(Reason.EXHAUSTED))
        return replace(left, shares=left.shares.masked_fill(less, 0), reasons=reasons)
    charge = draft.charges[:, number]
    part = torch.minimum(room.clamp_min(0), charge)
    rest = part_of(draft.shares, part.unsqueeze(1), charge.clamp_min(1).unsqueeze(1))
    less = where & (rest < left.shares)
    reason = torch.where(rest > 0, int(Reason.ATTENUATED), int(Reason.EXHAUSTED))
    return replace(left, shares=torch.where(less, rest, left.shares), reasons=torch.where(less, reason, left.reasons))
