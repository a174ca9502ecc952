"""What a step's examples may take after spending: the budgets, in integers, for whole batches.

All numbers are integers: shares in millionths, surprisal and charges in
millionths of a nat. `spend` changes nothing; `commit` books. A charge never
exceeds what the budget has left, and every budget judges the charges of the
same draft, so the order of budgets is immaterial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

import torch
from torch import Tensor

from aqpolicy.bundle.tables import NO_LIMIT, BudgetTable, Tables
from aqpolicy.errors import BundleError
from aqpolicy.units import MICRO

NOT_FINITE: Final = -1
"""Surprisal of an example whose loss is not a finite number."""

LARGEST_SURPRISAL: Final = 2**31 - 1
"""Surprisals are clipped here: a little over 2147 nats."""

_EVER: Final = 2**62
"""Room where there is no window."""


class Reason(IntEnum):
    """Why an example got other shares than its row of the table says."""

    TABLE = 0
    UNKNOWN_EXAMPLE = 1
    REFUSED_EXAMPLE = 2
    NOT_FINITE = 3
    PER_UPDATE = 4
    EXHAUSTED = 5
    DEFERRED = 6
    ATTENUATED = 7
    HALTED = 8
    GRADIENT_NOT_FINITE = 9


@dataclass(frozen=True, slots=True)
class Batch:
    """The scheduled examples of a step.

    Shapes:
        All (b,). `index` is the manifest's row or -1; `surprisal` is `NOT_FINITE` where the loss is.
    """

    route: Tensor
    index: Tensor
    surprisal: Tensor


@dataclass(frozen=True, slots=True)
class Spending:
    """What is left for each example.

    Shapes:
        shares (b, g), charges (b, budgets), reasons (b, g), deferred (b,).
    """

    batch: Batch
    shares: Tensor
    charges: Tensor
    reasons: Tensor
    deferred: Tensor
    halted: str = ""
    """Name of the budget that stops the run, or nothing."""


class Accountant:
    """All budgets of a policy over a run."""

    def __init__(self, tables: Tables, examples: int) -> None:
        """Start with nothing spent.

        Raises:
            BundleError: A share is outside 0 to 1, which the integers here rely on.
        """
        self.budgets = tables.budgets
        self.shares = _matrix([row.shares for row in tables.rows], len(tables.groups))
        self.charged = _matrix([row.charged for row in tables.rows], len(tables.budgets))
        if ((self.shares < 0) | (self.shares > MICRO)).any() or ((self.charged < 0) | (self.charged > MICRO)).any():
            raise BundleError("the bundle holds a share outside 0 to 1")
        self.epoch = [0] * len(self.budgets)
        self.run = [0] * len(self.budgets)
        self.shown: list[Tensor | None] = [
            None if budget.exposures == NO_LIMIT else torch.zeros(examples, dtype=torch.int64)
            for budget in self.budgets
        ]

    def start_epoch(self) -> None:
        """Give every budget its epoch window back."""
        self.epoch = [0] * len(self.budgets)

    def spend(self, batch: Batch) -> Spending:
        """Return what is left for every example, in batch order."""
        finite = batch.surprisal != NOT_FINITE
        table = self.shares[batch.route]
        charged = self.charged[batch.route] * finite.unsqueeze(1)
        surprisal = batch.surprisal.clamp_min(0)
        draft = self._within_update(table, charged, surprisal) * finite.unsqueeze(1)
        reasons = torch.full_like(draft, Reason.TABLE)
        reasons[draft < table] = Reason.PER_UPDATE
        reasons[~finite] = Reason.NOT_FINITE
        shares, deferred, halted = draft.clone(), torch.zeros_like(finite), ""
        for number, budget in enumerate(self.budgets):
            reach, charge = self._charge(number, draft, charged, surprisal)
            room = self._room(number, batch, reach, charge)
            over = reach & (charge > room)
            if not over.any():
                continue
            if budget.on_exhaust == "halt":
                halted = halted or budget.name
            elif budget.on_exhaust == "defer":
                deferred |= over
            else:
                left = _rest(budget, draft, charge, room)
                _narrow(budget, over, left, shares, reasons)
        shares[deferred], reasons[deferred] = 0, int(Reason.DEFERRED)
        if halted:
            shares, reasons = torch.zeros_like(shares), torch.full_like(reasons, Reason.HALTED)
        spending = Spending(batch, shares, torch.zeros_like(charged), reasons, deferred, halted)
        return replace(spending, charges=self._charges(spending))

    def close(self, spending: Spending, broken: Tensor) -> Spending:
        """Return the spending after the groups of `broken` (b, g) turned out to have no finite gradient."""
        broken = broken & (spending.shares > 0)
        if not broken.any():
            return spending
        shares = spending.shares.masked_fill(broken, 0)
        reasons = spending.reasons.masked_fill(broken, int(Reason.GRADIENT_NOT_FINITE))
        closed = replace(spending, shares=shares, reasons=reasons)
        return replace(closed, charges=self._charges(closed))

    def commit(self, spending: Spending) -> None:
        """Book the charges and exposures of a step that happened."""
        for number, total in enumerate(spending.charges.sum(0).tolist()):
            self.epoch[number] += total
            self.run[number] += total
        charged = self.charged[spending.batch.route]
        for number, shown in enumerate(self.shown):
            if shown is None:
                continue
            reach = self._charge(number, spending.shares, charged, spending.batch.surprisal.clamp_min(0))[0]
            index = spending.batch.index[reach & (spending.batch.index >= 0)]
            shown.index_add_(0, index, torch.ones_like(index))

    def _within_update(self, table: Tensor, charged: Tensor, surprisal: Tensor) -> Tensor:
        """Return the shares after every budget's limit on one update."""
        shares = table.clone()
        for number, budget in enumerate(self.budgets):
            cost = charged[:, number] * surprisal
            if budget.per_update == NO_LIMIT:
                continue
            limit = min(budget.per_update, LARGEST_SURPRISAL + 1)  # beyond it nothing exceeds the limit
            rows = (cost > limit * MICRO).nonzero().squeeze(1)
            if rows.numel():
                for group in budget.groups:
                    left = _scaled(table[rows, group] * limit, cost[rows])
                    shares[rows, group] = torch.minimum(shares[rows, group], left)
        return shares

    def _charge(self, number: int, shares: Tensor, charged: Tensor, surprisal: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether the budget is concerned with each example, and the charge."""
        groups = list(self.budgets[number].groups)
        largest = shares[:, groups].amax(1) * (charged[:, number] > 0)
        return largest > 0, (largest * surprisal + (MICRO - 1)).div(MICRO, rounding_mode="floor")

    def _charges(self, spending: Spending) -> Tensor:
        surprisal, charged = spending.batch.surprisal.clamp_min(0), self.charged[spending.batch.route]
        columns = [self._charge(number, spending.shares, charged, surprisal)[1] for number in range(len(self.budgets))]
        return torch.stack(columns, dim=1) if columns else torch.zeros_like(charged)

    def _room(self, number: int, batch: Batch, reach: Tensor, charge: Tensor) -> Tensor:
        """Return what the tightest window has left before each example; -1 where its exposures are used up."""
        budget = self.budgets[number]
        windows = ((budget.per_epoch, self.epoch[number]), (budget.per_run, self.run[number]))
        room = min((limit - spent for limit, spent in windows if limit != NO_LIMIT), default=_EVER)
        left = (room - (charge.cumsum(0) - charge)).clamp_min(0)
        shown = self.shown[number]
        if shown is None:
            return left
        earlier = _earlier(batch.index, reach)
        used = shown[batch.index.clamp_min(0)] + earlier + 1 > budget.exposures
        return left.masked_fill(used, -1)


def _rest(budget: BudgetTable, draft: Tensor, charge: Tensor, room: Tensor) -> Tensor:
    """Return what an exhausted budget leaves of each covered share, shape (b, covered groups)."""
    covered = draft[:, list(budget.groups)]
    if budget.on_exhaust != "attenuate":
        return torch.zeros_like(covered)
    # Where something is over, the room is less than the charge, so the product stays below 2**52.
    room = torch.minimum(room.clamp_min(0), charge)
    return (covered * room.unsqueeze(1)).div(charge.clamp_min(1).unsqueeze(1), rounding_mode="floor")


def _narrow(budget: BudgetTable, over: Tensor, left: Tensor, shares: Tensor, reasons: Tensor) -> None:
    """Take from the covered groups what does not fit, in place."""
    for column, group in enumerate(budget.groups):
        less = over & (left[:, column] < shares[:, group])
        reason = torch.where(left[:, column] > 0, int(Reason.ATTENUATED), int(Reason.EXHAUSTED))
        shares[:, group] = torch.where(less, left[:, column], shares[:, group])
        reasons[:, group] = torch.where(less, reason, reasons[:, group])


def _scaled(amount: Tensor, cost: Tensor) -> Tensor:
    """Return floor(amount * 10**6 / cost) without overflow, by long division in base 1000."""
    quotient = torch.zeros_like(amount)
    rest = amount
    for digit in (1, 1000, 1000):
        rest = rest * digit
        quotient = quotient * digit + rest.div(cost, rounding_mode="floor")
        rest = rest.remainder(cost)
    return quotient


def _earlier(index: Tensor, reach: Tensor) -> Tensor:
    """Return how many earlier charged visits of the same example this step holds, per example."""
    same = (index.unsqueeze(0) == index.unsqueeze(1)) & reach.unsqueeze(0)
    return same.tril(-1).sum(1)


def _matrix(rows: Sequence[Sequence[int]], columns: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), columns)


def micro_nats(loss: Tensor) -> Tensor:
    """Return surprisals as integers of micro-nats, rounded up and clipped; `NOT_FINITE` where they are not."""
    value = loss.detach().to(device="cpu", dtype=torch.float64)
    whole = (value * MICRO).ceil().nan_to_num(0.0).clamp(0, LARGEST_SURPRISAL).to(torch.int64)
    return whole.masked_fill(~value.isfinite(), NOT_FINITE)
