"""What a run does with its examples: the decisions of one step after the other, in integers, slow and plain.

Input: tables, a `Run` and the visits of one step, part after part; output: what
each visit may write and why, and the `Run` after it. Nothing is changed in place.
The gate's accountant and the auditor's ledger are tested against this.

Decided in this order: row, linear limits, frequency limits, what is held, budgets,
gradients that are not finite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from aqpolicy.bundle.tables import Cause, Effect, Tables
from aqpolicy.semantics.budget import Claim, Judged, Ledger, book, charge_of, charged_share, empty_ledger, judge
from aqpolicy.semantics.budget import start_epoch as epoch_of_budgets
from aqpolicy.semantics.budget import start_phase as phase_of_budgets
from aqpolicy.semantics.deferral import Firsts, Waiting, has_expired, has_room_again, visited
from aqpolicy.semantics.frequency import Written, after_step, limited_groups
from aqpolicy.semantics.reasons import Reason, cause_of_visit, effect_of_visit, reason_of
from aqpolicy.semantics.state import RunState, first_state
from aqpolicy.semantics.visit import Decided, Visit, decide, row_of


@dataclass(frozen=True, slots=True)
class Visited:
    """What became of a visit.

    Shapes:
        shares (g), reasons (g), charges (number of budgets).
    """

    decided: Decided
    shares: tuple[int, ...]
    reasons: tuple[Reason, ...]
    charges: tuple[int, ...]
    reason: Reason
    effect: Effect
    cause: Cause


@dataclass(frozen=True, slots=True)
class Run:
    """All that a run remembers of its examples."""

    state: RunState
    ledger: Ledger
    written: Written = field(default_factory=lambda: MappingProxyType({}), hash=False)
    firsts: Firsts = field(default_factory=lambda: MappingProxyType({}), hash=False)
    queue: Mapping[bytes, Waiting] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    held: frozenset[int] = frozenset()
    """Verifications whose updates are held, by position."""
    halted: str = ""
    """Name of the budget that stopped the run."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did, and the run after it.

    `asked` lists the verifications and promotions of the updates that were admitted, `concerned` says
    per budget whether it is charged for one of them in a group that it covers.
    """

    visits: tuple[Visited, ...]
    run: Run
    asked: frozenset[int]
    concerned: tuple[bool, ...]


def begin(tables: Tables, today: int = 0) -> Run:
    """Return a run before its first step."""
    return Run(first_state(tables, today), empty_ledger(tables.budgets))


def start_epoch(run: Run) -> Run:
    """Return the run in its next epoch."""
    return replace(run, state=replace(run.state, epoch=run.state.epoch + 1), ledger=epoch_of_budgets(run.ledger))


def enter_phase(run: Run, name: str) -> Run:
    """Return the run in a phase that it may enter (`may_enter_phase`)."""
    return replace(run, state=replace(run.state, phase=name), ledger=phase_of_budgets(run.ledger))


def hold(run: Run, obligation: int, *, on: bool) -> Run:
    """Return the run with a verification's updates held, or not any more."""
    return replace(run, held=run.held | {obligation} if on else run.held - {obligation})


