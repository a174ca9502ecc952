"""Derive every decision, charge and budget of a run again, and compare: no row is believed.

The signed bundle says what should have been done, the signed manifest to whom;
the log says what was done. The first difference raises and is located to the
step and the example. There is no tolerance, but for one place: what an example
wrote, as the log's sketch has it, is measured in floating point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aqpolicy.bundle.tables import ERROR_ROW, NO_LIMIT
from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage import NO_INDEX, NO_SURPRISAL, Row, StepBlock
from aqpolicy.trace.ledger import REASONS, REFUSED_EXAMPLE, Ledger, Outcome, Visit, reason_of, verdict_of
from aqpolicy.trace.run import SKETCH, Progress, Run, SketchShape, located, open_run, sketch_shape
from aqpolicy.trust import Keyring, sha256
from aqpolicy.units import micro_text

SLACK: Final = 1e-2
"""Relative room for short floating point where a sketch is compared with a norm."""


@dataclass(slots=True)
class AuditReport:
    """What a run that obeyed its policy did. Charges are in millionths of a nat."""

    run: str
    policy: str
    entries: int
    steps: int = 0
    epochs: int = 0
    rows: int = 0
    examples: int = 0
    effects: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    exceptions: Counter[str] = field(default_factory=Counter)
    spent: dict[str, int] = field(default_factory=dict)
    """Per budget, over the whole run."""
    largest_epoch: dict[str, int] = field(default_factory=dict)
    """Per budget, the most that one epoch spent."""
    movement: dict[str, float] = field(default_factory=dict)
    """Per group, the sum of its step lengths."""
    worst_residual: dict[str, float] = field(default_factory=dict)
    """Per group, the largest part of a step that the recorded gradients did not explain; absent if not booked."""
    models: int = 0
    statuses: int = 0
    ended: bool = False

    def lines(self) -> Iterator[str]:
        """Yield the report as lines of text."""
        said = ", ".join(f"{effect} {count}" for effect, count in sorted(self.effects.items()))
        yield f"decisions {self.rows} rows of {self.examples} examples are as policy and manifest say: {said}"
        if self.exceptions:
            yield "          " + ", ".join(f"{reason} {count}" for reason, count in sorted(self.exceptions.items()))
        for name, spent in self.spent.items():
            largest = micro_text(self.largest_epoch[name])
            yield f"budget    {name}: {micro_text(spent)} nat spent, at most {largest} in an epoch, never overspent"
        for name, length in self.movement.items():
            residual = self.worst_residual.get(name)
            booked = "not booked" if residual is None else f"at most {residual:.1e} of a step unexplained"
            yield f"movement  {name}: {length:.6g} in all steps, {booked}; closed means still"


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
    """
    _check_model(run)
    report = _Auditor(run).walk(progress)
    report.models, report.statuses, report.ended = len(run.models), len(run.statuses), run.verified.ended
    return report


