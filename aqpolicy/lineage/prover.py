"""Make proofs of rows: the trees of the log and of the steps used last are kept, so a proof costs its own length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Final

from aqpolicy.errors import CorruptLogError, ForkedLogError, LineageError
from aqpolicy.lineage.attempts import Resumption
from aqpolicy.lineage.entry import CKPT, RESUME, STEP, StepEntry, decode_entry, decode_step
from aqpolicy.lineage.leaf import KEY
from aqpolicy.lineage.proof import LoggedEntry, RowProof
from aqpolicy.lineage.reader import LineageReader
from aqpolicy.trust import Checkpoint, Tree, example_key, leaf_hash

_STEPS_KEPT: Final = 8
_KIND: Final = slice(4, 5)
"""Where an entry says of what kind it is."""
"""Where the leaf of a row holds the key of its example."""


def signed_tree(reader: LineageReader, head: Checkpoint) -> Tree:
    """Return the tree of the entries below a signed head of the log.

    Raises:
        ForkedLogError: The head reaches further than the log, or its root is another one.
    """
    tree = Tree([leaf_hash(data) for _, data in reader.raw_entries(0, head.size)])
    if tree.size != head.size:
        raise ForkedLogError(f"the log has {tree.size} entries, the head says {head.size}: it was cut or rolled back")
    if tree.root() != head.root:
        raise ForkedLogError(f"the head of size {head.size} does not have the root of the entries")
    return tree


@dataclass(frozen=True, slots=True)
class _Rank:
    leaves: tuple[bytes, ...]
    tree: Tree


@dataclass(frozen=True, slots=True)
class _Course:
    """Where below the head the run went back, and where it was last seen in an attempt."""

    resumptions: tuple[tuple[int, Resumption], ...]
    step: int
    """Index of the newest STEP entry, -1 where there is none."""
    model: int
    """Index of the newest model entry, -1 where there is none."""


class Prover:
    """Makes proofs from one log under one head."""

    def __init__(self, reader: LineageReader, note: bytes | None = None, head: Checkpoint | None = None) -> None:
        """Hash the entries below the head, once.

        Args:
            reader: The log.
            note: The signed head that proofs are made under; the log's newest, where none is given.
            head: What the note says, verified.

        Raises:
            LineageError: The head is that of another log.
            ForkedLogError: The entries are not those that the head was signed over.
        """
        self._reader, self._note, self._head = reader, note or reader.note, head or reader.checkpoint
        if self._head.origin != reader.genesis["origin"]:
            raise LineageError("the head is that of another log; give one of this run")
        self._tree = signed_tree(reader, self._head)
        self._genesis = self._logged(0)
        self._rank = lru_cache(_STEPS_KEPT)(self._read_rank)

    def prove(
        self, step: int, example: str, *, attempt: int | None = None, visit: int | None = None, label: bytes = b""
    ) -> RowProof:
        """Return the proof of what one example did in one step.

        It also shows whether the step counts, as far as the head goes: that no attempt took its place, or which one.

        Args:
            step: Number of the step.
            example: Id of the example.
            attempt: Number of the attempt; the one that counts, where none is given.
            visit: Which row of the example, from 0, where the step has several.
            label: The signed label of the example.

        Raises:
            LineageError: The log has no such row below the head, or several and `visit` does not choose one.
            CorruptLogError: The rows are not those that were signed.
        """
        index = self._reader.index_of_step(step, attempt)
        if index >= self._head.size:
            raise LineageError(f"step {step} lies behind the head of size {self._head.size}; take a newer head")
        entry = self._entry(index)
        rank, position = self._find(entry, example, visit)
        proof = self._proof(entry, rank, position, self._logged(index), self._later(index, entry))
        return replace(proof, example=example, label=label)

    def proofs(self, index: int) -> Iterator[RowProof]:
        """Return the proof of every row of a step, rank by rank; the examples are not named.

        Args:
            index: Of the step's entry in the log.

        Raises:
            LineageError: There is no step below the head.
            CorruptLogError: The rows are not those that were signed.
        """
        entry = self._entry(index)
        logged, later = self._logged(index), self._later(index, entry)
        for rank, part in enumerate(entry.ranks):
            for position in range(part.rows):
                yield self._proof(entry, rank, position, logged, later)

    def _proof(
        self, entry: StepEntry, rank: int, position: int, logged: LoggedEntry, later: tuple[LoggedEntry, ...]
    ) -> RowProof:
        rows = self._rank(entry, rank)
        path, leaf = rows.tree.inclusion_path(position), rows.leaves[position]
        return RowProof(self._note, self._genesis, logged, rank, position, path, leaf, later=later)

    def _find(self, entry: StepEntry, example: str, visit: int | None) -> tuple[int, int]:
        key, shown = example_key(example), f"`{ascii(example)[1:-1]}`"
        found = [
            (rank, position)
            for rank, part in enumerate(entry.ranks)
            for position, leaf in enumerate(self._rank(entry, rank).leaves[: part.rows])
            if leaf[KEY] == key
        ]
        if not found:
            raise LineageError(f"the log has no row of example {shown} in step {entry.step}")
        if visit is None and len(found) > 1:
            raise LineageError(f"example {shown} has {len(found)} rows in step {entry.step}; say which one is meant")
        if not 0 <= (visit or 0) < len(found):
            raise LineageError(f"example {shown} has only {len(found)} rows in step {entry.step}")
        return found[visit or 0]

    def _read_rank(self, entry: StepEntry, rank: int) -> _Rank:
        block = self._reader.raw_block(entry, rank)
        tree = Tree(block.recomputed())
        if tree.root() != entry.ranks[rank].inner_root:
            raise CorruptLogError("the rows are not those of the signed entry", f"step {entry.step}, rank {rank}")
        return _Rank(block.leaves, tree)

    def _entry(self, index: int) -> StepEntry:
        kind, payload = decode_entry(self._reader.entry(index)) if 0 <= index < self._head.size else (0, b"")
        if kind != STEP:
            raise LineageError(f"entry {index} is no step below the head of size {self._head.size}")
        return decode_step(payload)

    def _logged(self, index: int) -> LoggedEntry:
        return LoggedEntry(index, self._reader.entry(index), self._tree.inclusion_path(index))

    def _later(self, index: int, entry: StepEntry) -> tuple[LoggedEntry, ...]:
        """Return the entry that superseded a step; else those that show that none did, where there are such."""
        course = self._course
        after = [(at, resumption) for at, resumption in course.resumptions if at > index]
        for at, resumption in after:
            if resumption.from_step <= entry.step:
                return (self._logged(at),)
        witness = course.step if course.step > index else course.model
        if witness <= index:
            return ()
        return tuple(self._logged(at) for at in (*(at for at, _ in after if at < witness), witness))

    @cached_property
    def _course(self) -> _Course:
        resumptions, newest = [], {STEP: -1, CKPT: -1}
        for at, data in self._reader.raw_entries(0, self._head.size):
            kind = data[_KIND]
            if kind == bytes((RESUME,)):
                resumptions.append((at, Resumption.of(decode_entry(data)[1])))
            elif kind and kind[0] in newest:
                newest[kind[0]] = at
        return _Course(tuple(resumptions), newest[STEP], newest[CKPT])