def take_step(tables: Tables, run: Run, visits: Sequence[Visit]) -> Step:
    """Take one step over all its visits.

    Args:
        tables: The tables.
        run: The run before the step.
        visits: Every part's visits, part after part.
    """
    decided = [decide(tables, run.state, visit, run.written, run.held) for visit in visits]
    claims = [Claim(v.key, one.shares, one.charged, v.surprisal) for v, one in zip(visits, decided, strict=True)]
    judged, halted = judge(tables.budgets, run.ledger, claims)
    memory = _Memory(tables, run)
    done = tuple(memory.visited(*each) for each in zip(visits, decided, claims, judged, strict=True))
    if halted:
        return Step(done, replace(run, halted=halted), frozenset(), (False,) * len(tables.budgets))
    admitted = [(tables.rows[one.decided.route], one.shares) for one in done if any(one.shares)]
    pairs = [
        (number, group)
        for row, shares in admitted
        for number in row.obligations
        for group in limited_groups(tables.obligations[number])
        if shares[group] > 0
    ]
    after = Run(
        state=replace(run.state, step=run.state.step + 1),
        ledger=book(tables.budgets, run.ledger, claims, [one.shares for one in done]),
        written=after_step(run.written, run.state.step, pairs),
        firsts=memory.firsts,
        queue=MappingProxyType(dict(memory.queue)),
        held=run.held,
    )
    asked = {n for row, _ in admitted for n in row.obligations if tables.obligations[n].kind in ("verify", "promote")}
    concerned = tuple(
        any(charged_share(budget, b, claim, one.shares) > 0 for claim, one in zip(claims, done, strict=True))
        for b, budget in enumerate(tables.budgets)
    )
    return Step(done, after, frozenset(asked), concerned)


def released(tables: Tables, run: Run, observed: Mapping[bytes, Mapping[str, object]]) -> tuple[bytes, ...]:
    """Return the examples of the queue that need not wait any longer, in its order.

    Args:
        tables: The tables.
        run: The run at present.
        observed: The attributes of every example in the queue.
    """
    return tuple(key for key, waiting in run.queue.items() if _is_released(tables, run, waiting, observed[key]))


def _is_released(tables: Tables, run: Run, waiting: Waiting, attributes: Mapping[str, object]) -> bool:
    if waiting.budgets:
        return has_room_again(tables.budgets, waiting, run.state)
    visit = Visit(waiting.key, attributes, waiting.surprisal, waiting.entropy)
    return tables.rows[row_of(tables, run.state, visit)].effect != "defer"


class _Memory:
    """The deferrals and the queue while the visits of a step pass by, in order."""

    def __init__(self, tables: Tables, run: Run) -> None:
        self._tables, self._state = tables, run.state
        self.firsts, self.queue = run.firsts, dict(run.queue)

    def visited(self, visit: Visit, decided: Decided, claim: Claim, judged: Judged) -> Visited:
        """Return what became of one visit, and remember it."""
        tables, row = self._tables, self._tables.rows[decided.route]
        self.firsts = visited(self.firsts, visit.key, row, self._state.epoch)
        expired = has_expired(tables.obligations, self.firsts, visit.key, row, self._state.epoch)
        shares, reasons = _closed(visit, decided, judged, expired=expired)
        reason = reason_of(reasons, known=visit.known, refused=visit.refused)
        effect = effect_of_visit(row, shares, reason, expired=expired)
        self._enqueue(visit, effect, judged.deferred_by)
        return Visited(
            decided=decided,
            shares=shares,
            reasons=reasons,
            charges=tuple(charge_of(budget, b, claim, shares) for b, budget in enumerate(tables.budgets)),
            reason=reason,
            effect=effect,
            cause=cause_of_visit(row, shares, reason, expired=expired),
        )

    def _enqueue(self, visit: Visit, effect: Effect, budgets: tuple[int, ...]) -> None:
        if effect != "defer":
            self.queue.pop(visit.key, None)
            return
        since = self.queue.get(visit.key, self._state)
        entry = Waiting(visit.key, since.step, since.epoch, budgets, self._state, visit.surprisal, visit.entropy)
        self.queue[visit.key] = entry


def _closed(
    visit: Visit, decided: Decided, judged: Judged, *, expired: bool
) -> tuple[tuple[int, ...], tuple[Reason, ...]]:
    """Return shares and reasons when everything has had its say; each group keeps the last cause that lowered it."""
    shares, reasons = list(judged.shares), list(judged.reasons)
    for g, reason in enumerate(reasons):
        if reason is Reason.TABLE:
            reasons[g] = Reason.DEFERRAL_EXPIRED if expired else decided.reasons[g]
        if g in visit.broken and shares[g] > 0:
            shares[g], reasons[g] = 0, Reason.GRADIENT_NOT_FINITE
    return tuple(shares), tuple(reasons)
