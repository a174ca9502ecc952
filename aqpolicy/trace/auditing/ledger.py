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

from aqpolicy.bundle.tables import NO_LIMIT, BudgetTable, Tables
from aqpolicy.trace.auditing.limits import Decided
from aqpolicy.trace.words import ATTENUATED, DEFERRED, EXHAUSTED, GRADIENT_NOT_FINITE, HALTED, NOT_FINITE, PER_UPDATE
from aqpolicy.units import MICRO


@dataclass(frozen=True, slots=True)
class Visit:
    """What spending looks at: who, what was decided, and the surprisal in millionths of a nat.

    `surprisal` is None where the loss was not finite; `broken` names the groups in
    which the example's gradient was not.
    """

    key: bytes
    decided: Decided
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
    phase: list[int] = field(init=False)
    run: list[int] = field(init=False)
    shown: list[Counter[bytes]] = field(init=False)
    halted: str = ""
    """The budget that has stopped the run."""

    def __post_init__(self) -> None:
        """Start with nothing spent."""
        count = len(self.tables.budgets)
        self.epoch, self.phase, self.run = [0] * count, [0] * count, [0] * count
        self.shown = [Counter() for _ in range(count)]

    def start_epoch(self) -> None:
        """Give every budget its epoch window back."""
        self.epoch = [0] * len(self.epoch)

    def start_phase(self) -> None:
        """Give every budget its phase window back."""
        self.phase = [0] * len(self.phase)

    def windows(self, number: int) -> list[tuple[int, int]]:
        """Return limit and spending of every window of a budget, before a step; that of the step is always fresh."""
        budget = self.tables.budgets[number]
        spent = {"step": 0, "epoch": self.epoch[number], "phase": self.phase[number], "run": self.run[number]}
        limits = [("epoch", budget.per_epoch), ("run", budget.per_run)]
        limits += [(window, limit) for meter, window, limit in budget.meters if meter == "surprisal"]
        return [(limit, spent[window]) for window, limit in limits if limit != NO_LIMIT]

    def step(self, visits: Sequence[Visit]) -> list[Outcome]:
        """Spend for one step and return what is left of every visit, in order of parts, ranks and batch."""
        drafts = [_within_update(visit, self.tables.budgets) for visit in visits]
        halts = [self._judge(number, drafts) for number in range(len(self.tables.budgets))]
        if any(halts):
            self.halted = self.tables.budgets[halts.index(True)].name
        return [self._settle(draft) for draft in drafts]

    def _judge(self, number: int, drafts: Sequence[_Draft]) -> bool:
        """Let one budget take what does not fit; return whether it halts the run."""
        budget, halts = self.tables.budgets[number], False
        before, seen = 0, Counter[bytes]()
        for one in drafts:
            if not _reaches(budget, number, one.visit, one.draft):
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
        return min((max(0, limit - spent - before) for limit, spent in self.windows(number)), default=None)

    def _settle(self, one: _Draft) -> Outcome:
        """Book what is finally admitted of one visit."""
        shares, reasons, width = one.shares, one.reasons, len(one.shares)
        if one.deferred:
            shares, reasons = [0] * width, [DEFERRED] * width
        if self.halted:
            shares, reasons = [0] * width, [HALTED] * width
        for group in one.visit.broken:
            if shares[group]:
                shares[group], reasons[group] = 0, GRADIENT_NOT_FINITE
        charges = tuple(_charge(budget, at, one.visit, shares) for at, budget in enumerate(self.tables.budgets))
        for number, budget in enumerate(self.tables.budgets):
            for window in (self.epoch, self.phase, self.run):
                window[number] += charges[number]
            self.shown[number][one.visit.key] += _reaches(budget, number, one.visit, shares)
        return Outcome(tuple(shares), tuple(reasons), charges)


def concerned(tables: Tables, visits: Sequence[Visit], outcomes: Sequence[Outcome]) -> tuple[bool, ...]:
    """Return, per budget, whether a step admitted something into its groups that it is charged for."""
    pairs = list(zip(visits, outcomes, strict=True))
    return tuple(
        any(_reaches(budget, number, visit, outcome.shares) for visit, outcome in pairs)
        for number, budget in enumerate(tables.budgets)
    )


def _within_update(visit: Visit, budgets: Sequence[BudgetTable]) -> _Draft:
    """Return the shares after every budget's limit on one update."""
    said = visit.decided.shares
    if visit.surprisal is None:
        nothing = (0,) * len(said)
        return _Draft(visit, nothing, list(nothing), [NOT_FINITE] * len(nothing))
    shares, reasons = list(said), list(visit.decided.reasons)
    for budget, share in zip(budgets, visit.decided.charged, strict=True):
        cost = share * visit.surprisal
        if budget.per_update != NO_LIMIT and cost > budget.per_update * MICRO:
            for group in budget.groups:
                left = said[group] * budget.per_update * MICRO // cost
                if left < shares[group]:
                    shares[group], reasons[group] = left, PER_UPDATE
    return _Draft(visit, tuple(shares), shares, reasons)


def _narrow(one: _Draft, budget: BudgetTable, room: int, charge: int) -> None:
    """Leave a visit no more than `room` of its charge in the covered groups."""
    for group in budget.groups:
        left = one.draft[group] * room // max(charge, 1)
        if left < one.shares[group]:
            one.shares[group], one.reasons[group] = left, ATTENUATED if left else EXHAUSTED


def _reaches(budget: BudgetTable, number: int, visit: Visit, shares: Sequence[int]) -> bool:
    """Return whether a budget applies to a visit and something of it is admitted where the budget looks."""
    return visit.decided.charged[number] > 0 and any(shares[group] for group in budget.groups)


def _charge(budget: BudgetTable, number: int, visit: Visit, shares: Sequence[int]) -> int:
    """Return the largest covered share times the surprisal, rounded up; 0 where the budget does not apply."""
    if not _reaches(budget, number, visit, shares) or visit.surprisal is None:
        return 0
    return -(-max(shares[group] for group in budget.groups) * visit.surprisal // MICRO)
