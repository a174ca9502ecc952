"""A01: one byte of anything that a log holds is another one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.attacking import (
    HeldStore,
    content,
    flipped,
)
from support.lineage_runs import KEYRING

from aqpolicy.errors import CorruptLogError, ForkedLogError, LineageError, SignatureError
from aqpolicy.lineage import LineageReader, verify_log
from aqpolicy.lineage.block import HEAD_BYTES, RawBlock, cut_block
from aqpolicy.lineage.leaf import FLAGS_AT
from aqpolicy.lineage.store import TABLES, Store, block_key, block_place, entry_key


def is_found(where: str, table: bytes, key: bytes, at: int, steps: dict[int, int]) -> bool:
    """Return whether a place is that of a value."""
    number = int.from_bytes(key[:8], "big")
    if table == b"entry":
        first, last = (re.findall(r"\d+", where) * 2)[:2] if where.startswith("entries") else (number, number)
        is_range = where.startswith("entries") and int(first) <= number <= int(last)
        is_step = number in steps and re.match(rf"(entry {number}, )?step {steps[number]}\b", where)
        return where == f"entry {number}" or is_range or bool(is_step)
    if table == b"blk":
        attempt, step, rank = block_place(key)
        is_one = (attempt, step) != (0, 1) or at in range(16, 20)  # a block that names another rank is of no rank
        return where.startswith(f"step {step}" if is_one else f"step {step}, rank {rank}")
    if table == b"run":
        return where == f"entry {number}, run `{key[8:].decode()}`"
    model = f"entry {int.from_bytes(key[5:], 'big')}"
    places = {
        b"body": f"entry {number}",
        b"cp": f"head of size {number}",
        b"meta": "meta" if key == b"state" else model,
    }
    return where == places[table]


@pytest.mark.parametrize("table", TABLES)
def test_every_byte_of_every_value_is_located(rich: Path, monkeypatch: pytest.MonkeyPatch, table: bytes) -> None:
    held = content(rich)
    store = HeldStore(held)
    monkeypatch.setattr(Store, "open_to_read", lambda _: store)
    with LineageReader(rich, KEYRING) as reader:
        steps = {index: entry.step for index, entry in reader.step_entries(superseded=True)}
    before = verify_log(rich, KEYRING)
    for key, value in list(held[table].items()):
        for at in range(len(value)):
            held[table][key] = flipped(value, at, 1 << at % 8)
            with pytest.raises(LineageError) as caught:
                verify_log(rich, KEYRING)
            if (table, key) != (b"entry", entry_key(0)):  # what a run is says how all else is read
                assert isinstance(caught.value, CorruptLogError), (key, at)
                assert is_found(caught.value.where, table, key, at, steps), (key, at, caught.value)
        held[table][key] = value
    assert verify_log(rich, KEYRING) == before


def rows_in(block: RawBlock) -> Iterator[tuple[int, int, bytes]]:
    """Return number, place in the block's bytes, and bytes of every row."""
    at = HEAD_BYTES + 4 * len(block.parts) + len(block.stored)
    for number, leaf in enumerate(block.leaves):
        yield number, at, leaf
        at += len(leaf)


def test_a_changed_row_is_located_to_the_row_and_its_stored_hash_too(
    rich: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, key = content(rich), block_key(0, 1, 1)
    store = HeldStore(held)
    monkeypatch.setattr(Store, "open_to_read", lambda _: store)
    with LineageReader(rich, KEYRING) as reader:
        value, block = held[b"blk"][key], cut_block(held[b"blk"][key], reader.layout)
    shape = {FLAGS_AT, *range(len(block.leaves[0]) - 2 * 4, len(block.leaves[0]))}  # flags, and lengths behind them
    for number, start, leaf in rows_in(block):
        for at in set(range(len(leaf))) - shape:
            held[b"blk"][key] = flipped(value, start + at)
            with pytest.raises(CorruptLogError, match="the record is not what was signed") as caught:
                verify_log(rich, KEYRING)
            assert caught.value.where.startswith(f"step 1, rank 1, row {number} (example key ")
        held[b"blk"][key] = flipped(value, HEAD_BYTES + 4 * len(block.parts) + 4 * number)
        with pytest.raises(CorruptLogError, match="the record is as signed") as caught:
            verify_log(rich, KEYRING)
        assert caught.value.where.startswith(f"step 1, rank 1, row {number} (example key ")


def test_every_byte_of_a_key_is_found(rich: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = content(rich)
    store = HeldStore(held)
    monkeypatch.setattr(Store, "open_to_read", lambda _: store)
    for table in TABLES:
        for key in list(held[table]):
            for at in range(len(key)):
                held[table][flipped(key, at, 1 << at % 8)] = held[table].pop(key)
                with pytest.raises(LineageError):
                    verify_log(rich, KEYRING)
                held[table][key] = held[table].pop(flipped(key, at, 1 << at % 8))
    verify_log(rich, KEYRING)


def test_every_byte_of_the_published_head_is_found(copy: Path) -> None:
    note = copy / "head.note"
    data = note.read_bytes()
    for at in range(len(data)):
        note.write_bytes(flipped(data, at, 1 << at % 8))
        with pytest.raises((CorruptLogError, ForkedLogError, SignatureError)):
            verify_log(copy, KEYRING)


def test_a_flip_in_the_file_is_found_or_changes_nothing(copy: Path) -> None:
    file, before = copy / "lineage" / "data.mdb", content(copy)
    data, found = file.read_bytes(), 0
    for at in range(97, len(data), 101):
        file.write_bytes(flipped(data, at, 1 << at % 8))
        try:
            verify_log(copy, KEYRING)
        except LineageError:
            found += 1
        else:
            assert content(copy) == before
    assert found > 50
