"""A step as bytes: per rank a block with a head, the beginning of the hash of every leaf, and the leaves.

A leaf per row, and after those of rank 0 one for the book. With leaf, stored hash
and signed root, two of three tell which one was changed. Whatever knows its leaves
can be written (`Step`): a gate need not build a `Row` per example.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage.book import decode_book, encode_book
from aqpolicy.lineage.leaf import FLAGS_AT, KEY, decode_row, encode_row, row_bytes, row_end
from aqpolicy.lineage.record import Book, Layout, Row
from aqpolicy.lineage.visits import Visits, by_rank, checked, in_order, whole
from aqpolicy.trust import leaf_hashes, root_of

NO_NAME: Final = 0xFFFF
"""Number of the phase or stage where the policy has none."""

SHORT_HASH: Final = 4
"""Bytes that are stored of every leaf's hash."""

_BLOCK: Final = struct.Struct("<4sIQIQIHHiQH")
_MAGIC: Final = b"AQK3"
HEAD_BYTES: Final = _BLOCK.size
"""Bytes of a block's head, without the rows per part that follow."""
_PART: Final = 4


class Step(Protocol):
    """A step to be written; `StepBlock` says what its members mean."""

    @property
    def attempt(self) -> int:
        """Number of the attempt."""

    @property
    def step(self) -> int:
        """Number of the step."""

    @property
    def epoch(self) -> int:
        """Number of the epoch."""

    @property
    def time_ns(self) -> int:
        """When it was."""

    @property
    def phase(self) -> str:
        """Where the run is by plan."""

    @property
    def stage(self) -> str:
        """Where the run is by certification."""

    @property
    def today(self) -> int:
        """The date of the run."""

    @property
    def book(self) -> Book:
        """What the optimizer did."""

    @property
    def keys(self) -> bytes:
        """All example keys, one after the other."""

    @property
    def visits(self) -> Visits:
        """Rows per part, and in it per rank."""

    def charged(self, budgets: int) -> Sequence[int]:
        """Return what every budget is charged by all rows."""

    def leaves(self, layout: Layout) -> list[bytes]:
        """Return the leaf of every row, in the order of the visits."""


@dataclass(frozen=True, slots=True)
class StepBlock:
    """All that is recorded of one step."""

    attempt: int
    step: int
    epoch: int
    time_ns: int
    """Advisory: order is a matter of the log, not of clocks."""
    rows: tuple[Row, ...]
    """In the order in which the gate visited them: part by part, in each part rank by rank."""
    book: Book
    phase: str = ""
    """Where the run is by plan; empty where the policy has no phases."""
    stage: str = ""
    """Where the run is by certification; empty where the policy has no stages."""
    today: int = 0
    """The date of the run, in days since 1970."""
    visits: Visits = ()
    """Rows per part, and in it per rank; where it is left out, there is one of each."""

    def __post_init__(self) -> None:
        """Fill in what was left out."""
        if not self.visits:
            object.__setattr__(self, "visits", whole(len(self.rows)))

    @property
    def keys(self) -> bytes:
        """All example keys, one after the other."""
        return b"".join(row.example_key for row in self.rows)

    def charged(self, budgets: int) -> list[int]:
        """Return what every budget is charged by all rows."""
        return [sum(row.charges[number] for row in self.rows) for number in range(budgets)]

    def leaves(self, layout: Layout) -> list[bytes]:
        """Return the leaf of every row, in the order of the visits."""
        return [encode_row(row, layout) for row in self.rows]


def name_number(name: str, names: Sequence[str]) -> int:
    """Return the number of a phase or stage.

    Raises:
        LineageError: The run has no such phase or stage.
    """
    if not name:
        return NO_NAME
    if name not in names:
        raise LineageError(f"the log was begun without a phase or stage `{name}`")
    return names.index(name)


@dataclass(frozen=True, slots=True)
class RankBlock:
    """The rows of one rank as they are written."""

    data: bytes
    root: bytes
    rows: int
    leaves: list[bytes]


