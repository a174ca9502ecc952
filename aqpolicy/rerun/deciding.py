"""What a policy would have decided in a run, visit by visit, without training.

From the log come who was in which step, surprisal, entropy and where a gradient was
not finite; from the manifest the signed attributes; from the bundle everything
else. The parts are the auditor's (`trace.limits`, `trace.ledger`, `trace.words`).
What only training can tell (metrics, movement, drift) stays as it was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aqpolicy.bundle import Bundle
from aqpolicy.bundle.tables import ERROR_ROW, Tables
from aqpolicy.errors import TraceError
from aqpolicy.lineage import NO_ENTROPY, NO_INDEX, NO_SURPRISAL, NOT_FINITE, Row, StepBlock
from aqpolicy.trace import Run
from aqpolicy.trace.auditing.course import Course
from aqpolicy.trace.auditing.ledger import Ledger, Outcome, Visit
from aqpolicy.trace.auditing.limits import Limits
from aqpolicy.trace.words import REFUSED_EXAMPLE, reason_of, verdict_of
from aqpolicy.units import MICRO


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a visit.

    Shapes:
        shares (g), norms (g): in millionths, -1 where a norm has no limit; by the groups of the policy that decided.
    """

    effect: str
    cause: str
    reason: int
    shares: tuple[int, ...]
    norms: tuple[int, ...]
    rules: tuple[str, ...]
    charges: tuple[int, ...]


@dataclass(slots=True)
class Deciding:
    """A policy that goes through the visits of a run."""

    run: Run
    bundle: Bundle
    halted: str = ""
    """The budget that would have stopped the run."""
    _ledger: Ledger = field(init=False)
    _limits: Limits = field(init=False)
    _course: Course = field(init=False)
    _events: dict[int, list[dict[str, Any]]] = field(init=False)
    _foreseen: dict[int, int] = field(init=False)
    _broken: tuple[int | None, ...] = field(init=False)
    _phase: str = field(init=False, default="")

    def __post_init__(self) -> None:
        """Begin where the run began.

        Raises:
            TraceError: The policy cannot be asked about this run.
        """
        tables = self.bundle.tables
        refuse_other_course(self.run, self.bundle)
        self._ledger, self._limits = Ledger(tables), Limits(tables)
        models: dict[int, list[str]] = {}
        for model in self.run.models:
            models.setdefault(model["step"], []).append(f"sha256:{model['model']}")
        self._course = Course(self.run.tables, models)
        self._events = {}
        for steps, facts in self.run.events:
            self._events.setdefault(steps, []).append(facts)
        self._foreseen = _same_obligations(self.run.tables, tables)
        groups = {name: number for number, name in enumerate(tables.groups)}
        self._broken = tuple(groups.get(name) for name in self.run.tables.groups)

    def step(self, number: int) -> list[Decision] | None:
        """Decide about the visits of the run's step at a place, in order; None once the run would have been halted.

        Args:
            number: The place; each is asked for once, in order.
        """
        if self.halted:
            return None
        block = self.run.blocks[number]
        self._arrive(number, block)
        visits = [self._visit(block, row) for row in block.rows]
        outcomes = self._ledger.step(visits)
        self.halted = self._ledger.halted
        pairs = list(zip((visit.decided.row for visit in visits), (one.shares for one in outcomes), strict=True))
        self._limits.book(block.step, pairs)
        admitted = [row.route for row in block.rows if any(self.run.applied(row))]
        self._course.take(block.step, set(admitted))
        return [_decision(*one) for one in zip(block.rows, visits, outcomes, strict=True)]

    def _arrive(self, number: int, block: StepBlock) -> None:
        """Follow what happened before a step: epochs, phases, and which verifications hold their updates."""
        self._course.follow(number, self._events.get(number, ()), last=False)
        if self._course.arrive(block):
            self._ledger.start_epoch()
        if block.phase != (self._phase or block.phase):
            self._ledger.start_phase()
        self._phase = block.phase
        held = self._course.checking.held
        self._limits.held = frozenset(self._foreseen[one] for one in held if one in self._foreseen)

    def _visit(self, block: StepBlock, row: Row) -> Visit:
        tables, index = self.bundle.tables, row.manifest_index
        lost = index == NO_INDEX or row.reason_code == REFUSED_EXAMPLE
        values = {} if lost else values_of(self.run, tables, block, row)
        route = ERROR_ROW if lost else tables.row_of(values)
        decided = self._limits.decide(row.example_key, tables.rows[route], values, block.step, block.epoch)
        broken = [at for at, norm in zip(self._broken, row.norms, strict=True) if norm == NOT_FINITE and at is not None]
        surprisal = None if row.surprisal == NO_SURPRISAL else row.surprisal
        return Visit(row.example_key, decided, surprisal, tuple(broken))


