"""What the gate says of one step: a row per example and a book, as fixed-width bytes.

No IO. All numbers are little-endian. A row's width follows from the numbers of
depth groups and budgets, which the first entry of the log names. A number that is
not finite is written as -1, never as NaN, so every fact has one encoding. It judges
nothing: that a share follows from the policy is for `trace.audit` to say.

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

NOT_FINITE: Final = -1.0
"""Norm that is no finite number."""

NOT_BOOKED: Final = -1.0
"""Residual of an optimizer whose steps the book does not reconstruct."""

KEY_BYTES: Final = 16

EFFECTS: Final = ("deny", "defer", "modulate", "admit")
CAUSES: Final = ("granted", "denied", "default", "error")
REASONS: Final = (
    "table",
    "unknown_example",
    "refused_example",
    "not_finite",
    "per_update",
    "exhausted",
    "deferred",
    "attenuated",
    "halted",
    "gradient_not_finite",
)
"""What the reason codes of rows and exceptions stand for."""

_ROW: Final = struct.Struct("<4s16sQIBBBBIHHI")
_EXCEPTION: Final = struct.Struct("<HHI")
_BOOK: Final = struct.Struct("<4s16sddddBI")
_BLOCK: Final = struct.Struct("<4sIQIQI")
_HASH: Final = 32
_LARGEST_F32: Final = 3.4028234663852886e38


@dataclass(frozen=True, slots=True)
class Layout:
    """What the width of a row depends on."""

    groups: int
    budgets: int

    @property
    def row_bytes(self) -> int:
        """Bytes of a row without exceptions and sketch."""
        return _ROW.size + 4 * (self.groups + self.budgets)

    @property
    def book_bytes(self) -> int:
        """Bytes of a book."""
        return _BOOK.size + 9 * self.groups


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


def _measured(values: Sequence[float]) -> list[float]:
    """Return numbers as they are written: what is not finite, or too large for its place, as -1."""
    return [value + 0.0 if 0 <= value <= _LARGEST_F32 else NOT_FINITE for value in values]


def _all_measured(values: Sequence[float]) -> bool:
    return all(math.isfinite(value) and (value == NOT_FINITE or math.copysign(1, value) > 0) for value in values)


def encode_row(row: Row, layout: Layout) -> bytes:
    """Return the leaf of one row: its fixed part, its exceptions, its sketch.

    Raises:
        LineageError: A field does not fit its place.
    """
    if (len(row.example_key), len(row.norms), len(row.charges)) != (KEY_BYTES, layout.groups, layout.budgets):
        raise LineageError("a row of the log has another shape than the run")
    if any(group >= layout.groups for group, _, _ in row.exceptions):
        raise LineageError("a row of the log names a depth group that the run does not have")
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
        norms = _floats(layout.groups).pack(*_measured(row.norms))
        charges = _counts(layout.budgets).pack(*row.charges)
        exceptions = b"".join(_EXCEPTION.pack(*item) for item in row.exceptions)
    except (struct.error, ValueError) as error:
        raise LineageError(f"a row of the log cannot be written: {error}") from error
    return b"".join((head, norms, charges, exceptions, row.sketch))


def encode_book(book: Book, groups: int) -> bytes:
    """Return the leaf of a book.

    Raises:
        LineageError: A field does not fit its place.
    """
    terms = (book.lr, book.momentum, book.dampening, book.weight_decay)
    if {len(book.movement), len(book.residual), len(book.closed)} != {groups}:
        raise LineageError("the book of a step has another shape than the run")
    if not all(math.isfinite(term) for term in terms):
        raise LineageError("the book of a step holds a setting that is not finite")
    name = book.optimizer.encode("ascii", "replace")[:16]
    try:
        head = _BOOK.pack(b"AQB1", name, *terms, book.nesterov, book.denominator)
    except struct.error as error:
        raise LineageError(f"the book of a step cannot be written: {error}") from error
    return head + _floats(2 * groups).pack(*_measured((*book.movement, *book.residual))) + bytes(book.closed)


def encode_block(block: StepBlock, layout: Layout) -> tuple[bytes, bytes]:
    """Return the bytes of a step and the root of its leaves: a row each, and the book last.

    Raises:
        LineageError: A field does not fit its place.
    """
    leaves = [*(encode_row(row, layout) for row in block.rows), encode_book(block.book, layout.groups)]
    hashes = [leaf_hash(leaf) for leaf in leaves]
    try:
        head = _BLOCK.pack(b"AQK1", block.attempt, block.step, block.epoch, block.time_ns, len(block.rows))
    except struct.error as error:
        raise LineageError(f"a step of the log cannot be written: {error}") from error
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
    magic, attempt, step, epoch, time_ns, rows = _BLOCK.unpack_from(data)
    if magic != b"AQK1" or rows > len(data) // layout.row_bytes:
        raise CorruptLogError("the block has no valid head")
    start = _BLOCK.size + _HASH * (rows + 1)
    hashes = tuple(data[at : at + _HASH] for at in range(_BLOCK.size, start, _HASH))
    return RawBlock(attempt, step, epoch, time_ns, hashes, tuple(_leaves(data, start, rows, layout)))


def _leaves(data: bytes, at: int, rows: int, layout: Layout) -> Iterator[bytes]:
    for number in range(rows):
        if at + layout.row_bytes > len(data):
            raise CorruptLogError("the block is cut short", f"row {number}")
        magic, *_, exceptions, _, sketch = _ROW.unpack_from(data, at)
        end = at + layout.row_bytes + _EXCEPTION.size * exceptions + sketch
        if magic != b"AQR1" or end > len(data):
            raise CorruptLogError("the row has no valid head", f"row {number}")
        yield data[at:end]
        at = end
    if len(data) - at != layout.book_bytes:
        raise CorruptLogError("the book does not end where the block does", "book")
    yield data[at:]


def decode_row(leaf: bytes, layout: Layout) -> Row:
    """Return the row of a leaf.

    Trust:
        leaf is untrusted.

    Raises:
        CorruptLogError: The bytes are not the one encoding of a row.
    """
    if len(leaf) < layout.row_bytes:
        raise CorruptLogError("the row is cut short")
    magic, key, index, route, effect, cause, reason, zero, surprisal, count, also_zero, sketch = _ROW.unpack_from(leaf)
    end = layout.row_bytes + _EXCEPTION.size * count
    if magic != b"AQR1" or zero or also_zero or len(leaf) != end + sketch:
        raise CorruptLogError("the row has no valid head")
    if effect >= len(EFFECTS) or cause >= len(CAUSES):
        raise CorruptLogError("the row has an unknown effect or cause")
    norms = _floats(layout.groups).unpack_from(leaf, _ROW.size)
    charges = _counts(layout.budgets).unpack_from(leaf, _ROW.size + 4 * layout.groups)
    exceptions = tuple(_EXCEPTION.iter_unpack(leaf[layout.row_bytes : end]))
    if not _all_measured(norms) or any(group >= layout.groups for group, _, _ in exceptions):
        raise CorruptLogError("the row holds a norm or a depth group that no gate writes")
    return Row(
        key, index, route, EFFECTS[effect], CAUSES[cause], reason, surprisal, norms, charges, exceptions, leaf[end:]
    )


def decode_book(leaf: bytes, groups: int) -> Book:
    """Return the book of a leaf.

    Trust:
        leaf is untrusted.

    Raises:
        CorruptLogError: The bytes are not the one encoding of a book.
    """
    if len(leaf) != _BOOK.size + 9 * groups:
        raise CorruptLogError("the book has another length")
    magic, name, *terms, nesterov, denominator = _BOOK.unpack_from(leaf)
    numbers = _floats(2 * groups).unpack_from(leaf, _BOOK.size)
    closed = leaf[_BOOK.size + 8 * groups :]
    optimizer = name.rstrip(b"\0")
    if magic != b"AQB1" or nesterov > 1 or not optimizer.isascii() or any(flag > 1 for flag in closed):
        raise CorruptLogError("the book has no valid head")
    if not _all_measured(numbers) or not all(math.isfinite(term) for term in terms):
        raise CorruptLogError("the book holds a number that no gate writes")
    lr, momentum, dampening, weight_decay = terms
    return Book(
        lr=lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=bool(nesterov),
        optimizer=optimizer.decode("ascii"),
        movement=numbers[:groups],
        residual=numbers[groups:],
        closed=tuple(map(bool, closed)),
        denominator=denominator,
    )


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
    book = decode_book(raw.leaves[-1], layout.groups)
    return StepBlock(raw.attempt, raw.step, raw.epoch, raw.time_ns, tuple(rows), book)
