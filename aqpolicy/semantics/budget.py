"""What budgets mean: the spending of one step, in integers, slow and plain.

The gate's accountant does the same for whole batches at once and is tested
against this. A ledger is data: a step returns a new one and changes nothing. A
step that comes in several parts is all its visits, in the order of the parts.

Budgets do not see each other within a step. Each judges the same draft, the
shares after the limits per update, and the charges of that draft; what is
finally charged can only be less, so no budget is ever overspent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Literal

from aqpolicy.bundle.tables import NO_LIMIT, BudgetTable
from aqpolicy.semantics.reasons import Reason
from aqpolicy.units import MICRO

LARGEST_SURPRISAL: Final = 2**31 - 1
"""Micro-nats at which a surprisal is clipped."""

Shares = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Spent:
    """What one budget has spent, in micro-nats, and how often it has charged each example.

    There is no window per step here: it is fresh in every step.
    """

    epoch: int = 0
    run: int = 0
    exposures: Mapping[bytes, int] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    phase: int = 0


Ledger = tuple[Spent, ...]
"""One `Spent` per budget."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One visit as budgets see it.

    Shapes:
        shares (g), charged (number of budgets).
    """

    key: bytes
    shares: Shares
    """What it would get without budgets; above 1,000,000 where it is amplified."""
    charged: Shares
    """Per budget the largest covered share, 0 where the budget does not apply."""
    surprisal: int | None
    """Micro-nats, rounded up and clipped; None where the loss was not finite."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What budgets leave of one visit; `deferred_by` lists the budgets that deferred it.

    Shapes:
        shares (g), reasons (g).
    """

    shares: Shares
    reasons: tuple[Reason, ...]
    deferred_by: tuple[int, ...] = ()


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


def empty_ledger(budgets: Sequence[BudgetTable]) -> Ledger:
    """Return the ledger of a run that has not begun."""
    return tuple(Spent() for _ in budgets)


def start_epoch(ledger: Ledger) -> Ledger:
    """Return the ledger with fresh windows per epoch."""
    return tuple(replace(spent, epoch=0) for spent in ledger)


def start_phase(ledger: Ledger) -> Ledger:
    """Return the ledger with fresh windows per phase."""
    return tuple(replace(spent, phase=0) for spent in ledger)


def surprisal_windows(budget: BudgetTable) -> Mapping[str, int]:
    """Return a budget's limits of nats by window, without the limit per update."""
    columns = {"epoch": budget.per_epoch, "run": budget.per_run}
    others = {window: limit for meter, window, limit in budget.meters if meter == "surprisal"}
    return MappingProxyType({name: limit for name, limit in columns.items() if limit != NO_LIMIT} | others)


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
    columns = zip(keys, shares, charged, surprisals, strict=True)
    claims = [Claim(key, tuple(said), tuple(cost), surprisal) for key, said, cost, surprisal in columns]
    judged, halted = judge(budgets, ledger, claims)
    outcomes = tuple(_outcome(budgets, *pair) for pair in zip(claims, judged, strict=True))
    return StepSpending(outcomes, book(budgets, ledger, claims, [one.shares for one in judged]), halted)


def judge(budgets: Sequence[BudgetTable], ledger: Ledger, claims: Sequence[Claim]) -> tuple[list[Judged], str | None]:
    """Return what budgets leave of the visits of one step, in order, and the name of the budget that halts the run.

    Args:
        budgets: The budgets.
        ledger: What was spent before the step.
        claims: The visits of the whole step, part after part.
    """
    first = [_within_update(budgets, claim) for claim in claims]
    left = [list(zip(one.shares, one.reasons, strict=True)) for one in first]
    deferred: list[list[int]] = [[] for _ in claims]
    halted: str | None = None
    for b, budget in enumerate(budgets):
        for n, charge, room in _misfits(budget, ledger[b], b, claims, [one.shares for one in first]):
            if budget.on_exhaust == "halt":
                halted = halted or budget.name
            elif budget.on_exhaust == "defer":
                deferred[n].append(b)
            else:
                _narrow(left[n], first[n].shares, budget, charge, room if budget.on_exhaust == "attenuate" else 0)
    judged = [_judged(*pair) for pair in zip(left, deferred, strict=True)]
    return [_nothing(one, Reason.HALTED) if halted else one for one in judged], halted


