"""What budgets mean: the spending of one step, in integers, slow and plain.

The gate's accountant does the same for whole batches at once and is tested
against this. A ledger is data: a step returns a new one and changes nothing.

Budgets do not see each other within a step. Each judges the same draft, the
shares after the limits per update, and the charges of that draft; what is
finally charged can only be less, so no budget is ever overspent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from aqpolicy.bundle.tables import NO_LIMIT, BudgetTable
from aqpolicy.units import MICRO

LARGEST_SURPRISAL: Final = 2**31 - 1
"""Micro-nats at which a surprisal is clipped."""

Reason = Literal[
    "as the table says",
    "limit per update",
    "loss not finite",
    "budget exhausted",
    "attenuated to the budget's rest",
    "deferred",
    "halted",
]
"""Why a group's share is what it is."""

Shares = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Spent:
    """What one budget has spent, in micro-nats, and how often it has charged each example."""

    epoch: int = 0
    run: int = 0
    exposures: Mapping[bytes, int] = field(default_factory=lambda: MappingProxyType({}), hash=False)


Ledger = tuple[Spent, ...]
"""One `Spent` per budget."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one example may take.

    Shapes:
        shares (g), reasons (g), charges (number of budgets).
    """

    effect: Literal["deny", "defer", "modulate"] | None
    """None where the row's own effect stands, because its shares do."""
    shares: Shares
    reasons: tuple[Reason, ...]
    charges: tuple[int, ...]
    """Micro-nats."""


@dataclass(frozen=True, slots=True)
class StepSpending:
    """What one step takes, and the ledger after it; where `halted` names a budget, nothing is taken."""

    outcomes: tuple[Outcome, ...]
    ledger: Ledger
    halted: str | None


@dataclass(frozen=True, slots=True)
class _Visit:
    """One example of the batch; `draft` is its shares after the limits per update."""

    key: bytes
    table: Shares
    charged: Shares
    surprisal: int | None
    draft: Shares


def empty_ledger(budgets: Sequence[BudgetTable]) -> Ledger:
    """Return the ledger of a run that has not begun."""
    return tuple(Spent() for _ in budgets)


def start_epoch(ledger: Ledger) -> Ledger:
    """Return the ledger with fresh windows per epoch."""
    return tuple(Spent(0, spent.run, spent.exposures) for spent in ledger)


def spend(  # noqa: PLR0917 - the columns of one batch
    budgets: Sequence[BudgetTable],
    ledger: Ledger,
    shares: Iterable[Sequence[int]],
    charged: Iterable[Sequence[int]],
    surprisals: Iterable[int | None],
    keys: Iterable[bytes],
) -> StepSpending:
    """Spend one step over a batch, in batch order.

    Args:
        budgets: The budgets.
        ledger: What was spent before.
        shares: What the rows admit.
        charged: What the rows charge.
        surprisals: Micro-nats, rounded up and clipped; None where the loss was not finite.
        keys: Which example each is, for exposures.

    Shapes:
        shares (n, g), charged (n, budgets), surprisals (n), keys (n).
    """
    visits = [_visit(budgets, *each) for each in zip(shares, charged, surprisals, keys, strict=True)]
    drafts: list[list[tuple[int, Reason]]] = [_first(visit) for visit in visits]
    deferred: set[int] = set()
    halted: str | None = None
    for b, budget in enumerate(budgets):
        for n, room in _misfits(budget, ledger[b], b, visits):
            if budget.on_exhaust == "halt":
                halted = halted or budget.name
            elif budget.on_exhaust == "defer":
                deferred.add(n)
            else:
                _narrow(drafts[n], visits[n], budget, b, room if budget.on_exhaust == "attenuate" else 0)
    for n, draft in enumerate(drafts):
        if n in deferred or halted:
            draft[:] = [(0, "halted" if halted else "deferred")] * len(draft)
    outcomes = tuple(_outcome(budgets, *pair) for pair in zip(visits, drafts, strict=True))
    booked = tuple(_booked(spent, b, budgets[b], visits, outcomes) for b, spent in enumerate(ledger))
    return StepSpending(outcomes, booked, halted)


