"""Exports of logs for tests: made, read back, and derived from the log again, one row after the other."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from support.indexed_logs import Logged, rows_of
from support.lineage_runs import KEYRING

from aqpolicy.export.parquet import Written, write_rows
from aqpolicy.export.source import open_verified
from aqpolicy.lineage import NO_INDEX, NO_SURPRISAL, LineageReader, verify_log
from aqpolicy.lineage.record import NO_ENTROPY
from aqpolicy.lineage.stats import reason_name

Exported = list[dict[str, Any]]


def export(run: Path, folder: Path, *more: Any, **options: Any) -> Written:
    """Export the rows of a log into a new folder."""
    folder.mkdir()
    with open_verified(run, KEYRING, verify_log(run, KEYRING)) as source:
        return write_rows(folder, source, *more, **options)


def read(folder: Path) -> Exported:
    """Return all rows of an export, as its files have them."""
    return [row for file in sorted(folder.iterdir()) for row in pq.read_table(file).to_pylist()]


def derived(run: Path, *, superseded: bool = False) -> Exported:
    """Return the rows that an export without bundle and manifest must have, by looking at all entries and blocks."""
    with LineageReader(run, KEYRING) as reader:
        counting = {found.visit.entry for found in rows_of(reader, superseded=False)}
        found = rows_of(reader, superseded=superseded)
        found.sort(key=lambda one: (one.visit.entry, one.row.example_key, one.visit.rank, one.visit.row))
        return [columns(one, reader.genesis, superseded=one.visit.entry not in counting) for one in found]


def columns(found: Logged, genesis: dict[str, Any], *, superseded: bool) -> dict[str, Any]:
    """Return one row."""
    row, entry, visit, budgets = found.row, found.entry, found.visit, genesis["budgets"]
    fixed = {
        "entry": visit.entry,
        "attempt": entry.attempt,
        "step": entry.step,
        "rank": visit.rank,
        "position": visit.row,
        "superseded": superseded,
        "time_ns": entry.time_ns,
        "today": date(1970, 1, 1) + timedelta(entry.today),
        "epoch": entry.epoch,
        "phase": dict(enumerate(genesis["phases"])).get(entry.phase),
        "stage": dict(enumerate(genesis["stages"])).get(entry.stage),
        "bundle": "sha256:" + entry.bundle.hex(),
        "manifest": "sha256:" + entry.manifest_root.hex(),
        "manifest_index": None if row.manifest_index == NO_INDEX else row.manifest_index,
        "example": row.example_key,
        "example_id": None,
        "credential": None,
        "session": None,
        "route": row.route,
        "rule": None,
        "effect": row.effect,
        "cause": row.cause,
        "reason": reason_name(row.reason_code),
        "surprisal": None if row.surprisal == NO_SURPRISAL else row.surprisal,
        "entropy": None if row.entropy == NO_ENTROPY else row.entropy,
    }
    lowered = {group: (reason_name(reason), share) for group, reason, share in row.exceptions}
    charges = {f"charge_{name}": charge for name, charge in zip(budgets, row.charges, strict=True)}
    norms = {f"norm_{name}": norm_of(norm) for name, norm in zip(genesis["groups"], row.norms, strict=True)}
    shares, reasons = {}, {}
    for number, name in enumerate(genesis["groups"]):
        reasons[f"lowered_{name}"], shares[f"share_{name}"] = lowered.get(number, (None, None))
    return fixed | norms | charges | shares | reasons


def norm_of(norm: float) -> float | None:
    return None if norm == -2 else float("inf") if norm == -1 else norm
