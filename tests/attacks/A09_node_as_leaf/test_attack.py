"""A09: an inner node passes for a leaf, or the last of an odd number of leaves is counted twice.

In proofs of rows: tests/hostile/test_hostile_proof.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.attacking import accepted, begun, content, denied, put_in_place, refused, take, with_leaves
from support.lineage_runs import LAYOUT, edit, row

from aqpolicy.errors import CorruptLogError, ProofError
from aqpolicy.lineage.block import HEAD_BYTES, cut_block
from aqpolicy.lineage.store import block_key
from aqpolicy.trust import merkle, sha256

ENTRIES = [bytes([number]) * 9 for number in range(3)]


def unmarked(data: bytes) -> bytes:
    return sha256(data)


def test_a_node_is_no_leaf(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown() -> None:
        """Show the two hashes below a node, as a node is written, as the only other leaf of a tree of two."""
        hashes = [merkle.leaf_hash(data) for data in ENTRIES]
        node = b"\x01" + hashes[0] + hashes[1]
        merkle.verify_inclusion(0, 2, merkle.leaf_hash(node), [hashes[2]], merkle.root_of(hashes))

    denied(shown, ProofError, "the leaf 0 is not in the tree with this root")
    put_in_place(monkeypatch, merkle.leaf_hash, unmarked)
    shown()


def doubling(level: list[bytes]) -> list[bytes]:
    """Return the level above as Bitcoin makes it."""
    level = level + level[-1:] * (len(level) & 1)
    return [merkle.node_hash(left, right) for left, right in zip(level[::2], level[1::2], strict=True)]


def test_the_last_leaf_is_not_there_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown() -> None:
        hashes = [merkle.leaf_hash(data) for data in ENTRIES]
        beside = [hashes[2], merkle.node_hash(*hashes[:2])]
        merkle.verify_inclusion(3, 4, hashes[2], beside, merkle.root_of(hashes))

    denied(shown, ProofError, "the leaf 3 is not in the tree with this root")
    put_in_place(monkeypatch, merkle._level_above, doubling)
    shown()


def test_the_last_row_of_a_rank_is_not_there_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = begun(tmp_path / "run")
    take(writer, [row(number) for number in range(4)], ((1, 3),))
    writer.close()
    run, key = tmp_path / "run", block_key(0, 0, 1)
    accepted(run)
    signed = cut_block(content(run)[b"blk"][key], LAYOUT).recomputed()

    def twice(data: bytes) -> bytes:
        leaves = cut_block(data, LAYOUT).leaves
        counted = data[:HEAD_BYTES] + (4).to_bytes(4, "little") + data[HEAD_BYTES + 4 :]
        return with_leaves(counted, [*leaves, leaves[-1]])

    edit(run, b"blk", key, twice)
    where = "step 0, rank 1, its entry or all its rows"
    refused(run, CorruptLogError, "the rows are not those that the entry commits to", where=where)
    assert merkle.root_of([*signed, signed[-1]]) != merkle.root_of(signed)
    put_in_place(monkeypatch, merkle._level_above, doubling)
    assert merkle.root_of([*signed, signed[-1]]) == merkle.root_of(signed)  # and the block would be the signed one
