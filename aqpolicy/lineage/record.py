"""What the gate says of one step: a row per example and a book, as fixed-width bytes.

No IO. All numbers are little-endian. A row's width follows from the numbers of
depth groups and budgets, which the first entry of the log names. Norms that are
no finite numbers are written as -1, never as NaN, so every fact has one encoding.

Layout: docs/formats/lineage-log.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.trust import leaf_hash, root_of

NO_INDEX: Final = 2**64 - 1
"""Manifest index of an example that the manifest does not hold."""

NO_SURPRISAL: Final = 2**32 - 1
"""Surprisal of an example whose loss is no finite number."""

NOT_BOOKED: Final = -1.0
"""Residual of an optimizer whose steps the book does not reconstruct."""

EFFECTS: Final = ("deny", "defer", "modulate", "admit")
CAUSES: Final = ("granted", "denied", "default", "error")

_ROW: Final = struct.Struct("<4s16sQIBBBBIHHI")
_EXCEPTION: Final = struct.Struct("<HHI")
_BOOK: Final = struct.Struct("<4s16sddddBI")
_BLOCK: Final = struct.Struct("<4sIQIQI")
_HASH: Final = 32


@dataclass(frozen=True, slots=True)
class Layout:
    """What the width of a row depends on."""

    groups: int
    budgets: int


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one example in one step.

    Shapes:
        norms (g): l2 norm of the example's own gradient, unweighted, -1 where it is not finite;
        charges (number of budgets): micro-nats.
    """

    example_key: bytes
    manifest_index: int
    route: int
    """Row of the bundle's mask table."""
    effect: str
    cause: str
    reason_code: int
    surprisal: int
    """Micro-nats, `NO_SURPRISAL` where the loss is not finite."""
    norms: tuple[float, ...]
    charges: tuple[int, ...]
    exceptions: tuple[tuple[int, int, int], ...] = ()
    """Where the applied share is not the table's: group, reason code, share in millionths."""
    sketch: bytes = b""


@dataclass(frozen=True, slots=True)
class Book:
    """What the optimizer did in one step.

    Shapes:
        movement (g): l2 norm of the change of the group's parameters; residual (g): the part of it that the
        recorded gradients do not explain, relative, `NOT_BOOKED` where not reconstructed; closed (g).
    """

    lr: float
    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool
    optimizer: str
    movement: tuple[float, ...]
    residual: tuple[float, ...]
    closed: tuple[bool, ...]
    denominator: int


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


@cache
def _floats(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}f")


@cache
def _counts(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}I")


def encode_row(row: Row) -> bytes:
    """Return the leaf of one row: its fixed part, its exceptions, its sketch.

    Raises:
        LineageError: A field does not fit its place.
    """
    try:
        head = _ROW.pack(
            b"AQR1",
            row.example_key,
            row.manifest_index,
            row.route,
            EFFECTS.index(row.effect),
            CAUSES.index(row.cause),
            row.reason_code,
            0,
            row.surprisal,
            len(row.exceptions),
            0,
            len(row.sketch),
        )
        norms = _floats(len(row.norms)).pack(*row.norms)
        charges = _counts(len(row.charges)).pack(*row.charges)
        exceptions = b"".join(_EXCEPTION.pack(*item) for item in row.exceptions)
    except (struct.error, OverflowError, ValueError) as error:
        raise LineageError(f"a row of the log cannot be written: {error}") from error
    return b"".join((head, norms, charges, exceptions, row.sketch))


def encode_book(book: Book) -> bytes:
    """Return the leaf of a book."""
    groups = len(book.movement)
    try:
        head = _BOOK.pack(
            b"AQB1",
            book.optimizer.encode("ascii")[:16],
            book.lr,
            book.momentum,
            book.dampening,
            book.weight_decay,
            book.nesterov,
            book.denominator,
        )
        numbers = [value if math.isfinite(value) else NOT_BOOKED for value in (*book.movement, *book.residual)]
        return head + _floats(2 * groups).pack(*numbers) + bytes(book.closed)
    except (struct.error, OverflowError, UnicodeEncodeError) as error:
        raise LineageError(f"the book of a step cannot be written: {error}") from error


def encode_block(block: StepBlock) -> tuple[bytes, bytes]:
    """Return the bytes of a step and the root of its leaves: a row each, and the book last."""
    leaves = [*(encode_row(row) for row in block.rows), encode_book(block.book)]
    hashes = [leaf_hash(leaf) for leaf in leaves]
    head = _BLOCK.pack(b"AQK1", block.attempt, block.step, block.epoch, block.time_ns, len(block.rows))
    return b"".join((head, *hashes, *leaves)), root_of(hashes)


