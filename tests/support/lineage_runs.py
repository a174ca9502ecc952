"""Small lineage logs for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lmdb

from aqpolicy.lineage import Book, Layout, LineageWriter, Row, StepBlock
from aqpolicy.trust import Keyring, SigningKey, example_key

KEY = SigningKey.from_seed("log", bytes(range(32)))
KEYRING = Keyring.of([("log", KEY.verify_key)])
GROUPS, BUDGETS = ("surface", "head"), ("all",)
PHASES, STAGES = ("warm-up", "tune"), ("trial", "open")
NAMES = {"groups": GROUPS, "budgets": BUDGETS}
GENESIS = {
    "bundle": "sha256:" + "11" * 32,
    "manifest_root": "sha256:" + "22" * 32,
    "phases": [*PHASES],
    "stages": [*STAGES],
}
LAYOUT = Layout(len(GROUPS), len(BUDGETS), PHASES, STAGES)


def row(number: int, *, lowered: bool = False) -> Row:
    """Return a row that differs from its neighbours."""
    exceptions = ((1, 4, 250_000),) if lowered else ()
    norms = (float(number), 0.5)
    return Row(
        example_key=example_key(f"e{number}"),
        manifest_index=number,
        route=1,
        effect="admit",
        cause="granted",
        reason_code=0,
        surprisal=1000 + number,
        norms=norms,
        charges=(7,),
        exceptions=exceptions,
        sketch=b"s" * 5,
        entropy=number,
    )


def block(step: int, rows: int = 4) -> StepBlock:
    """Return the record of a step."""
    book = Book(
        lr=0.1,
        momentum=0.9,
        dampening=0.0,
        weight_decay=1e-4,
        nesterov=False,
        optimizer="SGD",
        movement=(0.5, 0.0),
        residual=(2.0**-20, -1.0),
        closed=(False, True),
        denominator=float(rows),
        proposed=(1.0, 0.0),
        factors=(0.5, 1.0),
        movement_charges=(500_000,),
        drift_charges=(0,),
    )
    members = tuple(row(step * rows + number, lowered=number == 1) for number in range(rows))
    time_ns = 1_700_000_000_000_000_000 + step
    return StepBlock(0, step, step // 10, time_ns, members, book, "tune", "trial", 20_000)


def write_run(run: Path, steps: int = 40) -> Path:
    """Write a finished run and return its folder."""
    writer = LineageWriter.create(run, GENESIS, KEY, **NAMES)
    for step in range(steps):
        writer.append_step(block(step))
    writer.append_model(steps, bytes(32), {})
    writer.close()
    return run


def edit(run: Path, table: bytes, key: bytes, change: Callable[[bytes], bytes | None]) -> None:
    """Change a value of a store behind the log's back, keeping the pages in order; None deletes it."""
    environment = lmdb.open(str(run / "lineage"), max_dbs=8, map_size=1 << 30)
    database = environment.open_db(table)
    with environment.begin(write=True, db=database) as transaction:
        new = change(transaction.get(key, b""))
        if new is None:
            transaction.delete(key)
        else:
            transaction.put(key, new)
    environment.close()
