"""Spending derived again from the mask tables, in integers, for the auditor.

The gate has its own accountant, written for tensors; this one is written for
reading, one example at a time. Both follow docs/trace.md ("What an audit
derives again"); an audit compares them row by row, so a fault of either shows
as a discrepancy of the log. It decides nothing and raises nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from aqpolicy.bundle.tables import NO_LIMIT, BudgetTable, Row, Tables
from aqpolicy.units import MICRO

TABLE: Final = 0
UNKNOWN_EXAMPLE: Final = 1
REFUSED_EXAMPLE: Final = 2
NOT_FINITE: Final = 3
PER_UPDATE: Final = 4
EXHAUSTED: Final = 5
DEFERRED: Final = 6
ATTENUATED: Final = 7
HALTED: Final = 8
GRADIENT_NOT_FINITE: Final = 9

REASONS: Final = (
    "as the table says",
    "unknown example",
    "refused example",
    "loss not finite",
    "limit per update",
    "budget exhausted",
    "deferred",
    "attenuated to the budget's rest",
    "halted",
    "gradient not finite",
)
"""What the reason codes of the log mean, by number."""

ERRORS: Final = (UNKNOWN_EXAMPLE, REFUSED_EXAMPLE, NOT_FINITE, GRADIENT_NOT_FINITE)
"""Reasons whose cause is `error`, most telling first."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What spending looks at: who, the row of the table, and the surprisal in millionths of a nat.

    `surprisal` is None where the loss was not finite; `broken` names the groups in
    which the example's gradient was not.
    """

    key: bytes
    row: Row
    surprisal: int | None
    broken: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left of one visit.

    Shapes:
        shares (g), reasons (g): a reason code for every group; charges (number of budgets).
    """

    shares: tuple[int, ...]
    reasons: tuple[int, ...]
    charges: tuple[int, ...]


@dataclass(slots=True)
class _Draft:
    """One visit while budgets look at it; `draft` is what they judge, `shares` what they leave."""

    visit: Visit
    draft: tuple[int, ...]
    shares: list[int]
    reasons: list[int]
    deferred: bool = False


@dataclass(slots=True)
class Ledger:
    """What every budget has spent, in millionths of a nat, and how often each example was shown under it."""

    tables: Tables
    epoch: list[int] = field(init=False)
    run: list[int] = field(init=False)
    shown: list[Counter[bytes]] = field(init=False)

    def __post_init__(self) -> None:
        """Start with nothing spent."""
        count = len(self.tables.budgets)
        self.epoch, self.run, self.shown = [0] * count, [0] * count, [Counter() for _ in range(count)]

    def start_epoch(self) -> None:
        """Give every budget its epoch window back."""
        self.epoch = [0] * len(self.epoch)

    def step(self, visits: Sequence[Visit]) -> list[Outcome]:
        """Spend for one step and return what is left of every visit, in batch order."""
        drafts = [_within_update(visit, self.tables.budgets) for visit in visits]
        halts = [self._judge(number, drafts) for number in range(len(self.tables.budgets))]
        return [self._settle(draft, halted=any(halts)) for draft in drafts]

    def _judge(self, number: int, drafts: Sequence[_Draft]) -> bool:
        """Let one budget take what does not fit; return whether it halts the run."""
        budget, halts = self.tables.budgets[number], False
        before, seen = 0, Counter[bytes]()
        for one in drafts:
            if not _reaches(budget, number, one.visit.row, one.draft):
                continue
            charge = _charge(budget, number, one.visit, one.draft)
            room = self._room(number, before, used=self.shown[number][one.visit.key] + seen[one.visit.key])
            before += charge
            seen[one.visit.key] += 1
            if room is None or charge <= room:
                continue
            halts |= budget.on_exhaust == "halt"
            one.deferred |= budget.on_exhaust == "defer"
            if budget.on_exhaust in ("deny", "attenuate"):
                _narrow(one, budget, max(room, 0) if budget.on_exhaust == "attenuate" else 0, charge)
        return halts

    def _room(self, number: int, before: int, *, used: int) -> int | None:
        """Return what is left in the tightest window, -1 where the exposures are used up, None without a window."""
        budget = self.tables.budgets[number]
        if budget.exposures != NO_LIMIT and used + 1 > budget.exposures:
            return -1
        windows = ((budget.per_epoch, self.epoch[number]), (budget.per_run, self.run[number]))
        return min((max(0, limit - spent - before) for limit, spent in windows if limit != NO_LIMIT), default=None)

    def _settle(self, one: _Draft, *, halted: bool) -> Outcome:
        """Book what is finally admitted of one visit."""
        shares, reasons, width = one.shares, one.reasons, len(one.shares)
        if one.deferred:
            shares, reasons = [0] * width, [DEFERRED] * width
        if halted:
            shares, reasons = [0] * width, [HALTED] * width
        for group in one.visit.broken:
            if shares[group]:
                shares[group], reasons[group] = 0, GRADIENT_NOT_FINITE
        charges = tuple(_charge(budget, at, one.visit, shares) for at, budget in enumerate(self.tables.budgets))
        for number, budget in enumerate(self.tables.budgets):
            self.epoch[number] += charges[number]
            self.run[number] += charges[number]
            self.shown[number][one.visit.key] += _reaches(budget, number, one.visit.row, shares)
        return Outcome(tuple(shares), tuple(reasons), charges)


