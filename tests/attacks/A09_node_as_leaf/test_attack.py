"""A09: an inner node passes for a leaf, or the last of an odd number of leaves is counted twice."""

from __future__ import annotations

import pytest

from aqpolicy.errors import ProofError
from aqpolicy.trust import merkle, sha256

LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(3)]


def plain_root(hashes: list[bytes]) -> bytes:
    """Return the root of a tree that doubles odd nodes and tells leaves and nodes by nothing (as Bitcoin's does)."""
    while len(hashes) > 1:
        hashes = hashes + hashes[-1:] * (len(hashes) % 2)
        hashes = [sha256(one + other) for one, other in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


def test_a_node_is_no_leaf() -> None:
    node = merkle.node_hash(*LEAVES[:2])
    root = merkle.root_of(LEAVES)
    merkle.verify_inclusion(2, 3, LEAVES[2], [node], root)
    forged = merkle.leaf_hash(LEAVES[0] + LEAVES[1])  # whoever shows the two hashes as the bytes of a leaf
    assert forged != node
    for index, size in ((0, 2), (1, 2), (0, 1), (0, 3)):
        with pytest.raises(ProofError):
            merkle.verify_inclusion(index, size, forged, [LEAVES[2]], root)
    unmarked = [sha256(bytes([number])) for number in range(4)]
    inner = [sha256(unmarked[0] + unmarked[1]), sha256(unmarked[2] + unmarked[3])]
    assert plain_root(unmarked) == plain_root(inner)  # without marks, two trees have one root


def test_the_last_leaf_is_not_there_twice() -> None:
    doubled = [*LEAVES, LEAVES[-1]]
    assert merkle.root_of(doubled) != merkle.root_of(LEAVES)
    assert plain_root(doubled) == plain_root(LEAVES)  # with doubling, two logs have one root
    with pytest.raises(ProofError):
        merkle.verify_inclusion(3, 4, LEAVES[-1], [LEAVES[-1], merkle.node_hash(*LEAVES[:2])], merkle.root_of(LEAVES))
