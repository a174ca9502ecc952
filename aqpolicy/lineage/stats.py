"""Count what a log holds: entries, rows, effects, charges, exceptions, and what a cell costs on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from aqpolicy.lineage.entry import KINDS, STEP, decode_step
from aqpolicy.lineage.reader import LineageReader
from aqpolicy.lineage.record import REASONS

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class LogStats:
    """Counts over one log; rows, effects and charges are those of the steps that count."""

    origin: str
    entries: dict[str, int] = field(default_factory=dict)
    """By kind."""
    steps: int = 0
    superseded_steps: int = 0
    """Steps whose place a later attempt took."""
    attempts: int = 0
    ranks: int = 0
    """The most of any step."""
    rows: int = 0
    cells: int = 0
    """Example and depth group."""
    logged_cells: int = 0
    """Those of superseded steps included."""
    bytes: int = 0
    """What the log takes on disk."""
    effects: dict[str, int] = field(default_factory=dict)
    causes: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    """Rows by what decided them, where the mask table alone did not."""
    exceptions: dict[str, int] = field(default_factory=dict)
    """Cells whose share is not the table's, by what lowered it."""
    charges: dict[str, int] = field(default_factory=dict)
    """Micro-nats per budget, by rows."""
    movement_charges: dict[str, int] = field(default_factory=dict)
    """Millionths of l2 per budget."""
    drift_charges: dict[str, int] = field(default_factory=dict)
    """Micro-nats per budget."""
    models: list[dict[str, Any]] = field(default_factory=list)
    """Step and digest of each."""

    @property
    def bytes_per_cell(self) -> float:
        """Bytes on disk per cell, 0 where there is none."""
        return self.bytes / self.logged_cells if self.logged_cells else 0.0

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON would have it."""
        return {**asdict(self), "bytes_per_cell": round(self.bytes_per_cell, 3)}


def collect(reader: LineageReader, progress: Progress | None = None) -> LogStats:
    """Count one log; every row is compared with its signed entry on the way.

    Raises:
        CorruptLogError: Rows are not those that their entry commits to.
    """
    stats = LogStats(str(reader.genesis["origin"]))
    attempts, kinds, logged = set(), Counter[str](), 0
    for _, kind, payload in reader.entries():
        kinds[KINDS[kind]] += 1
        if kind == STEP:
            entry = decode_step(payload)
            attempts.add(entry.attempt)
            logged += 1
            stats.logged_cells += sum(rank.cells for rank in entry.ranks)
            stats.ranks = max(stats.ranks, len(entry.ranks))
    stats.entries, stats.attempts = dict(kinds), len(attempts)
    _count_rows(stats, reader, progress)
    stats.superseded_steps = logged - stats.steps
    stats.bytes = disk_bytes(reader)
    stats.models = [{"step": model.get("step"), "model": model.get("model")} for model in reader.models]
    return stats


def _count_rows(stats: LogStats, reader: LineageReader, progress: Progress | None) -> None:
    budgets = [str(name) for name in reader.genesis["budgets"]]
    effects, causes, reasons, exceptions = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    rows, movement, drift = Counter[str](), Counter[str](), Counter[str]()
    total = stats.entries.get(KINDS[STEP], 0)
    for _, entry in reader.step_entries():
        block = reader.block(entry)
        for row in block.rows:
            effects[row.effect] += 1
            causes[row.cause] += 1
            if row.reason_code:
                reasons[reason_name(row.reason_code)] += 1
            exceptions.update(reason_name(code) for _, code, _ in row.exceptions)
        for spent, charges in (
            (rows, block.charged(len(budgets))),
            (movement, block.book.movement_charges),
            (drift, block.book.drift_charges),
        ):
            spent.update(dict(zip(budgets, charges, strict=True)))
        stats.steps += 1
        stats.rows += entry.rows
        stats.cells += sum(rank.cells for rank in entry.ranks)
        if progress is not None and stats.steps < total:
            progress(stats.steps, total)
    if progress is not None:  # steps that count no longer were not looked at
        progress(total, total)
    stats.effects, stats.causes = dict(effects), dict(causes)
    stats.reasons, stats.exceptions = dict(reasons), dict(exceptions)
    stats.charges, stats.movement_charges, stats.drift_charges = dict(rows), dict(movement), dict(drift)


def reason_name(code: int) -> str:
    """Return what a reason code stands for, in words."""
    return REASONS[code].replace("_", " ") if code < len(REASONS) else f"reason {code}"


def disk_bytes(reader: LineageReader) -> int:
    """Return what the files of a log take on disk; holes in them take nothing."""
    return sum(file.stat().st_blocks * 512 for file in (reader.run / "lineage").glob("data.mdb"))
