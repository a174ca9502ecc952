from __future__ import annotations

import pytest

from aqpolicy.errors import ProofError
from aqpolicy.trust import Tree, leaf_hash, node_hash, root_of, verify_consistency, verify_inclusion


def leaves(count):
    return [leaf_hash(b"%d" % number) for number in range(count)]


def split_of(size):
    """Return the largest power of two below a size."""
    return 1 << (size - 1).bit_length() - 1


def defined_path(hashes, index):
    """Return the path by the recursion of RFC 6962, 2.1.1."""
    if len(hashes) == 1:
        return []
    split = split_of(len(hashes))
    if index < split:
        return [*defined_path(hashes[:split], index), root_of(hashes[split:])]
    return [*defined_path(hashes[split:], index - split), root_of(hashes[:split])]


def defined_subproof(hashes, size, *, whole):
    """Return the consistency proof by the recursion of RFC 6962, 2.1.2."""
    if size == len(hashes):
        return [] if whole else [root_of(hashes)]
    split = split_of(len(hashes))
    if size <= split:
        return [*defined_subproof(hashes[:split], size, whole=whole), root_of(hashes[split:])]
    return [*defined_subproof(hashes[split:], size - split, whole=False), root_of(hashes[:split])]


@pytest.mark.parametrize("count", range(1, 35))
def test_a_kept_tree_has_the_paths_of_the_definition(count):
    hashes = leaves(count)
    tree = Tree(hashes)
    assert tree.root() == root_of(hashes)
    for index in range(count):
        path = tree.inclusion_path(index)
        assert list(path) == defined_path(hashes, index)
        verify_inclusion(index, count, hashes[index], path, tree.root())
    for size in range(1, count + 1):
        path = tree.consistency_path(size)
        assert tree.root(size) == root_of(hashes[:size])
        assert list(path) == defined_subproof(hashes, size, whole=True)
        verify_consistency(size, count, tree.root(size), tree.root(), path)


def test_a_tree_without_leaves_has_the_root_of_nothing():
    tree = Tree([])
    assert tree.root() == tree.root(0) == Tree(leaves(3)).root(0) == root_of([])
    assert node_hash(*leaves(2)) == Tree(leaves(2)).root()


def test_a_tree_gives_nothing_outside_itself():
    tree = Tree(leaves(3))
    for ask in (lambda: tree.root(4), lambda: tree.root(-1), lambda: tree.inclusion_path(3)):
        with pytest.raises(ProofError):
            ask()
    for ask in (lambda: tree.inclusion_path(-1), lambda: tree.consistency_path(0), lambda: tree.consistency_path(4)):
        with pytest.raises(ProofError):
            ask()