def book(
    budgets: Sequence[BudgetTable], ledger: Ledger, claims: Sequence[Claim], shares: Sequence[Sequence[int]]
) -> Ledger:
    """Return the ledger after a step in which the visits finally took these shares.

    Shapes:
        shares (n, g).
    """
    pairs = list(zip(claims, shares, strict=True))
    booked = []
    for b, (budget, spent) in enumerate(zip(budgets, ledger, strict=True)):
        total = sum(charge_of(budget, b, *pair) for pair in pairs)
        shown = Counter(claim.key for claim, left in pairs if charged_share(budget, b, claim, left) > 0)
        exposures = MappingProxyType(dict(shown + Counter(spent.exposures)))
        booked.append(Spent(spent.epoch + total, spent.run + total, exposures, spent.phase + total))
    return tuple(booked)


def charged_share(budget: BudgetTable, b: int, claim: Claim, shares: Sequence[int]) -> int:
    """Return the largest share that a visit takes of a budget's groups; 0 where the budget does not apply."""
    return max((shares[g] for g in budget.groups), default=0) if claim.charged[b] > 0 else 0


def charge_of(budget: BudgetTable, b: int, claim: Claim, shares: Sequence[int]) -> int:
    """Return the micro-nats that a visit is charged where it takes these shares, rounded up."""
    return -(-charged_share(budget, b, claim, shares) * (claim.surprisal or 0) // MICRO)


def _within_update(budgets: Sequence[BudgetTable], claim: Claim) -> Judged:
    """Apply every budget's limit per update; each group keeps the least."""
    if claim.surprisal is None:
        return Judged((0,) * len(claim.shares), (Reason.NOT_FINITE,) * len(claim.shares))
    draft = list(claim.shares)
    for budget, share in zip(budgets, claim.charged, strict=True):
        cost = share * claim.surprisal  # millionths of a micro-nat
        if budget.per_update != NO_LIMIT and cost > budget.per_update * MICRO:
            for g in budget.groups:
                draft[g] = min(draft[g], claim.shares[g] * budget.per_update * MICRO // cost)
    pairs = zip(draft, claim.shares, strict=True)
    return Judged(tuple(draft), tuple(Reason.PER_UPDATE if left < said else Reason.TABLE for left, said in pairs))


def _misfits(
    budget: BudgetTable, spent: Spent, b: int, claims: Sequence[Claim], drafts: Sequence[Shares]
) -> Iterator[tuple[int, int, int]]:
    """Yield the visits that do not fit a budget any more: their number, their charge, and what was left for them."""
    was = {"step": 0, "epoch": spent.epoch, "phase": spent.phase, "run": spent.run}
    rooms = [limit - was[window] for window, limit in surprisal_windows(budget).items()]
    before, seen = 0, Counter[bytes]()
    for n, (claim, draft) in enumerate(zip(claims, drafts, strict=True)):
        if charged_share(budget, b, claim, draft) == 0:
            continue
        charge = charge_of(budget, b, claim, draft)
        room = min((max(room - before, 0) for room in rooms), default=charge)
        count = spent.exposures.get(claim.key, 0) + seen[claim.key] + 1
        before += charge
        seen[claim.key] += 1
        if budget.exposures != NO_LIMIT and count > budget.exposures:
            yield n, charge, 0
        elif charge > room:
            yield n, charge, room


def _narrow(left: list[tuple[int, Reason]], draft: Shares, budget: BudgetTable, charge: int, room: int) -> None:
    """Leave a visit that part of its covered shares for which there is room."""
    for g in budget.groups:
        share = draft[g] * room // max(charge, 1)
        if share < left[g][0]:
            left[g] = (share, Reason.ATTENUATED if share else Reason.EXHAUSTED)


def _judged(left: list[tuple[int, Reason]], deferred: list[int]) -> Judged:
    shares, reasons = tuple(share for share, _ in left), tuple(reason for _, reason in left)
    one = Judged(shares, reasons, tuple(deferred))
    return _nothing(one, Reason.DEFERRED) if deferred else one


def _nothing(one: Judged, reason: Reason) -> Judged:
    return replace(one, shares=(0,) * len(one.shares), reasons=(reason,) * len(one.reasons))


def _outcome(budgets: Sequence[BudgetTable], claim: Claim, one: Judged) -> Outcome:
    charges = tuple(charge_of(budget, b, claim, one.shares) for b, budget in enumerate(budgets))
    if Reason.DEFERRED in one.reasons:
        return Outcome("defer", one.shares, one.reasons, charges)
    if one.shares == claim.shares:
        return Outcome(None, one.shares, one.reasons, charges)
    return Outcome("modulate" if any(one.shares) else "deny", one.shares, one.reasons, charges)
