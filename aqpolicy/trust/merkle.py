"""Merkle trees as in certificate transparency: roots, proofs, and a tree that only grows.

Leaves and nodes are hashed with different prefixes, so neither can pass for the
other; an odd node is promoted, never doubled. Everything here takes leaf
*hashes*; `leaf_hash` makes them.

Source:
    RFC 6962, 2.1 (hashes, proofs); RFC 9162, 2.1.3.2 and 2.1.4.2 (verification).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from aqpolicy.errors import CanonicalError, ProofError

HASH_BYTES: Final = 32
LARGEST_SIZE: Final = 2**63 - 1
"""The largest number of leaves; a proof then has at most 63 hashes."""

LARGEST_PATH: Final = 63


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf's bytes."""
    return hashlib.sha256(b"\x00" + data).digest()


def leaf_hashes(leaves: Iterable[bytes]) -> list[bytes]:
    """Return the hashes of many leaves."""
    sha256 = hashlib.sha256  # inlined `leaf_hash`: writing and verifying a log spend their time here
    return [sha256(b"\x00" + data).digest() for data in leaves]


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node over its two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the root of a whole tree; of no leaves, the digest of nothing."""
    if not leaf_hashes:
        return hashlib.sha256(b"").digest()
    level = list(leaf_hashes)
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


class Frontier:
    """A tree of which only the right edge is kept: enough to append and to know the root."""

    def __init__(self) -> None:
        """Start with no leaves."""
        self.size = 0
        self._edge: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash."""
        node, rest = leaf, self.size
        while rest & 1:  # every full subtree of this size merges with the new one
            node = node_hash(self._edge.pop(), node)
            rest >>= 1
        self._edge.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Return the root of all leaves so far."""
        if not self._edge:
            return root_of(())
        node = self._edge[-1]
        for left in reversed(self._edge[:-1]):
            node = node_hash(left, node)
        return node

    def to_bytes(self) -> bytes:
        """Return size (8 bytes, little-endian) and edge, largest subtree first."""
        return self.size.to_bytes(8, "little") + b"".join(self._edge)

    @classmethod
    def from_bytes(cls, data: bytes) -> Frontier:
        """Read what `to_bytes` wrote.

        Raises:
            CanonicalError: The length does not fit the size.
        """
        size = int.from_bytes(data[:8], "little")
        if size > LARGEST_SIZE or len(data) != 8 + HASH_BYTES * size.bit_count():
            raise CanonicalError("the bytes are not the edge of a tree")
        frontier = cls()
        frontier.size = size
        frontier._edge = [data[at : at + HASH_BYTES] for at in range(8, len(data), HASH_BYTES)]
        return frontier


class Tree:
    """A tree of which every node is kept: paths cost their own length, at 64 bytes a leaf."""

    def __init__(self, leaf_hashes: Sequence[bytes]) -> None:
        """Hash all levels once."""
        level = list(leaf_hashes)
        self.size = len(level)
        self._levels = [b"".join(level)]
        while len(level) > 1:
            level = _level_above(level)
            self._levels.append(b"".join(level))

    def root(self, size: int | None = None) -> bytes:
        """Return the root of all leaves, or of the first `size` of them.

        Raises:
            ProofError: There are not so many leaves.
        """
        end = self.size if size is None else size
        if not 0 <= end <= self.size:
            raise ProofError(f"the tree has no {end} leaves")
        node = b""
        while end:
            left = self._node(end & (end - 1), end)  # the smallest full subtree at the end
            node = node_hash(left, node) if node else left
            end &= end - 1
        return node or root_of(())

    def inclusion_path(self, index: int) -> tuple[bytes, ...]:
        """Return the hashes that connect one leaf with the root.

        Raises:
            ProofError: There is no such leaf.
        """
        if not 0 <= index < self.size:
            raise ProofError(f"the tree has no leaf {index}")
        path = []
        for level in self._levels[:-1]:
            at = HASH_BYTES * (index ^ 1)
            if at < len(level):  # the last node of a level may have no sibling
                path.append(level[at : at + HASH_BYTES])
            index >>= 1
        return tuple(path)

    def consistency_path(self, size: int) -> tuple[bytes, ...]:
        """Return the hashes that show the first `size` leaves to be a prefix of all.

        Raises:
            ProofError: `size` is 0 or larger than the tree.
        """
        if not 0 < size <= self.size:
            raise ProofError(f"no consistency proof leads from {size} to {self.size} leaves")
        first, end, beside = 0, self.size, []
        while end != size:
            split = first + (1 << (end - first - 1).bit_length() - 1)
            if size <= split:
                beside.append(self._node(split, end))
                end = split
            else:
                beside.append(self._node(first, split))
                first = split
        own = [self._node(first, end)] if first else []
        return (*own, *reversed(beside))

    def _node(self, first: int, end: int) -> bytes:
        """Return the node over leaves that begin where a subtree does and end where it or the tree does."""
        height = (end - first - 1).bit_length()
        at = HASH_BYTES * (first >> height)
        return self._levels[height][at : at + HASH_BYTES]


def inclusion_path(leaf_hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return one path of a tree that is not kept; see `Tree.inclusion_path`."""
    return Tree(leaf_hashes).inclusion_path(index)


