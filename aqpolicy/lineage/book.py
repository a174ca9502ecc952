"""Books as bytes: the last leaf of rank 0.

Columns in which nothing special is said are left out, and a mask says which these
are; so a book has one encoding, and one that is nothing special is short.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import cache
from typing import Final

from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage.record import ACCOUNTS, NOT_BOOKED, NOT_FINITE, NOT_MEASURED, Book, Layout
from aqpolicy.lineage.touched import decode_touched, encode_touched

BOOK_MAGIC: Final = b"AQB3"
BOOK_HEAD: Final = struct.Struct("<4s16s6dBHH")
"""Magic, optimizer, six settings, flags, mask of the columns that follow, parts."""

_NESTEROV, _MIXED, _ADAPTIVE, _AMSGRAD, _DECOUPLED = 1, 2, 4, 8, 16
_ADAPTION: Final = struct.Struct("<2d")
"""Where the flag of an adaptive optimizer is set: second momentum, epsilon."""
_COLUMNS: Final = ("proposed", "residual", "factors", "drift", "clip", *ACCOUNTS)
"""Columns after the movement, which is always there; the first one has the lowest bit of the mask."""
_USUAL: Final = {"residual": NOT_BOOKED, "factors": 1.0, "drift": NOT_MEASURED, "clip": 1.0} | dict.fromkeys(
    ACCOUNTS, NOT_BOOKED
)
"""What a column that is left out holds; the one left out of `proposed` is the movement."""


def book_bytes(layout: Layout, columns: int = 0) -> int:
    """Return the bytes of a book with this many columns besides the movement, that touched no row of a table."""
    return BOOK_HEAD.size + (8 * (1 + columns) + 1) * layout.groups + 16 * layout.budgets + 4


@cache
def _doubles(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}d")


@cache
def _counts(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}Q")


def _numbers(values: Sequence[float], *marks: float) -> tuple[float, ...]:
    """Return measured numbers as they are written: what is not finite as -1; `marks` stand for themselves."""
    if _are_positive(values):
        return tuple(values)
    return tuple(value + 0.0 if 0 <= value < math.inf or value in marks else NOT_FINITE for value in values)


def _are_numbers(values: Sequence[float], *marks: float) -> bool:
    """Return whether every value is finite and not negative, or one of the marks; -0 is neither."""
    return _are_positive(values) or all(
        (math.copysign(1, value) > 0 and value < math.inf) or value in marks for value in values
    )


def _are_positive(values: Sequence[float]) -> bool:
    """Return true where every value is finite and more than 0, which is most of the time, and quickly seen."""
    return bool(values) and min(values) > 0 and sum(values) < math.inf


def encode_book(book: Book, layout: Layout) -> bytes:
    """Return the leaf of a book.

    Raises:
        LineageError: A field does not fit its place, or a number is none that a gate may write.
    """
    terms = (book.lr, book.momentum, book.dampening, book.weight_decay, book.loss_scale, book.denominator)
    movement = _numbers(book.movement)
    columns = {
        "proposed": _numbers(book.proposed),
        "residual": _numbers(book.residual, NOT_BOOKED),
        "factors": tuple(book.factors),
        "drift": _numbers(book.drift, NOT_MEASURED),
        "clip": _numbers(book.clip),
        **{name: _numbers(getattr(book, name), NOT_BOOKED) for name in ACCOUNTS},
    }
    charges = (book.movement_charges, book.drift_charges)
    widths = {len(movement), len(book.closed), *map(len, columns.values())}
    if widths != {layout.groups} or {*map(len, charges)} != {layout.budgets}:
        raise LineageError("the book of a step has another shape than the run")
    adaption = (book.second_momentum, book.epsilon)
    _refuse_terms(terms, book.factors, LineageError)
    _refuse_adaption(adaption, LineageError, adaptive=True)
    kept = [name for name in _COLUMNS if columns[name] != _usual(name, movement)]
    mask = sum(1 << _COLUMNS.index(name) for name in kept)
    adaptive = bool(book.second_momentum)
    flags = _NESTEROV * bool(book.nesterov) | _MIXED * bool(book.mixed) | _ADAPTIVE * adaptive
    if adaptive:
        flags |= _AMSGRAD * bool(book.amsgrad) | _DECOUPLED * bool(book.decoupled)
    flat = [*movement, *(value for name in kept for value in columns[name])]
    try:
        head = BOOK_HEAD.pack(BOOK_MAGIC, _ascii(book.optimizer), *terms, flags, mask, book.parts)
        counts = _counts(2 * layout.budgets).pack(*charges[0], *charges[1])
    except struct.error as error:
        raise LineageError(f"the book of a step cannot be written: {error}") from error
    closed = bytes(map(bool, book.closed))
    extra = _ADAPTION.pack(*adaption) if adaptive else b""
    return b"".join(
        (head, extra, _doubles(len(flat)).pack(*flat), counts, closed, encode_touched(book.touched, layout))
    )


def _ascii(optimizer: str) -> bytes:
    return optimizer.encode("ascii", "replace")[:16]


def _usual(name: str, movement: tuple[float, ...]) -> tuple[float, ...]:
    """Return what a column that is left out holds; in Python numbers are equal here if and only if their bytes are."""
    return (_USUAL[name],) * len(movement) if name in _USUAL else movement


def decode_book(leaf: bytes, layout: Layout) -> Book:
    """Return the book of a leaf.

    Trust:
        leaf is untrusted.

    Raises:
        CorruptLogError: The bytes are not the one encoding of a book.
    """
    groups, budgets = layout.groups, layout.budgets
    if len(leaf) < BOOK_HEAD.size:
        raise CorruptLogError("the book is cut short")
    magic, name, *terms, flags, mask, parts = BOOK_HEAD.unpack_from(leaf)
    optimizer = name.rstrip(b"\0")
    adaptive = bool(flags & _ADAPTIVE)
    if magic != BOOK_MAGIC or flags > (31 if adaptive else 3) or mask >> len(_COLUMNS) or not optimizer.isascii():
        raise CorruptLogError("the book has no valid head")
    kept = [name for number, name in enumerate(_COLUMNS) if mask >> number & 1]
    start = BOOK_HEAD.size + _ADAPTION.size * adaptive
    if len(leaf) < book_bytes(layout, len(kept)) + _ADAPTION.size * adaptive:
        raise CorruptLogError("the book is cut short")
    adaption = _ADAPTION.unpack_from(leaf, BOOK_HEAD.size) if adaptive else (0.0, 0.0)
    _refuse_adaption(adaption, CorruptLogError, adaptive=adaptive)
    movement, *others = (_doubles(groups).unpack_from(leaf, start + 8 * groups * at) for at in range(1 + len(kept)))
    columns = {name: _usual(name, movement) for name in _COLUMNS} | dict(zip(kept, others, strict=True))
    at = start + 8 * groups * (1 + len(kept))
    charges = _counts(2 * budgets).unpack_from(leaf, at)
    closed, rest = leaf[at + 16 * budgets :][:groups], leaf[at + 16 * budgets + groups :]
    if max(closed, default=0) > 1 or any(columns[name] == _usual(name, movement) for name in kept):
        raise CorruptLogError("the book says something that a gate does not write, or not so")
    _refuse_terms(terms, columns["factors"], CorruptLogError)
    measured = (*movement, *columns["proposed"], *columns["residual"], *columns["clip"])
    accounts = [value for name in ACCOUNTS for value in columns[name]]
    if not _are_numbers(measured, NOT_FINITE) or not _are_numbers(accounts, NOT_FINITE):
        raise CorruptLogError("the book holds a number that no gate writes")
    if not _are_numbers(columns["drift"], NOT_FINITE, NOT_MEASURED):
        raise CorruptLogError("the book holds a number that no gate writes")
    lr, momentum, dampening, weight_decay, loss_scale, denominator = terms
    return Book(
        lr=lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=bool(flags & _NESTEROV),
        optimizer=optimizer.decode("ascii"),
        movement=movement,
        residual=columns["residual"],
        closed=tuple(map(bool, closed)),
        denominator=denominator,
        mixed=bool(flags & _MIXED),
        parts=parts,
        loss_scale=loss_scale,
        proposed=columns["proposed"],
        factors=columns["factors"],
        drift=columns["drift"],
        clip=columns["clip"],
        **{name: columns[name] for name in ACCOUNTS},
        second_momentum=adaption[0],
        epsilon=adaption[1],
        amsgrad=bool(flags & _AMSGRAD),
        decoupled=bool(flags & _DECOUPLED),
        movement_charges=charges[:budgets],
        drift_charges=charges[budgets:],
        touched=decode_touched(rest, layout),
    )


def _refuse_terms(terms: Sequence[float], factors: Sequence[float], error: type[LineageError]) -> None:
    """Refuse settings that are not finite, a scale or denominator that is not positive, factors outside 0 to 1."""
    if not all(math.isfinite(term) for term in terms) or not min(terms[-2:]) > 0:
        raise error("the book of a step holds a setting that is not finite, or a scale or denominator that is none")
    if not all(0 <= factor <= 1 and math.copysign(1, factor) > 0 for factor in factors):
        raise error("the book of a step holds a factor outside 0 to 1")


def _refuse_adaption(adaption: tuple[float, ...], error: type[LineageError], *, adaptive: bool) -> None:
    """Refuse a second momentum outside 0 to 1, or of 0 where one is said to be there, and an epsilon below 0."""
    second, epsilon = adaption
    if (
        not (0 <= second < 1 and 0 <= epsilon < math.inf)
        or math.copysign(1, epsilon) < 0
        or (math.copysign(1, second) < 0 or (error is CorruptLogError and adaptive and not second))
    ):
        raise error("the book of a step holds settings that no adaptive optimizer has")
