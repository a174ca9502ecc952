"""A06: a true part of another run, attempt or rank. In proofs: tests/hostile/test_hostile_proof.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.attacking import accepted, begun, content, put_in_place, refused, take, take_away, unnoticed, with_leaves
from support.lineage_runs import KEY, KEYRING, LAYOUT, edit, row

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage import LineageWriter, Row
from aqpolicy.lineage.block import cut_block
from aqpolicy.lineage.store import block_key
from aqpolicy.lineage.verify_blocks import _damage
from aqpolicy.lineage.verify_entries import Entries


def visit(surprisal: int) -> Row:
    """Return a row of which nothing but its own bytes tells how surprising the example was."""
    return replace(row(1), surprisal=surprisal)


def begun_again(run: Path) -> Path:
    """Write a log whose only step was taken in two attempts, of three ranks each."""
    writer = begun(run)
    take(writer, [visit(number) for number in (10, 11, 12)], ((1, 1, 1),))
    writer.barrier()
    writer.abandon()
    writer = LineageWriter.resume(run, KEY, KEYRING, entry=-1, reason="stopped")
    take(writer, [visit(number) for number in (20, 21, 22)], ((1, 1, 1),))
    writer.close()
    accepted(run)
    return run


def rows_at(run: Path, attempt: int, rank: int) -> tuple[bytes, ...]:
    return cut_block(content(run)[b"blk"][block_key(attempt, 0, rank)], LAYOUT).leaves


@pytest.mark.parametrize("of", ["run", "attempt", "rank"])
def test_rows_of_another_run_attempt_or_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str) -> None:
    run = begun_again(tmp_path / "run")
    if of == "run":
        stranger = begun(tmp_path / "stranger")
        take(stranger, [visit(number) for number in (30, 31, 32)], ((1, 1, 1),))
        stranger.close()
        other = rows_at(tmp_path / "stranger", 0, 1)
    else:
        other = rows_at(run, *((0, 1) if of == "attempt" else (1, 2)))
    edit(run, b"blk", block_key(1, 0, 1), lambda data: with_leaves(data, other))
    where = "step 0, rank 1, its entry or all its rows"
    refused(run, CorruptLogError, "the rows are not those that the entry commits to", where=where)
    put_in_place(monkeypatch, _damage, lambda *_: ([], True))
    unnoticed(run)


@pytest.mark.parametrize("name", ["_run_id", "_bundle", "_manifest_root"])
def test_a_step_that_was_signed_for_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    run = tmp_path / "run"
    writer = begun(run)
    honest = getattr(writer, name)
    setattr(writer, name, bytes(len(honest)))
    take(writer, [visit(1)])
    setattr(writer, name, honest)
    writer.close()
    refused(run, CorruptLogError, "the step belongs to another run, policy or manifest", where="entry 3")
    take_away(monkeypatch, Entries._step, "belongs to another run")
    unnoticed(run)


def test_a_block_that_names_another_step_than_its_entry(tmp_path: Path) -> None:
    run = begun_again(tmp_path / "run")
    held = content(run)[b"blk"]
    edit(run, b"blk", block_key(1, 0, 1), lambda _: held[block_key(0, 0, 1)])
    refused(run, CorruptLogError, "the rows are not those", where="step 0, rank 1, its entry or all its rows")
