"""A10: proofs that are too short or too long, for indexes and sizes that no tree has.

In proofs of rows: tests/hostile/test_hostile_proof.py; vectors of others: tests/conformance.
"""

from __future__ import annotations

import pytest
from support.attacking import denied, take_away

from aqpolicy.errors import ProofError
from aqpolicy.trust import merkle

LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(7)]
TREE = merkle.Tree(LEAVES)
ROOT = merkle.root_of(LEAVES)
PATH = list(TREE.inclusion_path(5))
NOT_IN, TOO_LONG = "the leaf 5 is not in the tree with this root", "an inclusion proof is too long"
NO_HASH, TOO_MANY = "a proof holds something that is not a hash", "a proof has more hashes than any tree needs"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (PATH[:-1], NOT_IN),
        (PATH[1:], NOT_IN),
        ([], NOT_IN),
        (PATH[::-1], NOT_IN),
        ([*PATH, PATH[0]], TOO_LONG),
        ([bytes(32)] * 63, TOO_LONG),
        ([bytes(32)] * 64, TOO_MANY),
        ([PATH[0][:31], *PATH[1:]], NO_HASH),
        ([PATH[0] + b"\0", *PATH[1:]], NO_HASH),
        ([b"", *PATH], NO_HASH),
    ],
    ids=range(10),
)
def test_a_path_has_the_length_that_index_and_size_give(path: list[bytes], said: str) -> None:
    merkle.verify_inclusion(5, 7, LEAVES[5], PATH, ROOT)
    denied(lambda: merkle.verify_inclusion(5, 7, LEAVES[5], path, ROOT), ProofError, said)


@pytest.mark.parametrize(
    ("index", "size"), [(7, 7), (-1, 7), (0, 0), (5, 2**63), (2**63, 2**63 + 1), (6, 6), (2**63 - 1, 7)]
)
def test_there_is_no_such_leaf(index: int, size: int) -> None:
    said = f"there is no leaf {index} in a tree of {size}"
    denied(lambda: merkle.verify_inclusion(index, size, LEAVES[5], PATH, ROOT), ProofError, said)


@pytest.mark.parametrize(
    ("older", "newer", "said"),
    [
        (0, 7, "no consistency proof leads from 0 to 7 leaves"),
        (-1, 7, "no consistency proof leads from -1 to 7 leaves"),
        (8, 7, "no consistency proof leads from 8 to 7 leaves"),
        (3, 2**63, f"no consistency proof leads from 3 to {2**63} leaves"),
        (7, 7, "a proof where none is needed"),
        (4, 7, "a consistency proof is too long"),
        (5, 7, "the tree of 5 leaves is not a prefix of the tree of 7"),
        (3, 2**62, "a consistency proof is too short"),
        (3, 4, "a consistency proof is too long"),
    ],
)
def test_histories_of_sizes_that_do_not_follow(older: int, newer: int, said: str) -> None:
    path = TREE.consistency_path(3)
    merkle.verify_consistency(3, 7, merkle.root_of(LEAVES[:3]), ROOT, path)
    denied(lambda: merkle.verify_consistency(older, newer, ROOT, ROOT, path), ProofError, said)


# ---- without the guard


def test_without_the_end_of_a_path_a_tree_has_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = merkle.root_of(LEAVES[:2])

    def shown() -> None:
        merkle.verify_inclusion(0, 1, LEAVES[1], [LEAVES[0]], pair)  # the second of two as the only one

    denied(shown, ProofError, TOO_LONG)
    take_away(monkeypatch, merkle.verify_inclusion, TOO_LONG)
    shown()


def test_without_the_look_at_the_index_one_leaf_is_at_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown() -> None:
        merkle.verify_inclusion(4711, 1, LEAVES[0], [], LEAVES[0])

    denied(shown, ProofError, "there is no leaf 4711 in a tree of 1")
    take_away(monkeypatch, merkle.verify_inclusion, "there is no leaf")
    shown()


def test_without_the_length_of_hashes_two_of_them_are_cut_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = LEAVES[0] + LEAVES[1]

    def shown() -> None:
        merkle.verify_inclusion(0, 2, pair[:31], [pair[31:]], merkle.root_of(LEAVES[:2]))

    denied(shown, ProofError, NO_HASH)
    take_away(monkeypatch, merkle._check_hashes, NO_HASH)
    shown()


def test_without_the_least_length_a_history_that_stood_still_grew(monkeypatch: pytest.MonkeyPatch) -> None:
    root = merkle.root_of(LEAVES[:4])

    def shown() -> None:
        merkle.verify_consistency(4, 8, root, root, [])

    denied(shown, ProofError, "a consistency proof is too short")
    take_away(monkeypatch, merkle._replay_consistency, "a consistency proof is too short")
    shown()