def recorded(run: Run, row: Row) -> Decision:
    """Return what the log says became of a visit."""
    table = run.tables.rows[row.route]
    return Decision(row.effect, row.cause, row.reason_code, run.applied(row), table.norms, table.rules, row.charges)


def values_of(run: Run, tables: Tables, block: StepBlock, row: Row) -> Mapping[str, object]:
    """Return a visit's attributes: those that were signed, and of those of the run the ones that tables ask for."""
    signed = run.manifest.attributes(row.manifest_index)
    said: dict[str, object] = {
        "step": block.step * MICRO,
        "epoch": block.epoch * MICRO,
        "today": block.today * MICRO,
        "phase": block.phase,
        "stage": block.stage,
        "surprisal": None if row.surprisal == NO_SURPRISAL else row.surprisal,
        "predictive_entropy": None if row.entropy == NO_ENTROPY else row.entropy,
    }
    return {**signed, **{table.name: said.get(table.name) for table in tables.attributes if table.origin == "run"}}


def refuse_other_course(run: Run, bundle: Bundle) -> None:
    """Refuse a policy that a run cannot be asked about.

    Raises:
        TraceError: It speaks of another taxonomy, or names phases or stages that the run did not go through, or what
            the run had spent before is in another log.
    """
    if run.first_step:
        raise TraceError(f"the run was resumed at step {run.first_step}; what it had spent before is in another log")
    if bundle.taxonomy != run.manifest.taxonomy:
        raise TraceError(
            f"the bundle speaks of `{bundle.taxonomy}`, the run's manifest of `{run.manifest.taxonomy}`; "
            "compile the policy with that"
        )
    now, then = bundle.tables, run.tables
    for kind, names, before in (
        ("phases", now.phases, then.phases),
        ("stages", tuple(one.name for one in now.stages), tuple(one.name for one in then.stages)),
    ):
        if names and names != before:
            raise TraceError(
                f"the policy has other {kind} than the run, and nobody can say when the run would have entered them; "
                "train it again (--train)"
            )


def unforeseen(run: Run, bundle: Bundle) -> tuple[str, ...]:
    """Return what of a policy only training can tell, in words."""
    now = bundle.tables
    meters = sorted({meter for one in now.budgets for meter, _, _ in one.meters if meter != "surprisal"})
    found = [f"budgets of {meter}: what would have moved is not known" for meter in meters]
    known = set(_same_obligations(run.tables, now).values())
    new = [one.text for at, one in enumerate(now.obligations) if one.kind == "verify" and at not in known]
    found += [f"`{text}`: the run did not make this check" for text in new]
    if any(table.name == "predictive_entropy" and table.origin == "run" for table in now.attributes) and all(
        row.entropy == NO_ENTROPY for _, row in run.rows
    ):
        found.append("predictive entropy: the run recorded none, so what depends on it is denied as an error")
    return (*found, "surprisal, entropy and norms are those of the run; other updates would have made others")


def _same_obligations(then: Tables, now: Tables) -> dict[int, int]:
    """Return which obligation of the run is which of the policy: kind, text and parameters are the same."""
    rest = {number: (one.kind, one.text, dict(one.parameters)) for number, one in enumerate(then.obligations)}
    found: dict[int, int] = {}
    for number, one in enumerate(now.obligations):
        asked = (one.kind, one.text, dict(one.parameters))
        at = next((at for at, other in rest.items() if other == asked), None)
        if at is not None:
            del rest[at]
            found[at] = number
    return found


def _decision(row: Row, visit: Visit, outcome: Outcome) -> Decision:
    table, shares = visit.decided.row, outcome.shares
    refused = row.reason_code == REFUSED_EXAMPLE
    reason = reason_of(outcome.reasons, known=row.manifest_index != NO_INDEX, refused=refused)
    effect, cause = verdict_of(table, shares, reason, expired=visit.decided.expired)
    return Decision(effect, cause, reason, shares, table.norms, table.rules, outcome.charges)


def decisions(run: Run, bundle: Bundle) -> tuple[Sequence[Sequence[Decision] | None], str]:
    """Return what a policy decides about every visit, by step (None after a halt), and the budget that halts, if any.

    Raises:
        TraceError: The policy cannot be asked about this run.
    """
    deciding = Deciding(run, bundle)
    found = [deciding.step(number) for number in range(len(run.blocks))]
    return found, deciding.halted
