"""A10: proofs that are too short or too long, for indexes and sizes that no tree has; and tests/conformance."""

from __future__ import annotations

import pytest
from support.attacking import put_in_place

from aqpolicy.errors import ProofError
from aqpolicy.trust import merkle

LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(7)]
TREE = merkle.Tree(LEAVES)
ROOT = merkle.root_of(LEAVES)
PATH = list(TREE.inclusion_path(5))


@pytest.mark.parametrize("path", [PATH[:-1], PATH[1:], [*PATH, PATH[0]], [], PATH[::-1], [PATH[0][:31], *PATH[1:]]])
def test_a_path_has_the_length_that_index_and_size_give(path: list[bytes]) -> None:
    merkle.verify_inclusion(5, 7, LEAVES[5], PATH, ROOT)
    with pytest.raises(ProofError):
        merkle.verify_inclusion(5, 7, LEAVES[5], path, ROOT)


@pytest.mark.parametrize(("index", "size"), [(7, 7), (-1, 7), (0, 0), (5, 2**63), (2**63, 2**63 + 1), (5, 6), (4, 7)])
def test_there_is_no_such_leaf(index: int, size: int) -> None:
    with pytest.raises(ProofError):
        merkle.verify_inclusion(index, size, LEAVES[5], PATH, ROOT)


def test_more_hashes_than_any_tree_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProofError, match="more hashes than any tree needs"):
        merkle.verify_inclusion(5, 7, LEAVES[5], [bytes(32)] * 100, ROOT)
    put_in_place(monkeypatch, merkle._check_hashes, lambda *_: None)
    with pytest.raises(ProofError, match="too long"):  # the second guard
        merkle.verify_inclusion(5, 7, LEAVES[5], [bytes(32)] * 100, ROOT)
    # Hashes of one byte, which the first guard forbids.
    merkle.verify_inclusion(0, 2, b"a", [b"b"], merkle.root_of([b"a", b"b"]))


@pytest.mark.parametrize(("older", "newer"), [(0, 7), (8, 7), (-1, 7), (3, 2**63)])
def test_histories_of_sizes_that_do_not_follow(older: int, newer: int) -> None:
    with pytest.raises(ProofError):
        merkle.verify_consistency(older, newer, ROOT, ROOT, list(TREE.consistency_path(3)))
