"""A35: one more than fits: bytes of an entry, cells of a step, sums of a run."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from support.attacking import begun, denied, refused, rows_of, take, take_away
from support.lineage_runs import KEYRING, LAYOUT, block, row

from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage import verify_log, writer
from aqpolicy.lineage.entry import LARGEST_ENTRY, STATUS, encode_entry
from aqpolicy.lineage.leaf import decode_row, encode_row
from aqpolicy.lineage.tally import Tally

HEADER = 16


def test_an_entry_of_one_byte_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(encode_entry(STATUS, bytes(LARGEST_ENTRY - HEADER))) == LARGEST_ENTRY
    with pytest.raises(LineageError, match=f"larger than {LARGEST_ENTRY}"):
        encode_entry(STATUS, bytes(LARGEST_ENTRY - HEADER + 1))
    log = begun(tmp_path / "run")
    note = {"event": "note", "text": "x" * LARGEST_ENTRY}
    denied(lambda: log.append_event(note), LineageError, f"is larger than {LARGEST_ENTRY}")
    take(log, rows_of(0, 2))  # nothing of it was taken
    log.close()
    assert verify_log(tmp_path / "run", KEYRING).steps == 1
    log = begun(tmp_path / "other")
    with monkeypatch.context() as careless:
        take_away(careless, encode_entry, "is larger than")
        log.append_event(note)
        log.close()
    said = "the entry is cut short or too long"  # an entry that no tile can name, signed for ever
    refused(tmp_path / "other", CorruptLogError, said, where="entry 3")


def test_cells_and_ranks_beyond_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MOST_CELLS", 5)
    log = begun(tmp_path / "run")
    with pytest.raises(LineageError, match="each of them 5 cells"):
        take(log, rows_of(0, 3))
    take(log, rows_of(0, 2))
    monkeypatch.setattr(writer, "MOST_RANKS", 1)
    with pytest.raises(LineageError, match="at most 1 ranks"):
        take(log, rows_of(3, 2), visits=((1, 1),))
    log.close()
    assert verify_log(tmp_path / "run", KEYRING).rows == 2


def test_charges_at_the_edge_of_their_width() -> None:
    for charge in (2**32 - 1, 2**32, 2**64 - 1):
        written = encode_row(replace(row(1), charges=(charge,)), LAYOUT)
        assert decode_row(written, LAYOUT).charges == (charge,)
    beyond = replace(row(1), charges=(2**64,))
    denied(lambda: encode_row(beyond, LAYOUT), LineageError, "a row of the log cannot be written")


def test_sums_do_not_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally(1)
    step = replace(block(0), rows=(replace(row(1), charges=(2**64 - 1,)),), visits=())
    tally.add(step)
    before = tally.digest
    with pytest.raises(CorruptLogError, match="more than a log can hold"):
        tally.add(replace(step, step=1))
    assert tally.digest == before
    take_away(monkeypatch, Tally.charge, "more than a log can hold")
    tally.add(replace(step, step=1))
    with pytest.raises(struct.error):  # a sum that has no bytes, found when it is too late to stop
        tally.to_bytes()
