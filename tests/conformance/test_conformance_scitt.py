"""Proofs of our trees, judged by scitt-cose, which shares no code with us: it accepts ours; both refuse altered ones.

Roots and proofs are those of RFC 9162, 2.1; scitt-cose checks them as receipts of transparency logs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqpolicy.errors import ProofError
from aqpolicy.trust import Tree, leaf_hash, verify_consistency, verify_inclusion

oracle = pytest.importorskip("scitt_cose")

MODEST = settings(max_examples=120, deadline=None)
ENTRIES = st.lists(st.binary(max_size=40), min_size=1, max_size=70)
HASHES = st.binary(min_size=32, max_size=32)


def hexed(values: Sequence[bytes]) -> list[str]:
    return [value.hex() for value in values]


def ours(check: Callable[[], None]) -> bool:
    try:
        check()
    except ProofError:
        return False
    return True


def included(index: int, size: int, entry: bytes, path: Sequence[bytes], root: bytes) -> tuple[bool, bool]:
    """Return how we and the oracle judge an inclusion proof."""
    own = ours(lambda: verify_inclusion(index, size, leaf_hash(entry), path, root))
    return own, oracle.verify_inclusion(entry.hex(), index, size, hexed(path), root.hex())


def consistent(first: int, second: int, path: Sequence[bytes], roots: Sequence[bytes]) -> tuple[bool, bool]:
    """Return how we and the oracle judge a consistency proof."""
    own = ours(lambda: verify_consistency(first, second, *roots, path))
    return own, oracle.verify_consistency(*hexed(roots), first, second, hexed(path))


def altered(draw: Callable[..., object], path: Sequence[bytes]) -> list[bytes]:
    """Return a path that differs in one way: a hash changed, left out, added, or moved."""
    hashes = list(path)
    at = draw(st.integers(0, len(hashes)))
    assert isinstance(at, int)
    other = draw(HASHES)
    assert isinstance(other, bytes)
    if at == len(hashes) or draw(st.booleans()):
        return [*hashes[:at], other, *hashes[at:]]
    if draw(st.booleans()):
        return [*hashes[:at], *hashes[at + 1 :]]
    return [*hashes[:at], bytes(byte ^ 1 for byte in hashes[at]), *hashes[at + 1 :]]


@MODEST
@given(ENTRIES)
def test_roots_are_those_of_the_oracle(entries: list[bytes]) -> None:
    assert Tree([leaf_hash(entry) for entry in entries]).root().hex() == oracle.merkle_root(hexed(entries))
    assert leaf_hash(entries[0]).hex() == oracle.leaf_hash(entries[0].hex())


@MODEST
@given(ENTRIES, st.data())
def test_the_oracle_accepts_our_inclusion_proofs_and_makes_the_same(entries: list[bytes], data: st.DataObject) -> None:
    tree = Tree([leaf_hash(entry) for entry in entries])
    index = data.draw(st.integers(0, len(entries) - 1))
    path = tree.inclusion_path(index)
    assert hexed(path) == oracle.inclusion_proof(hexed(entries), index)
    assert included(index, len(entries), entries[index], path, tree.root()) == (True, True)


@MODEST
@given(ENTRIES, st.data())
def test_both_refuse_altered_inclusion_proofs(entries: list[bytes], data: st.DataObject) -> None:
    tree = Tree([leaf_hash(entry) for entry in entries])
    size, index = len(entries), data.draw(st.integers(0, len(entries) - 1))
    entry, path, root = entries[index], tree.inclusion_path(index), tree.root()
    other = data.draw(st.integers(0, size + 3).filter(lambda at: at >= size or entries[at] != entry))
    for judged in (
        included(index, size, entry, altered(data.draw, path), root),
        included(index, size, entry + b"\x00", path, root),
        included(index, size, entry, path, data.draw(HASHES)),
        included(other, size, entry, path, root),
    ):
        assert judged == (False, False)


@MODEST
@given(ENTRIES, st.integers(0, 80), st.integers(0, 80), st.data())
def test_both_judge_an_inclusion_proof_at_another_place_alike(
    entries: list[bytes], index: int, size: int, data: st.DataObject
) -> None:
    tree = Tree([leaf_hash(entry) for entry in entries])
    at = data.draw(st.integers(0, len(entries) - 1))
    own, other = included(index, size, entries[at], tree.inclusion_path(at), tree.root())
    assert own == other


@MODEST
@given(ENTRIES, st.data())
def test_the_oracle_accepts_our_consistency_proofs_and_makes_the_same(
    entries: list[bytes], data: st.DataObject
) -> None:
    tree, size = Tree([leaf_hash(entry) for entry in entries]), len(entries)
    first = data.draw(st.integers(1, size))
    path, roots = tree.consistency_path(first), (tree.root(first), tree.root())
    assert hexed(path) == oracle.consistency_proof(hexed(entries), first, size)
    assert consistent(first, size, path, roots) == (True, True)


@MODEST
@given(ENTRIES, st.data())
def test_both_refuse_altered_consistency_proofs(entries: list[bytes], data: st.DataObject) -> None:
    tree, size = Tree([leaf_hash(entry) for entry in entries]), len(entries)
    first = data.draw(st.integers(1, size))
    path, roots = tree.consistency_path(first), (tree.root(first), tree.root())
    stranger = data.draw(HASHES)
    for judged in (
        consistent(first, size, altered(data.draw, path), roots),
        consistent(first, size, path, (stranger, roots[1])),
        consistent(first, size, path, (roots[0], stranger)),
        consistent(size + 1, size, path, roots),
    ):
        assert judged == (False, False)


@MODEST
@given(ENTRIES, st.integers(1, 80), st.integers(1, 80), st.data())
def test_both_judge_a_consistency_proof_between_other_sizes_alike(
    entries: list[bytes], first: int, second: int, data: st.DataObject
) -> None:
    tree = Tree([leaf_hash(entry) for entry in entries])
    at = data.draw(st.integers(1, len(entries)))
    own, other = consistent(first, second, tree.consistency_path(at), (tree.root(at), tree.root()))
    assert own == other
