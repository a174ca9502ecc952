"""Derive every decision, charge and budget of a run again, and compare: no row is believed.

The signed bundle says what should have been done, the signed manifest to whom;
the log says what was done. The first difference raises and is located to the
step and the example. There is no tolerance, but for one place: what an example
wrote, as the log's sketch has it, is measured in floating point.

It is the third implementation of what a policy means, after the gate and the
reference semantics, and shares no code with either: `limits` (rows to shares),
`ledger` (budgets), `metering` (movement and drift), `course` and `checking`
(phases, stages, verifications), `promoting`, `words` (what the log calls it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aqpolicy.bundle.tables import ERROR_ROW, NO_LIMIT
from aqpolicy.errors import CorruptLogError, TraceError
from aqpolicy.lineage import NO_ENTROPY, NO_INDEX, NO_SURPRISAL, NOT_FINITE, NOT_MEASURED, Row, StepBlock
from aqpolicy.trace.auditing.course import Course
from aqpolicy.trace.auditing.ledger import Ledger, Outcome, Visit, concerned
from aqpolicy.trace.auditing.limits import Limits
from aqpolicy.trace.auditing.metering import Metering
from aqpolicy.trace.auditing.report import AuditReport
from aqpolicy.trace.run import FACTORS, Progress, Run, located, open_run
from aqpolicy.trace.sketches import SKETCH, SketchShape, sketch_shape
from aqpolicy.trace.words import REFUSED_EXAMPLE, reason_of, verdict_of
from aqpolicy.trust import Keyring, sha256
from aqpolicy.units import MICRO

if TYPE_CHECKING:
    from aqpolicy.trace.factors import FactorShape

__all__ = ["AuditReport", "audit", "audit_run"]

SLACK: Final = 1e-2
"""Relative room for short floating point where a sketch is compared with a norm."""

ROUNDING: Final = {8: 0.05, 4: 0.5}
"""Relative room for rounding to so many bits."""


def audit_run(folder: Path | str, keyring: Keyring, progress: Progress | None = None) -> AuditReport:
    """Verify a run's signatures and derive all that its log says again.

    Raises:
        CorruptLogError: The first discrepancy; `where` gives step and example.
        AqpolicyError: Log, bundle or manifest is missing, malformed or not signed by a trusted key.
    """
    return audit(open_run(folder, keyring), progress)


def audit(run: Run, progress: Progress | None = None) -> AuditReport:
    """Derive all that the log of an opened run says again.

    Trust:
        `open_run` verified every signature and hash.

    Raises:
        CorruptLogError: The first discrepancy; `where` gives step and example.
        TraceError: The run was resumed: its log does not begin where its budgets do.
    """
    _refuse_resumed(run)
    _check_model(run)
    report = _Auditor(run).walk(progress)
    report.models, report.statuses, report.ended = len(run.models), len(run.statuses), run.verified.ended
    return report


def _factor_shape(run: Run) -> FactorShape:
    """Return how a run's factors are laid out: reading them takes numpy, which no other audit needs."""
    from aqpolicy.trace.factors import factor_shape

    return factor_shape(run)