class _Auditor:
    """A second gate that moves nothing."""

    def __init__(self, run: Run) -> None:
        self._run, self._tables = run, run.tables
        self._ledger = Ledger(run.tables)
        self._sketch = sketch_shape(run) if run.genesis.get("record") == SKETCH else None
        self._routes: dict[int, int] = {}
        names = [budget.name for budget in run.tables.budgets]
        self._report = AuditReport(run.run_id, run.bundle.policy_name, run.verified.entries)
        self._report.spent = dict.fromkeys(names, 0)
        self._report.largest_epoch = dict.fromkeys(names, 0)
        self._report.movement = dict.fromkeys(run.tables.groups, 0.0)

    def walk(self, progress: Progress | None) -> AuditReport:
        """Audit every step, in order."""
        blocks, report, epoch = self._run.blocks, self._report, 0
        for number, block in enumerate(blocks):
            if block.epoch < epoch:
                raise CorruptLogError("the epoch went back", f"step {block.step}")
            if block.epoch > epoch:
                epoch = block.epoch
                self._ledger.start_epoch()
            self._audit_step(block)
            if progress is not None:
                progress(number + 1, len(blocks))
        report.steps = len(blocks)
        report.epochs = len({block.epoch for block in blocks})
        report.examples = len({row.example_key for _, row in self._run.rows})
        return report

    def _audit_step(self, block: StepBlock) -> None:
        visits = [self._identify(block, row) for row in block.rows]
        outcomes = self._ledger.step(visits)
        for row, visit, outcome in zip(block.rows, visits, outcomes, strict=True):
            self._compare(block, row, visit, outcome)
        self._check_budgets(block)
        self._check_book(block, outcomes)

    def _identify(self, block: StepBlock, row: Row) -> Visit:
        """Check who a row speaks of and that it got the right row of the table."""
        manifest = self._run.manifest
        where = f"step {block.step}, example `{self._run.name_of(row)}`"
        known = manifest.index_of_key(row.example_key)
        if known != (None if row.manifest_index == NO_INDEX else row.manifest_index):
            raise CorruptLogError("the example is not that of the manifest's observation", where)
        route = ERROR_ROW if known is None or row.reason_code == REFUSED_EXAMPLE else self._route(known)
        if row.route != route:
            raise CorruptLogError(
                f"row {row.route} of the mask table was applied; the observation's attributes select row {route}", where
            )
        surprisal = None if row.surprisal == NO_SURPRISAL else row.surprisal
        broken = tuple(group for group, norm in enumerate(row.norms) if norm < 0)
        return Visit(row.example_key, self._tables.rows[route], surprisal, broken)

    def _route(self, index: int) -> int:
        if index not in self._routes:
            self._routes[index] = self._tables.row_of(self._run.manifest.attributes(index))
        return self._routes[index]

    def _compare(self, block: StepBlock, row: Row, visit: Visit, outcome: Outcome) -> None:
        """Compare what was logged of one visit with what should have happened."""
        where = f"step {block.step}, example `{self._run.name_of(row)}`"
        reason = reason_of(outcome, known=row.manifest_index != NO_INDEX, refused=row.reason_code == REFUSED_EXAMPLE)
        triples = enumerate(zip(outcome.reasons, outcome.shares, visit.row.shares, strict=True))
        exceptions = tuple((group, why, left) for group, (why, left, said) in triples if left != said)
        expected: Sequence[tuple[str, object, object]] = (
            ("applied shares", row.exceptions, exceptions),
            ("charges", row.charges, outcome.charges),
            ("reason", row.reason_code, reason),
            ("effect and cause", (row.effect, row.cause), verdict_of(visit.row, outcome.shares, reason)),
        )
        for name, logged, derived in expected:
            if logged != derived:
                raise CorruptLogError(f"the {name} are {logged} in the log and {derived} when derived again", where)
        if self._sketch is not None:
            with located(where):
                self._check_sketch(self._sketch, row, len(block.rows))
        self._count(row)

    def _check_sketch(self, shape: SketchShape, row: Row, scheduled: int) -> None:
        """Check that an example wrote no more than its share: nothing at all where the share is 0."""
        sketched = shape.norms(row.sketch)
        for group, (written, mass) in enumerate(zip(sketched, self._run.masses(row), strict=True)):
            size, width = shape.sizes[group], shape.widths[group]
            # A bucket adds at most `load` numbers, so a sketch is at most sqrt(load) longer; half a level per number
            # is rounding.
            load = -(-size // width) if width else 0
            rounding = width**0.5 * shape.scale(row.sketch, group) / 2
            bound = load**0.5 * mass / scheduled * (1 + SLACK) + rounding
            if written > bound:
                raise CorruptLogError(
                    f"{written:.4g} was written to group `{self._tables.groups[group]}`, the applied share allows "
                    f"{bound:.4g}"
                )

    def _count(self, row: Row) -> None:
        report = self._report
        report.rows += 1
        report.effects[row.effect] += 1
        report.causes[row.cause] += 1
        if row.reason_code:
            report.exceptions[REASONS[row.reason_code]] += 1
        for name, charge in zip(report.spent, row.charges, strict=True):
            report.spent[name] += charge

    def _check_budgets(self, block: StepBlock) -> None:
        """Check the sums of what was logged against the limits; the ledger's own arithmetic is not used here."""
        for number, budget in enumerate(self._tables.budgets):
            epoch = self._ledger.epoch[number]
            self._report.largest_epoch[budget.name] = max(self._report.largest_epoch[budget.name], epoch)
            for limit, spent in ((budget.per_epoch, epoch), (budget.per_run, self._report.spent[budget.name])):
                if limit != NO_LIMIT and spent > limit:
                    raise CorruptLogError(f"budget `{budget.name}` is overspent", f"step {block.step}")

    def _check_book(self, block: StepBlock, outcomes: Sequence[Outcome]) -> None:
        """Check that closed groups stood still and that the denominator is that of the schedule."""
        book, where = block.book, f"step {block.step}, book"
        if book.denominator != len(block.rows):
            raise CorruptLogError("the denominator is not the number of scheduled examples", where)
        for group, name in enumerate(self._tables.groups):
            nobody = not any(outcome.shares[group] for outcome in outcomes)
            if nobody and not book.closed[group]:
                raise CorruptLogError(f"group `{name}` was open although no example may write it", where)
            if book.closed[group] and book.movement[group]:
                raise CorruptLogError(f"group `{name}` moved although it was closed", where)
            self._report.movement[name] += book.movement[group]
            if book.residual[group] >= 0:
                worst = self._report.worst_residual
                worst[name] = max(worst.get(name, 0.0), book.residual[group])


def _check_model(run: Run) -> None:
    """Compare the model file, where there is one, with the digest last published."""
    path = run.folder / "model.pt"
    if path.exists() and run.models and sha256(path.read_bytes()).hex() != run.models[-1].get("model"):
        raise CorruptLogError("the model file is not the one that the log published", "model.pt")
