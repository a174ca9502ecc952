"""Static tiles of another implementation: read as ours are read, and written again byte for byte."""

from __future__ import annotations

from base64 import b64decode

import pytest
from support.static_log import StaticLog, proved_root, wanted

from aqpolicy.lineage.tiles import write_tiles
from aqpolicy.trust import Checkpoint

ORIGIN = "example.com/log/testdata"
KEYS = {ORIGIN: b64decode("AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx")[1:]}


@pytest.mark.parametrize("size", range(1, 16))
def test_the_reader_that_reads_our_tiles_reads_theirs(vectors, size):
    log = StaticLog(vectors("tessera/log"), size)
    assert log.head(KEYS, ORIGIN, f"checkpoint.{size}") == (size, log.root())
    for index, entry in enumerate(log.entries()):
        assert proved_root(index, size, entry, log.proof(index)) == log.root()


@pytest.mark.parametrize("size", range(1, 16))
def test_their_entries_make_their_tiles(vectors, tmp_path, size):
    theirs = StaticLog(vectors("tessera/log"), size)
    note = (theirs.folder / f"checkpoint.{size}").read_bytes()
    write_tiles(tmp_path, theirs.entries(), Checkpoint(ORIGIN, *theirs.head(KEYS, ORIGIN, f"checkpoint.{size}")), note)
    for path in wanted(size):
        assert (tmp_path / path).read_bytes() == (theirs.folder / path).read_bytes()
    assert (tmp_path / "checkpoint").read_bytes() == note
