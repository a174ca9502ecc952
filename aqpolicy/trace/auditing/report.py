"""What an audit counts while it derives a run again, and how it says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from aqpolicy.bundle.tables import BudgetTable, Tables
from aqpolicy.lineage import Book, Row
from aqpolicy.trace.words import REASONS
from aqpolicy.units import micro_text

_METERS = (("surprisal", "nat"), ("movement", "l2"), ("drift", "nat"))


@dataclass(slots=True)
class AuditReport:
    """What a run that obeyed its policy did. Charges are in millionths of the meter's unit."""

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
    """Nats per budget, over the whole run."""
    largest_epoch: dict[str, int] = field(default_factory=dict)
    """Nats per budget, the most that one epoch spent."""
    metered: dict[tuple[str, str], int] = field(default_factory=dict)
    """By budget and meter (movement, drift), over the whole run, where the budget meters it."""
    movement: dict[str, float] = field(default_factory=dict)
    """Per group, the sum of its step lengths."""
    lowered: Counter[str] = field(default_factory=Counter)
    """Per group, the steps that a budget scaled or put back."""
    worst_residual: dict[str, float] = field(default_factory=dict)
    """Per group, the largest part of a step that the recorded gradients did not explain; absent if not booked."""
    denominators: int = 0
    """Steps whose denominator was not the number of their examples."""
    checks: int = 0
    """Verifications that took place."""
    rollbacks: int = 0
    models: int = 0
    statuses: int = 0
    ended: bool = False

    @classmethod
    def of(cls, run: str, policy: str, entries: int, tables: Tables) -> AuditReport:
        """Start with nothing counted."""
        report = cls(run, policy, entries)
        names = [budget.name for budget in tables.budgets]
        report.spent, report.largest_epoch = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
        report.metered = {(budget.name, meter): 0 for budget in tables.budgets for meter in _meters(budget)}
        report.movement = dict.fromkeys(tables.groups, 0.0)
        return report

    def count_row(self, row: Row) -> None:
        """Count a visit."""
        self.rows += 1
        self.effects[row.effect] += 1
        self.causes[row.cause] += 1
        if row.reason_code:
            self.exceptions[REASONS[row.reason_code]] += 1
        for name, charge in zip(self.spent, row.charges, strict=True):
            self.spent[name] += charge

    def count_book(self, book: Book, rows: int) -> None:
        """Count what a step did."""
        self.denominators += book.denominator != rows
        for group, name in enumerate(self.movement):
            self.movement[name] += book.movement[group]
            self.lowered[name] += book.factors[group] != 1.0
            if book.residual[group] >= 0:
                self.worst_residual[name] = max(self.worst_residual.get(name, 0.0), book.residual[group])
        charges = zip(self.spent, book.movement_charges, book.drift_charges, strict=True)
        for name, movement, drift in charges:
            for meter, charge in (("movement", movement), ("drift", drift)):
                if (name, meter) in self.metered:
                    self.metered[name, meter] += charge

    def lines(self) -> Iterator[str]:
        """Yield the report as lines of text."""
        said = ", ".join(f"{effect} {count}" for effect, count in sorted(self.effects.items()))
        yield f"decisions {self.rows} rows of {self.examples} examples are as policy and manifest say: {said}"
        if self.exceptions:
            yield "          " + ", ".join(f"{reason} {count}" for reason, count in sorted(self.exceptions.items()))
        for name, spent in self.spent.items():
            largest = micro_text(self.largest_epoch[name])
            yield f"budget    {name}: {micro_text(spent)} nat spent, at most {largest} in an epoch, never overspent"
        units = dict(_METERS)
        for (name, meter), spent in self.metered.items():
            yield f"budget    {name}: {micro_text(spent)} {units[meter]} of {meter} spent, never overspent"
        for name, length in self.movement.items():
            residual = self.worst_residual.get(name)
            booked = "not booked" if residual is None else f"at most {residual:.1e} of a step unexplained"
            lowered = f", scaled or put back in {self.lowered[name]} steps" if self.lowered[name] else ""
            yield f"movement  {name}: {length:.6g} in all steps, {booked}; closed means still{lowered}"
        if self.checks:
            yield f"checks    {self.checks} verifications, every one in time; rolled back {self.rollbacks} times"
        if self.denominators:
            yield f"note      the loop gave the denominator of {self.denominators} steps, not their number of examples"


def _meters(budget: BudgetTable) -> Iterator[str]:
    for name, _ in _METERS[1:]:
        if any(meter == name for meter, _, _ in budget.meters):
            yield name
