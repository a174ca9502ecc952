"""A step as bytes: a head, the hash of every leaf, the leaves; one leaf per row, the book last.

With leaf, stored hash and signed root, two of three tell which one was changed.
Whatever knows its leaves can be written (`Step`): a gate need not build a `Row`
per example.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage.leaf import book_bytes, decode_book, decode_row, encode_book, encode_row, row_bytes, row_end
from aqpolicy.lineage.record import Book, Layout, Row
from aqpolicy.trust import leaf_hash, root_of

NO_NAME: Final = 0xFFFF
"""Number of the phase or stage where the policy has none."""

_BLOCK: Final = struct.Struct("<4sIQIHHiQI")
HEAD_BYTES: Final = _BLOCK.size
_HASH: Final = 32


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

    def charged(self, budgets: int) -> Sequence[int]:
        """Return what every budget is charged by all rows."""

    def leaves(self, layout: Layout) -> list[bytes]:
        """Return the leaf of every row."""


@dataclass(frozen=True, slots=True)
class StepBlock:
    """All that is recorded of one step."""

    attempt: int
    step: int
    epoch: int
    time_ns: int
    """Advisory: order is a matter of the log, not of clocks."""
    rows: tuple[Row, ...]
    book: Book
    phase: str = ""
    """Where the run is by plan; empty where the policy has no phases."""
    stage: str = ""
    """Where the run is by certification; empty where the policy has no stages."""
    today: int = 0
    """The date of the run, in days since 1970."""

    @property
    def keys(self) -> bytes:
        """All example keys, one after the other."""
        return b"".join(row.example_key for row in self.rows)

    def charged(self, budgets: int) -> list[int]:
        """Return what every budget is charged by all rows."""
        return [sum(row.charges[number] for row in self.rows) for number in range(budgets)]

    def leaves(self, layout: Layout) -> list[bytes]:
        """Return the leaf of every row."""
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


def encode_block(step: Step, layout: Layout) -> tuple[bytes, bytes, int]:
    """Return the bytes of a step, the root of its leaves, and the number of its rows.

    Raises:
        LineageError: A field does not fit its place.
    """
    leaves = step.leaves(layout)
    rows = len(leaves)
    leaves.append(encode_book(step.book, layout))
    hashes = [leaf_hash(leaf) for leaf in leaves]
    names = (name_number(step.phase, layout.phases), name_number(step.stage, layout.stages))
    try:
        head = _BLOCK.pack(b"AQK2", step.attempt, step.step, step.epoch, *names, step.today, step.time_ns, rows)
    except struct.error as error:
        raise LineageError(f"a step of the log cannot be written: {error}") from error
    return b"".join((head, *hashes, *leaves)), root_of(hashes), rows


@dataclass(frozen=True, slots=True)
class RawBlock:
    """A step cut into leaves, nothing interpreted and nothing verified yet."""

    attempt: int
    step: int
    epoch: int
    phase: int
    stage: int
    today: int
    time_ns: int
    hashes: tuple[bytes, ...]
    leaves: tuple[bytes, ...]

    def recomputed(self) -> list[bytes]:
        """Return the hashes of the leaves as they are."""
        return [leaf_hash(leaf) for leaf in self.leaves]


def cut_block(data: bytes, layout: Layout) -> RawBlock:
    """Cut the bytes of a step into leaves.

    Trust:
        data is untrusted.

    Raises:
        CorruptLogError: The lengths do not add up; `where` names the row.
    """
    if len(data) < _BLOCK.size:
        raise CorruptLogError("the block is cut short")
    magic, *head, rows = _BLOCK.unpack_from(data)
    if magic != b"AQK2" or rows > len(data) // row_bytes(layout):
        raise CorruptLogError("the block has no valid head")
    start = _BLOCK.size + _HASH * (rows + 1)
    hashes = tuple(data[at : at + _HASH] for at in range(_BLOCK.size, start, _HASH))
    return RawBlock(*(*head, hashes, tuple(_leaves(data, start, rows, layout))))


def _leaves(data: bytes, at: int, rows: int, layout: Layout) -> Iterator[bytes]:
    for number in range(rows):
        try:
            end = row_end(data, at, layout)
        except CorruptLogError as error:
            raise CorruptLogError(str(error), f"row {number}") from error
        yield data[at:end]
        at = end
    if len(data) - at != book_bytes(layout):
        raise CorruptLogError("the book does not end where the block does", "book")
    yield data[at:]


def decode_block(raw: RawBlock, layout: Layout) -> StepBlock:
    """Return the step of a cut block.

    Raises:
        CorruptLogError: A leaf does not decode; `where` names it.
    """
    rows = []
    for number, leaf in enumerate(raw.leaves[:-1]):
        try:
            rows.append(decode_row(leaf, layout))
        except CorruptLogError as error:
            raise CorruptLogError(str(error), f"row {number}") from error
    book = decode_book(raw.leaves[-1], layout)
    names = (_name(raw.phase, layout.phases), _name(raw.stage, layout.stages))
    return StepBlock(raw.attempt, raw.step, raw.epoch, raw.time_ns, tuple(rows), book, *names, raw.today)


def _name(number: int, names: Sequence[str]) -> str:
    if number == NO_NAME:
        return ""
    if number >= len(names):
        raise CorruptLogError("the block names a phase or stage that the run does not have")
    return names[number]