def _visit(
    budgets: Sequence[BudgetTable], table: Sequence[int], charged: Sequence[int], surprisal: int | None, key: bytes
) -> _Visit:
    """Apply every budget's limit per update; each group keeps the least."""
    draft = [0 if surprisal is None else share for share in table]
    for budget, share in zip(budgets, charged, strict=True):
        cost = share * (surprisal or 0)  # millionths of a micro-nat
        if budget.per_update != NO_LIMIT and cost > budget.per_update * MICRO:
            for g in budget.groups:
                draft[g] = min(draft[g], table[g] * budget.per_update * MICRO // cost)
    return _Visit(key, tuple(table), tuple(charged), surprisal, tuple(draft))


def _first(visit: _Visit) -> list[tuple[int, Reason]]:
    """Return the draft's shares, each with its reason so far."""
    if visit.surprisal is None:
        return [(0, "loss not finite")] * len(visit.draft)
    pairs = zip(visit.draft, visit.table, strict=True)
    return [(left, "limit per update" if left < said else "as the table says") for left, said in pairs]


def _charged_share(visit: _Visit, b: int, budget: BudgetTable, shares: Sequence[int]) -> int:
    """Return the largest share that a visit takes of a budget's groups; 0 where the budget does not apply."""
    return max((shares[g] for g in budget.groups), default=0) if visit.charged[b] > 0 else 0


def _charge(visit: _Visit, b: int, budget: BudgetTable, shares: Sequence[int]) -> int:
    """Return the micro-nats of a visit, rounded up."""
    return -(-_charged_share(visit, b, budget, shares) * (visit.surprisal or 0) // MICRO)


def _misfits(budget: BudgetTable, spent: Spent, b: int, visits: Sequence[_Visit]) -> Iterable[tuple[int, int]]:
    """Yield the visits that do not fit a budget any more, each with the micro-nats that were left for it."""
    windows = [(budget.per_epoch, spent.epoch), (budget.per_run, spent.run)]
    before, seen = 0, Counter[bytes]()
    for n, visit in enumerate(visits):
        if _charged_share(visit, b, budget, visit.draft) == 0:
            continue
        charge = _charge(visit, b, budget, visit.draft)
        room = min((max(limit - was - before, 0) for limit, was in windows if limit != NO_LIMIT), default=charge)
        count = spent.exposures.get(visit.key, 0) + seen[visit.key] + 1
        before += charge
        seen[visit.key] += 1
        if budget.exposures != NO_LIMIT and count > budget.exposures:
            yield n, 0
        elif charge > room:
            yield n, room


def _narrow(draft: list[tuple[int, Reason]], visit: _Visit, budget: BudgetTable, b: int, room: int) -> None:
    """Leave a visit that part of its covered shares for which there is room."""
    charge = _charge(visit, b, budget, visit.draft)
    for g in budget.groups:
        left = visit.draft[g] * room // max(charge, 1)
        if left < draft[g][0]:
            draft[g] = (left, "attenuated to the budget's rest" if left else "budget exhausted")


def _outcome(budgets: Sequence[BudgetTable], visit: _Visit, draft: list[tuple[int, Reason]]) -> Outcome:
    shares, reasons = tuple(share for share, _ in draft), tuple(reason for _, reason in draft)
    charges = tuple(_charge(visit, b, budget, shares) for b, budget in enumerate(budgets))
    if "deferred" in reasons:
        return Outcome("defer", shares, reasons, charges)
    if shares == visit.table:
        return Outcome(None, shares, reasons, charges)
    return Outcome("modulate" if any(shares) else "deny", shares, reasons, charges)


def _booked(spent: Spent, b: int, budget: BudgetTable, visits: Sequence[_Visit], outcomes: Sequence[Outcome]) -> Spent:
    """Book what was finally taken; an example is exposed when the budget charges a share of it above 0."""
    pairs = list(zip(visits, outcomes, strict=True))
    total = sum(outcome.charges[b] for outcome in outcomes)
    shown = Counter(visit.key for visit, one in pairs if _charged_share(visit, b, budget, one.shares) > 0)
    exposures = MappingProxyType(dict(shown + Counter(spent.exposures)))
    return Spent(spent.epoch + total, spent.run + total, exposures)