def encode_blocks(step: Step, layout: Layout, entry: int) -> list[RankBlock]:
    """Return the blocks of a step, one per rank.

    Args:
        step: The step.
        layout: Of the run.
        entry: Index of the step's entry in the log.

    Raises:
        LineageError: A field does not fit its place.
    """
    leaves = step.leaves(layout)
    visits = checked(step.visits, len(leaves))
    names = (name_number(step.phase, layout.phases), name_number(step.stage, layout.stages))
    facts = (step.epoch, *names, step.today, step.time_ns, len(visits))
    blocks = []
    for rank, (own, parts) in enumerate(zip(by_rank(leaves, visits), zip(*visits, strict=True), strict=True)):
        rows = len(own)
        if rank == 0:
            own.append(encode_book(step.book, layout))
        try:
            head = _BLOCK.pack(_MAGIC, step.attempt, step.step, rank, entry, *facts)
            counts = struct.pack(f"<{len(parts)}I", *parts)
        except struct.error as error:
            raise LineageError(f"a step of the log cannot be written: {error}") from error
        hashes = leaf_hashes(own)
        data = b"".join((head, counts, *[one[:SHORT_HASH] for one in hashes], *own))
        blocks.append(RankBlock(data, root_of(hashes), rows, own))
    return blocks


@dataclass(frozen=True, slots=True)
class RawBlock:
    """The rows of one rank cut into leaves, nothing interpreted and nothing verified yet."""

    attempt: int
    step: int
    rank: int
    entry: int
    """Index of the step's entry in the log."""
    epoch: int
    phase: int
    stage: int
    today: int
    time_ns: int
    parts: tuple[int, ...]
    """Rows per part."""
    stored: bytes
    """The beginning of every leaf's hash."""
    leaves: tuple[bytes, ...]
    """Of the rows, and of the book after those of rank 0."""

    @property
    def rows(self) -> tuple[bytes, ...]:
        """The leaves of the rows."""
        return self.leaves if self.rank else self.leaves[:-1]

    @property
    def hashes(self) -> list[bytes]:
        """The beginning of every leaf's hash, as it is stored."""
        return [self.stored[at : at + SHORT_HASH] for at in range(0, len(self.stored), SHORT_HASH)]

    def recomputed(self) -> list[bytes]:
        """Return the hashes of the leaves as they are."""
        return leaf_hashes(self.leaves)

    def differing(self, recomputed: Sequence[bytes]) -> list[int]:
        """Return the positions of leaves that do not have the hash that is stored."""
        if b"".join([one[:SHORT_HASH] for one in recomputed]) == self.stored:
            return []
        pairs = zip(recomputed, self.hashes, strict=True)
        return [number for number, (one, stored) in enumerate(pairs) if one[:SHORT_HASH] != stored]


def cut_block(data: bytes, layout: Layout) -> RawBlock:
    """Cut the bytes of a block into leaves.

    Trust:
        data is untrusted.

    Raises:
        CorruptLogError: The lengths do not add up; `where` names the row.
    """
    if len(data) < HEAD_BYTES:
        raise CorruptLogError("the block is cut short")
    magic, attempt, step, rank, entry, epoch, phase, stage, today, time_ns, count = _BLOCK.unpack_from(data)
    start = HEAD_BYTES + _PART * count
    if magic != _MAGIC or not count or start > len(data):
        raise CorruptLogError("the block has no valid head")
    parts = struct.unpack_from(f"<{count}I", data, HEAD_BYTES)
    rows = sum(parts)
    if rows > len(data) // row_bytes(layout):
        raise CorruptLogError("the block has no valid head")
    end = start + SHORT_HASH * (rows + (rank == 0))
    leaves = tuple(_leaves(data, end, rows, layout, has_book=rank == 0))
    return RawBlock(attempt, step, rank, entry, epoch, phase, stage, today, time_ns, parts, data[start:end], leaves)


