"""Rows and books as bytes: the leaves of a step's tree.

All numbers are little-endian. A row's width follows from the numbers of depth
groups and budgets, which the first entry of the log names. Every fact has exactly
one encoding; what is read is refused unless a gate would have written it so.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import cache
from typing import Final

from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage.record import CAUSES, EFFECTS, KEY_BYTES, NOT_BOOKED, NOT_FINITE, NOT_MEASURED, Book, Layout, Row

ROW_MAGIC: Final = b"AQR2"
ROW_FIELDS: Final = (
    ("magic", "4s"),
    ("key", "16s"),
    ("index", "Q"),
    ("route", "I"),
    ("effect", "B"),
    ("cause", "B"),
    ("reason", "B"),
    ("zero", "B"),
    ("surprisal", "I"),
    ("entropy", "I"),
    ("exceptions", "H"),
    ("also_zero", "H"),
    ("sketch", "I"),
)
"""Fixed part of a row: name and `struct` code. Norms (f32 per group) and charges (u64 per budget) follow."""

EXCEPTION_FIELDS: Final = (("group", "H"), ("reason", "H"), ("share", "I"))

LARGEST_NORM: Final = 3.4028234663852886e38
"""The largest f32: a norm beyond it is written as not finite."""

_ROW: Final = struct.Struct("<" + "".join(code for _, code in ROW_FIELDS))
_EXCEPTION: Final = struct.Struct("<" + "".join(code for _, code in EXCEPTION_FIELDS))
_BOOK: Final = struct.Struct("<4s16s6dBBH")
_COLUMNS: Final = 6
"""Columns of a book with one f64 per group."""


def row_bytes(layout: Layout) -> int:
    """Return the bytes of a row without exceptions and sketch."""
    return _ROW.size + 4 * layout.groups + 8 * layout.budgets


def book_bytes(layout: Layout) -> int:
    """Return the bytes of a book."""
    return _BOOK.size + (8 * _COLUMNS + 1) * layout.groups + 16 * layout.budgets


def row_end(data: bytes, at: int, layout: Layout) -> int:
    """Return where the row that begins at `at` ends.

    Raises:
        CorruptLogError: There begins none, or it ends behind the data.
    """
    if at + row_bytes(layout) > len(data):
        raise CorruptLogError("the block is cut short")
    magic, *_, exceptions, _, sketch = _ROW.unpack_from(data, at)
    end = at + row_bytes(layout) + _EXCEPTION.size * exceptions + sketch
    if magic != ROW_MAGIC or end > len(data):
        raise CorruptLogError("the row has no valid head")
    return int(end)


@cache
def _tail(groups: int, budgets: int) -> struct.Struct:
    return struct.Struct(f"<{groups}f{budgets}Q")


@cache
def _doubles(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}d")


@cache
def _counts(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}Q")


def _norms(values: Sequence[float]) -> list[float]:
    """Return norms as they are written."""
    return [value + 0.0 if 0 <= value <= LARGEST_NORM or value == NOT_MEASURED else NOT_FINITE for value in values]


def _numbers(values: Sequence[float], *marks: float) -> list[float]:
    """Return measured numbers as they are written: what is not finite as -1; `marks` stand for themselves."""
    return [value + 0.0 if 0 <= value < math.inf or value in marks else NOT_FINITE for value in values]


def _are_numbers(values: Sequence[float], *marks: float) -> bool:
    """Return whether every value is finite and not negative, or one of the marks; -0 is neither."""
    return all((math.copysign(1, value) > 0 and value < math.inf) or value in marks for value in values)


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
            ROW_MAGIC,
            row.example_key,
            row.manifest_index,
            row.route,
            EFFECTS.index(row.effect),
            CAUSES.index(row.cause),
            row.reason_code,
            0,
            row.surprisal,
            row.entropy,
            len(row.exceptions),
            0,
            len(row.sketch),
        )
        tail = _tail(layout.groups, layout.budgets).pack(*_norms(row.norms), *row.charges)
        exceptions = b"".join(_EXCEPTION.pack(*item) for item in row.exceptions)
    except (struct.error, ValueError) as error:
        raise LineageError(f"a row of the log cannot be written: {error}") from error
    return b"".join((head, tail, exceptions, row.sketch))


def decode_row(leaf: bytes, layout: Layout) -> Row:
    """Return the row of a leaf.

    Trust:
        leaf is untrusted.

    Raises:
        CorruptLogError: The bytes are not the one encoding of a row.
    """
    fixed = row_bytes(layout)
    if len(leaf) < fixed:
        raise CorruptLogError("the row is cut short")
    head = _ROW.unpack_from(leaf)
    magic, key, index, route, effect, cause, reason, zero, surprisal, entropy, count, also_zero, sketch = head
    end = fixed + _EXCEPTION.size * count
    if magic != ROW_MAGIC or zero or also_zero or len(leaf) != end + sketch:
        raise CorruptLogError("the row has no valid head")
    if effect >= len(EFFECTS) or cause >= len(CAUSES):
        raise CorruptLogError("the row has an unknown effect or cause")
    tail = _tail(layout.groups, layout.budgets).unpack_from(leaf, _ROW.size)
    norms, charges = tail[: layout.groups], tail[layout.groups :]
    exceptions = tuple(_EXCEPTION.iter_unpack(leaf[fixed:end]))
    beyond = any(group >= layout.groups for group, _, _ in exceptions)
    if beyond or not _are_numbers(norms, NOT_FINITE, NOT_MEASURED):
        raise CorruptLogError("the row holds a norm or a depth group that no gate writes")
    verdict = (EFFECTS[effect], CAUSES[cause], reason)
    return Row(key, index, route, *verdict, surprisal, norms, charges, exceptions, leaf[end:], entropy)


def encode_book(book: Book, layout: Layout) -> bytes:
    """Return the leaf of a book.

    Raises:
        LineageError: A field does not fit its place, or a number is none that a gate may write.
    """
    terms = (book.lr, book.momentum, book.dampening, book.weight_decay, book.loss_scale, book.denominator)
    columns = (
        _numbers(book.movement),
        _numbers(book.proposed),
        _numbers(book.residual, NOT_BOOKED),
        book.factors,
        _numbers(book.drift, NOT_MEASURED),
        _numbers(book.clip),
    )
    charges = (book.movement_charges, book.drift_charges)
    if {*map(len, columns), len(book.closed)} != {layout.groups} or {*map(len, charges)} != {layout.budgets}:
        raise LineageError("the book of a step has another shape than the run")
    _refuse_terms(terms, book.factors, LineageError)
    name = book.optimizer.encode("ascii", "replace")[:16]
    flat = [value for column in columns for value in column]
    try:
        head = _BOOK.pack(b"AQB2", name, *terms, book.nesterov, book.mixed, book.parts)
        counts = _counts(2 * layout.budgets).pack(*charges[0], *charges[1])
    except struct.error as error:
        raise LineageError(f"the book of a step cannot be written: {error}") from error
    return b"".join((head, _doubles(len(flat)).pack(*flat), counts, bytes(map(bool, book.closed))))


def decode_book(leaf: bytes, layout: Layout) -> Book:
    """Return the book of a leaf.

    Trust:
        leaf is untrusted.

    Raises:
        CorruptLogError: The bytes are not the one encoding of a book.
    """
    groups, budgets = layout.groups, layout.budgets
    if len(leaf) != book_bytes(layout):
        raise CorruptLogError("the book has another length")
    magic, name, *terms, nesterov, mixed, parts = _BOOK.unpack_from(leaf)
    flat = _doubles(_COLUMNS * groups).unpack_from(leaf, _BOOK.size)
    columns = tuple(flat[start : start + groups] for start in range(0, len(flat), groups or 1))
    movement, proposed, residual, factors, drift, clip = columns or ((),) * _COLUMNS
    charges = _counts(2 * budgets).unpack_from(leaf, _BOOK.size + 8 * len(flat))
    closed = leaf[_BOOK.size + 8 * len(flat) + 16 * budgets :]
    optimizer = name.rstrip(b"\0")
    if magic != b"AQB2" or max(nesterov, mixed, *closed, 0) > 1 or not optimizer.isascii():
        raise CorruptLogError("the book has no valid head")
    _refuse_terms(terms, factors, CorruptLogError)
    measured = (*movement, *proposed, *residual, *clip)
    if not _are_numbers(measured, NOT_FINITE) or not _are_numbers(drift, NOT_FINITE, NOT_MEASURED):
        raise CorruptLogError("the book holds a number that no gate writes")
    lr, momentum, dampening, weight_decay, loss_scale, denominator = terms
    return Book(
        lr=lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=bool(nesterov),
        optimizer=optimizer.decode("ascii"),
        movement=movement,
        residual=residual,
        closed=tuple(map(bool, closed)),
        denominator=denominator,
        mixed=bool(mixed),
        parts=parts,
        loss_scale=loss_scale,
        proposed=proposed,
        factors=factors,
        drift=drift,
        clip=clip,
        movement_charges=charges[:budgets],
        drift_charges=charges[budgets:],
    )


def _refuse_terms(terms: Sequence[float], factors: Sequence[float], error: type[LineageError]) -> None:
    """Refuse settings that are not finite, a scale or denominator that is not positive, factors outside 0 to 1."""
    if not all(math.isfinite(term) for term in terms) or not min(terms[-2:]) > 0:
        raise error("the book of a step holds a setting that is not finite, or a scale or denominator that is none")
    if not all(0 <= factor <= 1 and math.copysign(1, factor) > 0 for factor in factors):
        raise error("the book of a step holds a factor outside 0 to 1")