def _within_update(visit: Visit, budgets: Sequence[BudgetTable]) -> _Draft:
    """Return the shares after every budget's limit on one update."""
    row = visit.row
    if visit.surprisal is None:
        nothing = (0,) * len(row.shares)
        return _Draft(visit, nothing, list(nothing), [NOT_FINITE] * len(nothing))
    shares = list(row.shares)
    for budget, share in zip(budgets, row.charged, strict=True):
        cost = share * visit.surprisal
        if budget.per_update != NO_LIMIT and cost > budget.per_update * MICRO:
            for group in budget.groups:
                shares[group] = min(shares[group], row.shares[group] * budget.per_update * MICRO // cost)
    reasons = [PER_UPDATE if left < said else TABLE for left, said in zip(shares, row.shares, strict=True)]
    return _Draft(visit, tuple(shares), shares, reasons)


def _narrow(one: _Draft, budget: BudgetTable, room: int, charge: int) -> None:
    """Leave a visit no more than `room` of its charge in the covered groups."""
    for group in budget.groups:
        left = one.draft[group] * room // max(charge, 1)
        if left < one.shares[group]:
            one.shares[group], one.reasons[group] = left, ATTENUATED if left else EXHAUSTED


def _reaches(budget: BudgetTable, number: int, row: Row, shares: Sequence[int]) -> bool:
    """Return whether a budget applies to a visit and something of it is admitted where the budget looks."""
    return row.charged[number] > 0 and any(shares[group] for group in budget.groups)


def _charge(budget: BudgetTable, number: int, visit: Visit, shares: Sequence[int]) -> int:
    """Return the largest covered share times the surprisal, rounded up; 0 where the budget does not apply."""
    if not _reaches(budget, number, visit.row, shares) or visit.surprisal is None:
        return 0
    return -(-max(shares[group] for group in budget.groups) * visit.surprisal // MICRO)


def reason_of(outcome: Outcome, *, known: bool, refused: bool) -> int:
    """Return the one code by which the log calls what became of a visit."""
    if not known:
        return UNKNOWN_EXAMPLE
    if refused:
        return REFUSED_EXAMPLE
    for reason in (*ERRORS[2:], HALTED, DEFERRED):
        if reason in outcome.reasons:
            return reason
    return max(outcome.reasons, default=TABLE)


def verdict_of(row: Row, shares: Sequence[int], reason: int) -> tuple[str, str]:
    """Return effect and cause of a visit with these applied shares."""
    if reason == DEFERRED:
        effect = "defer"
    elif not any(shares):
        effect = "deny"
    else:
        whole = all(share == MICRO for share in shares) and all(norm == NO_LIMIT for norm in row.norms)
        effect = "admit" if whole else "modulate"
    if reason in ERRORS:
        return effect, "error"
    return effect, "denied" if any(row.shares) and not any(shares) else row.cause
