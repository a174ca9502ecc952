from __future__ import annotations

import hashlib

import pytest

from aqpolicy.errors import CanonicalError, ProofError
from aqpolicy.trust import (
    Frontier,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)


def leaves(count):
    return [leaf_hash(b"%d" % number) for number in range(count)]


def test_hashes_have_the_prefixes_of_rfc_6962():
    assert leaf_hash(b"") == hashlib.sha256(b"\x00").digest()
    assert node_hash(b"l", b"r") == hashlib.sha256(b"\x01lr").digest()
    assert root_of([]) == hashlib.sha256(b"").digest()


def test_an_odd_leaf_is_promoted_not_doubled():
    a, b, c = leaves(3)
    assert root_of([a, b, c]) == node_hash(node_hash(a, b), c)
    assert root_of([a, b, c]) != root_of([a, b, c, c])


def test_a_frontier_has_the_root_of_all_leaves_so_far():
    frontier = Frontier()
    for count, leaf in enumerate([*leaves(40), None]):
        assert frontier.root() == root_of(leaves(count))
        assert frontier.size == count
        again = Frontier.from_bytes(frontier.to_bytes())
        assert (again.root(), again.size) == (frontier.root(), frontier.size)
        if leaf is not None:
            frontier.append(leaf)


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(9), b"\x01" + bytes(7), b"\x01" + bytes(7 + 31), b"\xff" * 8])
def test_bytes_that_are_no_frontier_are_refused(data):
    with pytest.raises(CanonicalError):
        Frontier.from_bytes(data)


def test_proofs_outside_the_tree_are_not_made():
    for index in (-1, 3):
        with pytest.raises(ProofError):
            inclusion_path(leaves(3), index)
    for size in (0, 4):
        with pytest.raises(ProofError):
            consistency_path(leaves(3), size)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0), (0, 2**63), (2**63, 2**64)])
def test_positions_outside_any_tree_are_refused(index, size):
    with pytest.raises(ProofError):
        verify_inclusion(index, size, leaves(1)[0], [], leaves(1)[0])


@pytest.mark.parametrize(("size1", "size2"), [(0, 3), (3, 2), (-1, 2), (1, 2**63)])
def test_sizes_that_cannot_follow_each_other_are_refused(size1, size2):
    with pytest.raises(ProofError):
        verify_consistency(size1, size2, bytes(32), bytes(32), [])


def test_a_node_does_not_pass_for_a_leaf():
    all_leaves = leaves(4)
    node = node_hash(*all_leaves[:2])
    other = node_hash(*all_leaves[2:])
    with pytest.raises(ProofError):
        verify_inclusion(0, 4, node, [other], root_of(all_leaves))


def test_hashes_of_another_length_are_refused():
    all_leaves = leaves(4)
    path = list(inclusion_path(all_leaves, 1))
    for wrong in ([path[0], path[1] + b"\x00"], [path[0][:-1], path[1]], [path[0] + path[1]]):
        with pytest.raises(ProofError):
            verify_inclusion(1, 4, all_leaves[1], wrong, root_of(all_leaves))


def test_endless_proofs_are_refused_before_they_are_walked():
    with pytest.raises(ProofError, match="more hashes"):
        verify_inclusion(0, 2**62, bytes(32), [bytes(32)] * 1000, bytes(32))
