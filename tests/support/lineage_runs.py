"""Small lineage logs for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lmdb

from aqpolicy.lineage import Book, Layout, LineageWriter, Row, StepBlock
from aqpolicy.trust import Keyring, SigningKey, example_key

KEY = SigningKey.from_seed("log", bytes(range(32)))
KEYRING = Keyring.of([("log", KEY.verify_key)])
GENESIS = {"bundle": "sha256:" + "11" * 32, "manifest_root": "sha256:" + "22" * 32}
GROUPS, BUDGETS = ("surface", "head"), ("all",)
LAYOUT = Layout(len(GROUPS), len(BUDGETS))


def row(number: int, *, lowered: bool = False) -> Row:
    """Return a row that differs from its neighbours."""
    exceptions = ((1, 4, 250_000),) if lowered else ()
    norms = (float(number), 0.5)
    return Row(
        example_key(f"e{number}"), number, 1, "admit", "granted", 0, 1000 + number, norms, (7,), exceptions, b"s" * 5
    )


def block(step: int, rows: int = 4) -> StepBlock:
    """Return the record of a step."""
    book = Book(0.1, 0.9, 0.0, 1e-4, False, "SGD", (1.0, 0.0), (2.0**-20, -1.0), (False, True), rows)
    members = tuple(row(step * rows + number, lowered=number == 1) for number in range(rows))
    return StepBlock(0, step, step // 10, 1_700_000_000_000_000_000 + step, members, book)


def write_run(run: Path, steps: int = 40) -> Path:
    """Write a finished run and return its folder."""
    writer = LineageWriter.create(run, GENESIS, KEY, groups=GROUPS, budgets=BUDGETS)
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
