"""What every attack needs: a small log with all that a log can have, hands that reach into it, and guards taken away.

An attack shows two things: that it is refused, with the exact error and place, and
that it succeeds once the one guard that is meant to stop it is gone. So no attack can
be refused for another reason than the one that its test names.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import re
import shutil
import sys
import textwrap
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attacks.independent import RefusedError, check
from support.lineage_runs import GENESIS, KEY, KEYRING, NAMES, block, row

from aqpolicy.errors import AqpolicyError
from aqpolicy.lineage import LineageWriter, Row, VerifyReport, verify_log
from aqpolicy.lineage.block import HEAD_BYTES, SHORT_HASH
from aqpolicy.lineage.store import TABLES, Item, Store
from aqpolicy.trust import VerifyKey, leaf_hashes

Content = dict[bytes, dict[bytes, bytes]]
"""All that a store holds, by table and key."""

TRUSTED: Sequence[VerifyKey] = KEYRING.keys("log")
PUBLIC = {key.name: key.public for key in TRUSTED}


def take_away(monkeypatch: pytest.MonkeyPatch, guard: Any, *texts: str) -> None:
    """Take out of a function or method, for each text, the one statement that raises, yields or returns it.

    Whoever takes several away names them in one call: each call begins with the function as it is written.
    """
    plain = inspect.unwrap(getattr(guard, "__func__", guard))
    tree = ast.parse(textwrap.dedent(inspect.getsource(plain)))
    for said in texts:
        statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt) and said in ast.unparse(node)]
        assert statements, f"no statement of `{plain.__qualname__}` says `{said}`"
        found = min(statements, key=lambda node: len(ast.unparse(node)))
        assert not isinstance(found, ast.FunctionDef | ast.If | ast.For | ast.While | ast.Try)
        assert all(found in ast.walk(node) for node in statements), f"more than one statement says `{said}`"
        _Gone(found).visit(tree)
    ast.fix_missing_locations(tree)
    made: dict[str, Any] = {}
    flags = __future__.annotations.compiler_flag
    exec(compile(tree, f"<without {texts}>", "exec", flags, dont_inherit=True), plain.__globals__, made)
    put_in_place(monkeypatch, guard, made[plain.__name__])


def put_in_place(monkeypatch: pytest.MonkeyPatch, guard: Any, other: Any) -> None:
    """Put something else in the place of a function or method, wherever the product has it."""
    module, path = sys.modules[guard.__module__], guard.__qualname__.split(".")
    if len(path) == 1:
        for each in [each for name, each in sys.modules.items() if name.startswith("aqpolicy")]:
            for name in [name for name, value in vars(each).items() if value is guard]:
                monkeypatch.setattr(each, name, other)
        return
    owner: Any = module
    for name in path[:-1]:
        owner = getattr(owner, name)
    monkeypatch.setattr(owner, path[-1], other)


class _Gone(ast.NodeTransformer):
    def __init__(self, statement: ast.stmt) -> None:
        self._statement = statement

    def visit(self, node: ast.AST) -> Any:
        return ast.Pass() if node is self._statement else self.generic_visit(node)


# ---- what a test says of a run


def denied(do: Callable[[], object], kind: type[AqpolicyError], said: str = "", *, where: str | None = None) -> str:
    """Assert that a call ends in exactly this type of error, and return the place."""
    with pytest.raises(kind, match=re.escape(said)) as caught:
        do()
    assert type(caught.value) is kind
    found = getattr(caught.value, "where", "")
    if where is not None:
        assert found == where
    return str(found)


def refused(run: Path, kind: type[AqpolicyError], said: str = "", *, where: str | None = None, **more: Any) -> str:
    """Assert that a run is refused, by the independent verifier too, and return the place."""
    found = denied(lambda: verify_log(run, KEYRING, **more), kind, said, where=where)
    with pytest.raises(RefusedError):
        check(run, PUBLIC)
    return found


def accepted(run: Path, **more: Any) -> VerifyReport:
    """Assert that both verifiers take a run."""
    check(run, PUBLIC)
    return verify_log(run, KEYRING, **more)


def unnoticed(run: Path, **more: Any) -> VerifyReport:
    """Assert that a verifier without its guard takes a run that the independent one refuses."""
    with pytest.raises(RefusedError):
        check(run, PUBLIC)
    return verify_log(run, KEYRING, **more)


# ---- logs


def rich_run(run: Path) -> Path:
    """Write a small log with all that a log can have, and return its folder."""
    facts = {**GENESIS, "seal_every": 2}
    writer = LineageWriter.create(run, facts, KEY, **NAMES, keyring=KEYRING)
    take(writer, rows_of(0, 2))
    writer.append_event({"event": "stage", "metrics": {}, "stage": "open", "step": 1})
    take(writer, rows_of(2, 4), visits=((1, 2), (1, 0)))
    model = writer.append_model(2, bytes(32), {"name": "model"})
    take(writer, rows_of(6, 1))
    writer.barrier()
    writer.abandon()
    writer = LineageWriter.resume(run, KEY, KEYRING, entry=model, reason="stopped")
    take(writer, rows_of(7, 2), touched=((0, 0, (3, 200)), (1, 2, (0,))))
    writer.close()
    writer = LineageWriter.open_for_status(run, KEY, KEYRING)
    writer.append_status({"credential": "reader-07", "event": "revoked"})
    writer.close()
    return run


def plain_run(run: Path, steps: int = 4, **facts: Any) -> Path:
    """Write a small log of whole steps of two ranks, and return its folder."""
    writer = begun(run, **facts)
    for step in range(steps):
        take(writer, rows_of(3 * step, 3), visits=((2, 1),))
    writer.close()
    return run


def begun(run: Path, **facts: Any) -> LineageWriter:
    """Begin a log."""
    return LineageWriter.create(run, {**GENESIS, **facts}, KEY, **NAMES)


def rows_of(first: int, count: int) -> list[Row]:
    """Return rows: the first is lowered, the second has a large charge, all others neither that nor a sketch."""
    rows = [row(number, lowered=number == first) for number in range(first, first + count)]
    return [
        replace(each, charges=(2**33 if at == 1 else 7,), sketch=each.sketch if at < 1 else b"")
        for at, each in enumerate(rows)
    ]


def take(writer: LineageWriter, rows: Sequence[Row], visits: Any = (), touched: Any = (), **more: Any) -> None:
    """Append a step of these rows."""
    step = block(0)
    book = replace(step.book, touched=touched)
    facts = {"attempt": writer.attempt, "step": writer.steps, "rows": tuple(rows), "book": book}
    writer.append_step(replace(step, **facts, visits=visits or ((len(rows),),), **more))


def grown(folder: Path) -> tuple[Path, Path]:
    """Write a log and return it as it was after two of its four steps, and as it is at its end."""
    older, newer = folder / "older", folder / "newer"
    writer = begun(newer)
    for step in range(4):
        if step == 2:
            writer.barrier()
            shutil.copytree(newer, older)
        take(writer, rows_of(3 * step, 3), visits=((2, 1),))
    writer.close()
    return older, newer


def with_store_of(other: Path, run: Path) -> Path:
    """Put the store of another run, or of an older copy, into the folder of a run, and return that."""
    shutil.rmtree(run / "lineage")
    shutil.copytree(other / "lineage", run / "lineage")
    return run


def copy_of(run: Path) -> Path:
    """Return a copy of a run beside it."""
    others = len(list(run.parent.glob(f"{run.name}-*")))
    return Path(shutil.copytree(run, run.parent / f"{run.name}-{others}"))


# ---- stores without a file


def content(run: Path) -> Content:
    """Return all that the store of a run holds."""
    store = Store.open_to_read(run / "lineage")
    try:
        return {table: dict(store.items(table)) for table in TABLES}
    finally:
        store.close()


class HeldStore:
    """A store in memory: what `Store` is to those who read."""

    def __init__(self, held: Content) -> None:
        self.held = held

    def get(self, table: bytes, key: bytes) -> bytes | None:
        return self.held[table].get(key)

    def look(self, table: bytes, key: bytes, see: Callable[[memoryview], Any]) -> Any:
        value = self.get(table, key)
        return None if value is None else see(memoryview(value))

    def keys(self, table: bytes, start: bytes = b"") -> Iterator[bytes]:
        keys = sorted(self.held[table])
        return iter(keys[bisect_left(keys, start) :])

    def items(self, table: bytes, start: bytes = b"") -> Iterator[Item]:
        return ((key, self.held[table][key]) for key in self.keys(table, start))

    def last(self, table: bytes, before: bytes | None = None) -> Item | None:
        keys = [key for key in self.keys(table) if before is None or key < before]
        return (keys[-1], self.held[table][keys[-1]]) if keys else None

    def count(self, table: bytes) -> int:
        return len(self.held[table])

    def close(self) -> None:
        """There is nothing to close."""


def put_in_any_order(store: Store, group: Mapping[bytes, Sequence[Item]]) -> None:
    """Write as `Store.put_group`, but over what is there and in any order: how one writes who wants to deceive."""
    with store._env.begin(write=True) as transaction:
        for table, items in group.items():
            for key, value in items:
                transaction.put(key, value, db=store._tables[table])


def with_leaves(data: bytes, leaves: Sequence[bytes]) -> bytes:
    """Return a block with other leaves, and their hashes with them."""
    start = HEAD_BYTES + 4 * int.from_bytes(data[HEAD_BYTES - 2 : HEAD_BYTES], "little")
    return b"".join((data[:start], *(one[:SHORT_HASH] for one in leaf_hashes(leaves)), *leaves))


def flipped(data: bytes, at: int, bits: int = 1) -> bytes:
    """Return the bytes with one of them changed."""
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]
