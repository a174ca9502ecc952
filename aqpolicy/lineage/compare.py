"""Compare two histories of one log; where they contradict each other, prove it to anyone.

A log that signed two roots for one size, or a root that does not begin with
another that it signed, has told two people two stories. The proof is the two
signed notes and hashes: it needs nobody's folder and no trust in who found it.

Layout: docs/formats/proof.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final, Literal

from aqpolicy.errors import CanonicalError, InputError, LineageError
from aqpolicy.lineage.fork import ForkProof
from aqpolicy.lineage.prover import signed_tree
from aqpolicy.lineage.reader import LineageReader
from aqpolicy.trust import Checkpoint, Keyring, Tree, open_checkpoint

LARGEST_NOTE: Final = 1_000_000

Relation = Literal["same", "prefix", "fork", "open"]


@dataclass(frozen=True, slots=True)
class Side:
    """One history: a signed head, and the log below it where it is at hand."""

    note: bytes
    head: Checkpoint
    log: LineageReader | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two histories of one log relate."""

    relation: Relation
    """`open`: the heads alone do not tell, and the log of the longer one is not at hand."""
    shorter: Checkpoint
    longer: Checkpoint
    path: tuple[bytes, ...] = ()
    """Shows the shorter to be a prefix of the longer."""
    fork: ForkProof | None = None
    differs_at: int | None = None
    """Index of the first entry that differs; None where it is not known."""


@contextmanager
def open_side(place: Path | str, keyring: Keyring) -> Iterator[Side]:
    """Open a run's folder, or a file with the signed head of a log.

    Raises:
        InputError: There is no such file.
        SignatureError: No trusted key signed the head.
        CanonicalError: The file is no signed head.
        LineageError: The log in the folder cannot be read.
    """
    if Path(place).is_dir():
        with LineageReader(place, keyring) as reader:
            yield Side(reader.note, reader.checkpoint, reader)
        return
    note = read_note(place)
    try:
        head = open_checkpoint(note, keyring.keys("log"))
    except CanonicalError as error:
        raise CanonicalError(f"`{place}` is neither the folder of a run nor a signed head: {error}") from error
    yield Side(note, head)


def read_note(place: Path | str) -> bytes:
    """Read a file that should hold a signed head.

    Raises:
        InputError: It cannot be read.
        CanonicalError: It is too long for a head.
    """
    try:
        with Path(place).open("rb") as file:
            note = file.read(LARGEST_NOTE + 1)
    except OSError as error:
        raise InputError(f"cannot read the signed head `{place}`: {error.strerror}") from error
    if len(note) > LARGEST_NOTE:
        raise CanonicalError(f"`{place}` is too long for a signed head")
    return note


def compare(first: Side, second: Side) -> Comparison:
    """Return how two histories relate.

    Raises:
        LineageError: They are of different logs.
        ForkedLogError: A log at hand is not the one that its own head was signed over.
    """
    if first.head.origin != second.head.origin:
        raise LineageError(f"these are different logs, `{first.head.origin}` and `{second.head.origin}`")
    shorter, longer = sorted((first, second), key=lambda side: side.head.size)
    tree = None if longer.log is None else signed_tree(longer.log, longer.head)
    if shorter.log is not None:
        signed_tree(shorter.log, shorter.head)
    heads = (shorter.head, longer.head)
    if shorter.head.size == longer.head.size:
        if shorter.head.root == longer.head.root:
            return Comparison("same", *heads)
        proof = ForkProof(shorter.note, longer.note)
        return Comparison("fork", *heads, fork=proof, differs_at=_first_difference(shorter, longer))
    if tree is None:
        return Comparison("open", *heads)
    return _within(shorter, longer, tree)


def _within(shorter: Side, longer: Side, tree: Tree) -> Comparison:
    size, heads = shorter.head.size, (shorter.head, longer.head)
    begin, path = tree.root(size), tree.consistency_path(size) if size else ()
    if begin == shorter.head.root:
        return Comparison("prefix", *heads, path=path)
    proof = ForkProof(shorter.note, longer.note, begin, path)
    return Comparison("fork", *heads, fork=proof, differs_at=_first_difference(shorter, longer))


def _first_difference(shorter: Side, longer: Side) -> int | None:
    if shorter.log is None or longer.log is None:
        return None
    pairs = zip_longest(shorter.log.raw_entries(0, shorter.head.size), longer.log.raw_entries(0, shorter.head.size))
    return next((at for at, (one, other) in enumerate(pairs) if one != other), None)