@dataclass(frozen=True, slots=True)
class RawBlock:
    """A step cut into leaves, nothing interpreted and nothing verified yet."""

    attempt: int
    step: int
    epoch: int
    time_ns: int
    hashes: tuple[bytes, ...]
    leaves: tuple[bytes, ...]

    @property
    def damaged(self) -> int | None:
        """The first leaf that does not have the hash stored beside it; None where all do."""
        pairs = enumerate(zip(self.leaves, self.hashes, strict=True))
        return next((number for number, (leaf, stored) in pairs if leaf_hash(leaf) != stored), None)

    @property
    def root(self) -> bytes:
        """Root of the leaves as they are."""
        return root_of([leaf_hash(leaf) for leaf in self.leaves])


def cut_block(data: bytes, layout: Layout) -> RawBlock:
    """Cut the bytes of a step into leaves.

    Raises:
        CorruptLogError: The lengths do not add up.
    """
    try:
        magic, attempt, step, epoch, time_ns, rows = _BLOCK.unpack_from(data)
    except struct.error as error:
        raise CorruptLogError("the block is cut short") from error
    if magic != b"AQK1" or rows > len(data) // _ROW.size:
        raise CorruptLogError("the block has no valid head")
    start = _BLOCK.size + _HASH * (rows + 1)
    hashes = tuple(data[at : at + _HASH] for at in range(_BLOCK.size, start, _HASH))
    return RawBlock(attempt, step, epoch, time_ns, hashes, tuple(_leaves(data, start, rows, layout)))


def _leaves(data: bytes, at: int, rows: int, layout: Layout) -> Iterator[bytes]:
    fixed = _ROW.size + 4 * (layout.groups + layout.budgets)
    for number in range(rows):
        if at + fixed > len(data):
            raise CorruptLogError("the block is cut short", f"row {number}")
        fields = _ROW.unpack_from(data, at)
        end = at + fixed + _EXCEPTION.size * fields[9] + fields[11]
        if fields[0] != b"AQR1" or end > len(data):
            raise CorruptLogError("the row has no valid head", f"row {number}")
        yield data[at:end]
        at = end
    if len(data) - at != _BOOK.size + 9 * layout.groups:
        raise CorruptLogError("the book does not end where the block does", "book")
    yield data[at:]


def decode_row(leaf: bytes, layout: Layout) -> Row:
    """Return the row of a leaf.

    Raises:
        CorruptLogError: The bytes are no row.
    """
    try:
        _, key, index, route, effect, cause, reason, zero, surprisal, count, also_zero, sketch = _ROW.unpack_from(leaf)
        at = _ROW.size
        norms = _floats(layout.groups).unpack_from(leaf, at)
        charges = _counts(layout.budgets).unpack_from(leaf, at + 4 * layout.groups)
        at += 4 * (layout.groups + layout.budgets)
        exceptions = tuple(_EXCEPTION.iter_unpack(leaf[at : at + _EXCEPTION.size * count]))
        effect_name, cause_name = EFFECTS[effect], CAUSES[cause]
    except (struct.error, IndexError) as error:
        raise CorruptLogError("the bytes are no row") from error
    rest = leaf[at + _EXCEPTION.size * count :]
    if zero or also_zero or len(rest) != sketch or not all(math.isfinite(norm) for norm in norms):
        raise CorruptLogError("the bytes are no row in canonical form")
    return Row(key, index, route, effect_name, cause_name, reason, surprisal, norms, charges, exceptions, rest)


def decode_book(leaf: bytes, groups: int) -> Book:
    """Return the book of a leaf.

    Raises:
        CorruptLogError: The bytes are no book.
    """
    try:
        magic, name, *terms, nesterov, denominator = _BOOK.unpack_from(leaf)
        numbers = _floats(2 * groups).unpack_from(leaf, _BOOK.size)
        optimizer = name.rstrip(b"\0").decode("ascii")
    except (struct.error, UnicodeDecodeError) as error:
        raise CorruptLogError("the bytes are no book") from error
    closed = leaf[_BOOK.size + 8 * groups :]
    finite = all(math.isfinite(value) for value in (*terms, *numbers))
    if magic != b"AQB1" or nesterov > 1 or len(closed) != groups or max(closed, default=0) > 1 or not finite:
        raise CorruptLogError("the bytes are no book in canonical form")
    lr, momentum, dampening, weight_decay = terms
    return Book(
        lr,
        momentum,
        dampening,
        weight_decay,
        bool(nesterov),
        optimizer,
        numbers[:groups],
        numbers[groups:],
        tuple(map(bool, closed)),
        denominator,
    )


def decode_block(raw: RawBlock, layout: Layout) -> StepBlock:
    """Return the step of a cut block."""
    rows = tuple(decode_row(leaf, layout) for leaf in raw.leaves[:-1])
    book = decode_book(raw.leaves[-1], layout.groups)
    return StepBlock(raw.attempt, raw.step, raw.epoch, raw.time_ns, rows, book)


def total_cells(rows: Sequence[Row]) -> int:
    """Return how many measurements (example and group) the rows hold."""
    return sum(len(row.norms) for row in rows)