def verify_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Return if the path connects the leaf at `index` with the root of `size` leaves.

    Trust:
        All arguments but root and size are untrusted.

    Raises:
        ProofError: It does not.
    """
    if not 0 <= index < size <= LARGEST_SIZE:
        raise ProofError(f"there is no leaf {index} in a tree of {size}")
    _check_hashes(leaf, root, *path)
    sha256 = hashlib.sha256  # inlined `node_hash`: checking proofs spends its time here
    node, position, last = leaf, index, size - 1
    for sibling in path:
        if last == 0:
            raise ProofError("an inclusion proof is too long")
        if position & 1 or position == last:
            node = sha256(b"\x01" + sibling + node).digest()
            while position and not position & 1:  # levels where this node had no sibling
                position, last = position >> 1, last >> 1
        else:
            node = sha256(b"\x01" + node + sibling).digest()
        position, last = position >> 1, last >> 1
    if last or node != root:
        raise ProofError(f"the leaf {index} is not in the tree with this root")


def consistency_path(leaf_hashes: Sequence[bytes], size: int) -> tuple[bytes, ...]:
    """Return one path of a tree that is not kept; see `Tree.consistency_path`."""
    return Tree(leaf_hashes).consistency_path(size)


def verify_consistency(size1: int, size2: int, root1: bytes, root2: bytes, path: Sequence[bytes]) -> None:
    """Return if a tree of `size1` leaves is a prefix of one of `size2`.

    Trust:
        path, size2 and root2 are untrusted.

    Raises:
        ProofError: It is not shown to be.
    """
    if not 0 < size1 <= size2 <= LARGEST_SIZE:
        raise ProofError(f"no consistency proof leads from {size1} to {size2} leaves")
    if size1 == size2:
        if path or root1 != root2:
            raise ProofError("two trees of one size have different roots, or a proof where none is needed")
        return
    _check_hashes(root1, root2, *path)
    hashes = list(path)
    if size1 & (size1 - 1) == 0:  # the old tree is one full subtree: its root is the first hash
        hashes.insert(0, root1)
    if not hashes:
        raise ProofError("a consistency proof is too short")
    old, new = _replay_consistency(size1, size2, hashes)
    if old != root1 or new != root2:
        raise ProofError(f"the tree of {size1} leaves is not a prefix of the tree of {size2}")


def _replay_consistency(size1: int, size2: int, hashes: list[bytes]) -> tuple[bytes, bytes]:
    position, last = size1 - 1, size2 - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = hashes[0]
    for node in hashes[1:]:
        if last == 0:
            raise ProofError("a consistency proof is too long")
        if position & 1 or position == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, node)
        position, last = position >> 1, last >> 1
    if last:
        raise ProofError("a consistency proof is too short")
    return old, new


def _level_above(level: list[bytes]) -> list[bytes]:
    sha256 = hashlib.sha256  # inlined node_hash: this loop is where loading a manifest spends its time
    above = [sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
    if len(level) & 1:
        above.append(level[-1])
    return above


def _check_hashes(*hashes: bytes) -> None:
    if len(hashes) > LARGEST_PATH + 2:
        raise ProofError("a proof has more hashes than any tree needs")
    if any(len(node) != HASH_BYTES for node in hashes):
        raise ProofError("a proof holds something that is not a hash")
