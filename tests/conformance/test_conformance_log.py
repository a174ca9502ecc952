"""A log that another implementation wrote: its notes open, and its entries have the roots that it signed."""

from __future__ import annotations

import pytest

from aqpolicy.errors import SignatureError
from aqpolicy.trust import (
    VerifyKey,
    consistency_path,
    leaf_hash,
    open_checkpoint,
    root_of,
    verify_consistency,
)

KEY = VerifyKey.parse("example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx")


def checkpoint(log, size):
    return open_checkpoint((log / f"checkpoint.{size}").read_bytes(), [KEY])


def leaves(log, size):
    """Hash the entries of a tile: each has its length, 2 bytes, big-endian, before it (tlog-tiles)."""
    data, hashed, at = (log / "tile" / "entries" / "000.p" / str(size)).read_bytes(), [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        hashed.append(leaf_hash(data[at + 2 : end]))
        at = end
    return hashed


@pytest.mark.parametrize("size", range(16))
def test_every_checkpoint_opens(vectors, size):
    head = checkpoint(vectors("tessera/log"), size)
    assert (head.origin, head.size) == ("example.com/log/testdata", size)


@pytest.mark.parametrize("size", range(1, 16))
def test_entries_and_tiles_have_the_roots_that_were_signed(vectors, size):
    log = vectors("tessera/log")
    hashed = leaves(log, size)
    assert b"".join(hashed) == (log / "tile" / "0" / "000.p" / str(size)).read_bytes()
    assert root_of(hashed) == checkpoint(log, size).root


@pytest.mark.parametrize("size", range(1, 15))
def test_each_head_extends_the_one_before(vectors, size):
    log = vectors("tessera/log")
    old, new = checkpoint(log, size), checkpoint(log, 15)
    verify_consistency(old.size, new.size, old.root, new.root, consistency_path(leaves(log, 15), size))


def test_another_size_under_the_same_signature_is_refused(vectors):
    note = (vectors("tessera/log") / "checkpoint.7").read_text(encoding="utf-8")
    with pytest.raises(SignatureError):
        open_checkpoint(note.replace("\n7\n", "\n8\n"), [KEY])
