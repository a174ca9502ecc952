"""Steps as columns, and what a log says whoever wrote it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from support.lineage_runs import block

from aqpolicy.lineage import CAUSES, EFFECTS, StepBlock
from aqpolicy.lineage.entry import STEP, decode_entry, decode_facts
from aqpolicy.scribe.columns import Exceptions, StepColumns

OF_THE_MOMENT = ("run", "origin", "started_s", "time_s")
"""Facts in which two logs of the same steps differ."""


def columns_of(step: StepBlock, **changes: Any) -> StepColumns:
    """Return a step's rows as columns."""
    rows = step.rows
    exceptions = [(at, *one) for at, row in enumerate(rows) for one in row.exceptions]
    visit, group, reason, share = np.array(exceptions, np.int64).reshape(-1, 4).T.copy()

    def column(name: str, mark: int) -> np.ndarray:
        return np.array([-1 if getattr(row, name) == mark else getattr(row, name) for row in rows], np.int64)

    groups, budgets = len(step.book.movement), len(step.book.movement_charges)
    given = {
        "attempt": step.attempt,
        "step": step.step,
        "epoch": step.epoch,
        "phase": step.phase,
        "stage": step.stage,
        "today": step.today,
        "time_ns": step.time_ns,
        "book": step.book,
        "keys": step.keys,
        "index": column("manifest_index", 2**32 - 1),
        "route": column("route", -2),
        "effect": np.array([EFFECTS.index(row.effect) for row in rows], np.int64),
        "cause": np.array([CAUSES.index(row.cause) for row in rows], np.int64),
        "reason": column("reason_code", -2),
        "surprisal": column("surprisal", 2**32 - 1),
        "entropy": column("entropy", 2**32 - 1),
        "norms": np.array([row.norms for row in rows], np.float64).reshape(-1, groups),
        "charges": np.array([row.charges for row in rows], np.int64).reshape(-1, budgets),
        "exceptions": Exceptions(visit, group, reason, share) if exceptions else None,
        "sketches": [row.sketch for row in rows],
        "visits": step.visits,
    }
    return StepColumns(**(given | changes))


def columns(step: int, rows: int = 4) -> StepColumns:
    """Return the columns of `lineage_runs.block`, which may be none."""
    made = block(step, rows)
    return columns_of(made) if rows else columns_of(made, book=replace(made.book, denominator=1.0))


def said(run: Path) -> dict[str, list[Any]]:
    """Return all that a log says by table, without heads, and without what is of the moment."""
    environment = lmdb.open(str(run / "lineage"), max_dbs=16, map_size=1 << 30, readonly=True, lock=False)
    with environment.begin() as transaction:
        names = {bytes(name) for name in transaction.cursor().iternext(values=False)}
        tables = {name: environment.open_db(name, transaction, create=False) for name in names - {b"cp", b"meta"}}
        items = {name.decode(): list(transaction.cursor(table)) for name, table in tables.items()}
    environment.close()
    entries = [decode_entry(data) for _, data in items.pop("entry")]
    run_id = bytes.fromhex(decode_facts(entries[0][1])["run"])
    items["entry"] = [(kind, _lasting(kind, payload, run_id)) for kind, payload in entries]
    return items


def _lasting(kind: int, payload: bytes, run_id: bytes) -> Any:
    if kind == STEP:
        assert payload.startswith(run_id)
        return payload[len(run_id) :]
    return {name: value for name, value in decode_facts(payload).items() if name not in OF_THE_MOMENT}
