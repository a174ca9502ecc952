"""A05: rows, ranks or steps in each other's place. Proofs with parts swapped: tests/hostile/test_hostile_proof.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.attacking import (
    accepted,
    begun,
    content,
    put_in_any_order,
    put_in_place,
    refused,
    take,
    take_away,
    unnoticed,
    with_leaves,
)
from support.lineage_runs import LAYOUT, block, edit, row

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage import LineageWriter, Row
from aqpolicy.lineage.block import cut_block
from aqpolicy.lineage.store import Store, block_key
from aqpolicy.lineage.verify_blocks import _damage
from aqpolicy.lineage.verify_entries import Entries

VISITS = [replace(row(1), charges=(charge,)) for charge in (1, 2, 3)]
"""Three visits of one example: what their order is, no other check can tell."""


def one_step(run: Path, visits: tuple[tuple[int, ...], ...]) -> Path:
    writer = begun(run)
    take(writer, VISITS, visits)
    writer.close()
    accepted(run)
    return run


def leaves_of(run: Path, rank: int) -> tuple[bytes, ...]:
    return cut_block(content(run)[b"blk"][block_key(0, 0, rank)], LAYOUT).leaves


def test_two_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = one_step(tmp_path / "run", ((3,),))
    first, second, *rest = leaves_of(run, 0)
    edit(run, b"blk", block_key(0, 0), lambda data: with_leaves(data, (second, first, *rest)))
    where = "step 0, its entry or all its rows"
    refused(run, CorruptLogError, "the rows are not those that the entry commits to", where=where)
    put_in_place(monkeypatch, _damage, lambda *_: ([], True))
    unnoticed(run)


def test_two_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = one_step(tmp_path / "run", ((1, 1, 1),))
    one, two = leaves_of(run, 1), leaves_of(run, 2)
    for rank, leaves in ((1, two), (2, one)):
        edit(run, b"blk", block_key(0, 0, rank), lambda data, leaves=leaves: with_leaves(data, leaves))
    where = "step 0, rank 1, its entry or all its rows"
    refused(run, CorruptLogError, "the rows are not those that the entry commits to; 1 more", where=where)
    put_in_place(monkeypatch, _damage, lambda *_: ([], True))
    unnoticed(run)


def lying(run: Path, numbers: Sequence[int]) -> Path:
    """Let the holder of the log's key sign steps in this order."""
    with pytest.MonkeyPatch.context() as lie:
        take_away(lie, LineageWriter.append_step, "came where step")
        put_in_place(lie, Store._put, put_in_any_order)
        writer = begun(run)
        for number in numbers:
            visit: Row = row(number)
            writer.append_step(replace(block(number), rows=(visit,), visits=((1,),)))
        writer.close()
    return run


def test_two_steps_although_all_is_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted(lying(tmp_path / "honest", range(3)))
    run = lying(tmp_path / "run", (0, 2, 1))
    refused(run, CorruptLogError, "step 1 is missing, or not in its place; 1 more places are damaged", where="entry 4")
    take_away(monkeypatch, Entries._step, "is missing, or not in its place")
    unnoticed(run)