class _Auditor:
    """A second gate that moves nothing."""

    def __init__(self, run: Run) -> None:
        self._run, self._tables = run, run.tables
        self._ledger, self._limits, self._metering = Ledger(run.tables), Limits(run.tables), Metering(run.tables)
        models: dict[int, list[str]] = {}
        for model in run.models:
            models.setdefault(model["step"], []).append(f"sha256:{model['model']}")
        self._course = Course(run.tables, models)
        self._sketch = sketch_shape(run) if run.genesis.get("record") == SKETCH else None
        self._factors = _factor_shape(run) if run.genesis.get("record") == FACTORS else None
        self._of_run = frozenset(table.name for table in run.tables.attributes if table.origin == "run")
        self._routes: dict[int, int] = {}
        self._report = AuditReport.of(run.run_id, run.bundle.policy_name, run.verified.entries, run.tables)

    def walk(self, progress: Progress | None) -> AuditReport:
        """Audit every step, in order."""
        blocks, report = self._run.blocks, self._report
        events: dict[int, list[dict[str, Any]]] = {}
        for steps, facts in self._run.events:
            events.setdefault(steps, []).append(facts)
        for number, block in enumerate(blocks):
            self._between(number, events.get(number, ()), last=False)
            self._audit_step(block)
            if progress is not None:
                progress(number + 1, len(blocks))
        self._between(len(blocks), events.get(len(blocks), ()), last=not self._run.verified.ended or self._is_halted)
        report.steps, report.epochs = len(blocks), len({block.epoch for block in blocks})
        report.examples = len({row.example_key for _, row in self._run.rows})
        report.checks, report.rollbacks = self._course.checking.checks, self._course.checking.rollbacks
        return report

    @property
    def _is_halted(self) -> bool:
        return bool(self._ledger.halted or self._metering.halted)

    def _between(self, steps: int, events: Sequence[Mapping[str, Any]], *, last: bool) -> None:
        """Follow what happened between two steps."""
        entered = self._course.phases_entered
        with located(f"after {steps} steps"):
            self._course.follow(steps, events, last=last)
        if self._course.phases_entered > entered:
            self._ledger.start_phase()
            self._metering.start("phase")
        self._limits.held = self._course.checking.held

    def _audit_step(self, block: StepBlock) -> None:
        halted = self._ledger.halted or self._metering.halted or self._course.checking.halted
        with located(f"step {block.step}"):
            if halted:
                raise CorruptLogError(f"the run went on although `{halted}` had halted it")
            if self._course.arrive(block):
                self._ledger.start_epoch()
                self._metering.start("epoch")
        visits = [self._identify(block, row) for row in block.rows]
        outcomes = self._ledger.step(visits)
        for row, visit, outcome in zip(block.rows, visits, outcomes, strict=True):
            self._compare(block, row, visit, outcome)
        self._check_budgets(block)
        with located(f"step {block.step}, book"):
            self._check_book(block, outcomes)
            self._metering.check(block.book, concerned(self._tables, visits, outcomes))
        rows = [visit.decided.row for visit in visits]
        shares = [outcome.shares for outcome in outcomes]
        self._limits.book(block.step, list(zip(rows, shares, strict=True)))
        routes = {row.route for row, left in zip(block.rows, shares, strict=True) if any(left)}
        self._course.take(block.step, routes)

    def _identify(self, block: StepBlock, row: Row) -> Visit:
        """Check who a row speaks of and that it got the right row of the table."""
        manifest = self._run.manifest
        where = f"step {block.step}, example `{self._run.name_of(row)}`"
        known = manifest.index_of_key(row.example_key)
        if known != (None if row.manifest_index == NO_INDEX else row.manifest_index):
            raise CorruptLogError("the example is not that of the manifest's observation", where)
        lost = known is None or row.reason_code == REFUSED_EXAMPLE
        if not lost and row.example_key in self._run.unentitled:
            raise CorruptLogError("it was not refused, although no valid credential stands behind its label", where)
        values = {} if known is None or lost else self._values(block, row, known)
        route = ERROR_ROW if known is None or lost else self._route(known, values)
        if row.route != route:
            raise CorruptLogError(
                f"row {row.route} of the mask table was applied; the observation's attributes select row {route}", where
            )
        surprisal = None if row.surprisal == NO_SURPRISAL else row.surprisal
        broken = tuple(group for group, norm in enumerate(row.norms) if norm == NOT_FINITE)
        decided = self._limits.decide(row.example_key, self._tables.rows[route], values, block.step, block.epoch)
        return Visit(row.example_key, decided, surprisal, broken)

    def _values(self, block: StepBlock, row: Row, index: int) -> Mapping[str, object]:
        """Return a visit's attributes: those that were signed, and of those of the run the ones that the tables ask."""
        if not self._of_run:
            return self._run.manifest.attributes(index)
        said: dict[str, object] = {
            "step": block.step * MICRO,
            "epoch": block.epoch * MICRO,
            "today": block.today * MICRO,
            "phase": block.phase,
            "stage": block.stage,
            "surprisal": None if row.surprisal == NO_SURPRISAL else row.surprisal,
            "predictive_entropy": None if row.entropy == NO_ENTROPY else row.entropy,
        }
        return {**self._run.manifest.attributes(index), **{name: said.get(name) for name in self._of_run}}

    def _route(self, index: int, values: Mapping[str, object]) -> int:
        if self._of_run:
            return self._tables.row_of(values)
        if index not in self._routes:
            self._routes[index] = self._tables.row_of(values)
        return self._routes[index]

    def _compare(self, block: StepBlock, row: Row, visit: Visit, outcome: Outcome) -> None:
        """Compare what was logged of one visit with what should have happened."""
        where = f"step {block.step}, example `{self._run.name_of(row)}`"
        table = visit.decided.row
        reason = reason_of(
            outcome.reasons, known=row.manifest_index != NO_INDEX, refused=row.reason_code == REFUSED_EXAMPLE
        )
        verdict = verdict_of(table, outcome.shares, reason, expired=visit.decided.expired)
        triples = enumerate(zip(outcome.reasons, outcome.shares, table.shares, strict=True))
        exceptions = tuple((group, why, left) for group, (why, left, said) in triples if left != said)
        expected: Sequence[tuple[str, object, object]] = (
            ("applied shares", row.exceptions, exceptions),
            ("charges", row.charges, outcome.charges),
            ("reason", row.reason_code, reason),
            ("effect and cause", (row.effect, row.cause), verdict),
        )
        for name, logged, derived in expected:
            if logged != derived:
                raise CorruptLogError(f"the {name} are {logged} in the log and {derived} when derived again", where)
        if self._sketch is not None:
            with located(where):
                self._check_sketch(self._sketch, row, block.book.denominator)
        if self._factors is not None:
            with located(where):
                self._check_factors(self._factors, row, block.book.denominator)
        self._report.count_row(row)

    def _check_factors(self, shape: FactorShape, row: Row, denominator: float) -> None:
        """Check that an example wrote no more than its share, of a gradient that is no longer than its norm."""
        found, slack = shape.norms(row.sketch), 1 + (1 + SLACK) * ROUNDING[shape.bits]
        columns = zip(self._tables.groups, found, self._run.masses(row), row.norms, strict=True)
        for group, (factor, length), mass, norm in columns:
            if factor * max(norm, 0.0) > mass * (1 + SLACK):
                raise CorruptLogError(f"{factor:.4g} of a gradient was written to group `{group}`, its share is less")
            if length > max(norm, 0.0) / denominator * slack:
                raise CorruptLogError(f"the factors of group `{group}` are longer than the norm that was measured")

    def _check_sketch(self, shape: SketchShape, row: Row, denominator: float) -> None:
        """Check that an example wrote no more than its share: nothing at all where the share is 0."""
        sketched = shape.norms(row.sketch)
        if any(share and norm == NOT_MEASURED for share, norm in zip(self._run.applied(row), row.norms, strict=True)):
            raise CorruptLogError("a norm was not measured although the run recorded sketches")
        for group, (written, mass) in enumerate(zip(sketched, self._run.masses(row), strict=True)):
            width, load = shape.widths[group], shape.loads[group]
            # A bucket adds at most `load` numbers, so a sketch is at most sqrt(load) longer; half a level per number
            # is rounding.
            rounding = width**0.5 * shape.scale(row.sketch, group) / 2
            bound = load**0.5 * mass / denominator * (1 + SLACK) + rounding
            if written > bound:
                raise CorruptLogError(
                    f"{written:.4g} was written to group `{self._tables.groups[group]}`, the applied share allows "
                    f"{bound:.4g}"
                )

    def _check_budgets(self, block: StepBlock) -> None:
        """Check the sums of what was logged against the limits; the ledger's own arithmetic is not used here."""
        for number, budget in enumerate(self._tables.budgets):
            epoch = self._ledger.epoch[number]
            self._report.largest_epoch[budget.name] = max(self._report.largest_epoch[budget.name], epoch)
            step = sum(row.charges[number] for row in block.rows)
            windows = [("step", step), ("epoch", epoch), ("phase", self._ledger.phase[number])]
            spent = dict([*windows, ("run", self._report.spent[budget.name])])
            limits = [("epoch", budget.per_epoch), ("run", budget.per_run)]
            limits += [(window, limit) for meter, window, limit in budget.meters if meter == "surprisal"]
            if any(limit != NO_LIMIT and spent[window] > limit for window, limit in limits):
                raise CorruptLogError(f"budget `{budget.name}` is overspent", f"step {block.step}")

    def _check_book(self, block: StepBlock, outcomes: Sequence[Outcome]) -> None:
        """Check that closed groups stood still, and count the step."""
        book = block.book
        for group, name in enumerate(self._tables.groups):
            nobody = not any(outcome.shares[group] for outcome in outcomes)
            if nobody and not book.closed[group]:
                raise CorruptLogError(f"group `{name}` was open although no example may write it")
            if book.closed[group] and book.movement[group]:
                raise CorruptLogError(f"group `{name}` moved although it was closed")
        self._report.count_book(book, len(block.rows))


def _check_model(run: Run) -> None:
    """Compare the model file, where there is one, with the digest last published."""
    path, published = run.folder / "model.pt", run.published
    if not path.exists() or not run.models:
        return
    if published is None or sha256(path.read_bytes()).hex() != published["model"]:
        raise CorruptLogError("the model file is not the one that the log published", "model.pt")


def _refuse_resumed(run: Run) -> None:
    """Refuse a log that does not hold all that its budgets have spent."""
    if run.first_step:
        raise TraceError(
            f"the run was resumed at step {run.first_step}: what it had spent and promised before is in another log, "
            "and its decisions cannot be derived from this one alone"
        )