def key_of_row(data: bytes | memoryview, number: int, layout: Layout) -> bytes:
    """Return the example key of a row as it stands in its block, compared with nothing; empty where there is none.

    No more of the block is looked at than where the row begins.
    """
    if len(data) < HEAD_BYTES:
        return b""
    _, _, _, rank, *_, count = _BLOCK.unpack_from(data)
    start = HEAD_BYTES + _PART * count
    rows = sum(struct.unpack_from(f"<{count}I", data, HEAD_BYTES)) if start <= len(data) else 0
    if not 0 <= number < rows:
        return b""
    at, width = start + SHORT_HASH * (rows + (rank == 0)), row_bytes(layout)
    end = at + width * number
    if any(data[at + FLAGS_AT : end : width]):  # a row before it is longer
        try:
            return cut_block(bytes(data), layout).leaves[number][KEY]
        except CorruptLogError:
            return b""
    return bytes(data[end:][KEY])


def entry_of_block(data: bytes) -> int:
    """Return the index of the entry that a block names, without looking at the rest of it.

    Raises:
        CorruptLogError: It is no block.
    """
    if len(data) < HEAD_BYTES or not data.startswith(_MAGIC):
        raise CorruptLogError("the block has no valid head")
    entry: int = _BLOCK.unpack_from(data)[4]
    return entry


def _leaves(data: bytes, at: int, rows: int, layout: Layout, *, has_book: bool) -> Iterator[bytes]:
    ends = _plain_ends(data, at, rows, layout) or _ends(data, at, rows, layout)
    last = at
    for start, last in pairwise([at, *ends]):
        yield data[start:last]
    if has_book:
        yield data[last:]
    elif last != len(data):
        raise CorruptLogError("the rows do not end where the block does", f"row {rows}")


def _plain_ends(data: bytes, at: int, rows: int, layout: Layout) -> Sequence[int]:
    """Return where rows end that have neither exceptions nor sketch nor large charges; nothing where one has.

    The first row that has them shows it where its flags are looked for.
    """
    width = row_bytes(layout)
    end = at + width * rows
    if end > len(data) or any(data[at + FLAGS_AT : end : width]):
        return ()
    return range(at + width, end + 1, width)


def _ends(data: bytes, at: int, rows: int, layout: Layout) -> list[int]:
    ends = []
    for number in range(rows):
        try:
            at = row_end(data, at, layout)
        except CorruptLogError as error:
            raise CorruptLogError(str(error), f"row {number}") from error
        ends.append(at)
    return ends


def decode_blocks(blocks: Sequence[RawBlock], layout: Layout) -> StepBlock:
    """Return the step of the cut blocks of all its ranks.

    Raises:
        CorruptLogError: A leaf does not decode (`where` names it), or the blocks are not those of one step.
    """
    first, visits = blocks[0], visits_of(blocks)
    rows = [[_row(block, number, layout) for number in range(len(block.rows))] for block in blocks]
    book = decode_book(first.leaves[-1], layout)
    names = (_name(first.phase, layout.phases), _name(first.stage, layout.stages))
    ordered = tuple(in_order(rows, visits))
    return StepBlock(first.attempt, first.step, first.epoch, first.time_ns, ordered, book, *names, first.today, visits)


def visits_of(blocks: Sequence[RawBlock]) -> Visits:
    """Return rows per part, and in it per rank.

    Raises:
        CorruptLogError: The blocks are not those of one step, rank by rank.
    """
    if [block.rank for block in blocks] != list(range(len(blocks))) or len({len(block.parts) for block in blocks}) != 1:
        raise CorruptLogError("the blocks are not those of the ranks of one step")
    return tuple(zip(*(block.parts for block in blocks), strict=True))


def _row(block: RawBlock, number: int, layout: Layout) -> Row:
    try:
        return decode_row(block.leaves[number], layout)
    except CorruptLogError as error:
        place = f"row {number}" if not block.rank else f"rank {block.rank}, row {number}"
        raise CorruptLogError(str(error), place) from error


def _name(number: int, names: Sequence[str]) -> str:
    if number == NO_NAME:
        return ""
    if number >= len(names):
        raise CorruptLogError("the block names a phase or stage that the run does not have")
    return names[number]
