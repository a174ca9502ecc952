"""Rows as bytes: the leaves of a step's tree.

All numbers are little-endian. A row is a fixed part whose width follows from the
first entry of the log, and after it only what the row has: flags say what. That a
leaf is a row and no book follows from its place, and the format from the first entry,
so a row says neither. Every fact has exactly one encoding; what is read is refused
unless a gate would have written it so.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ctypes import c_float
from functools import cache
from typing import Final

from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage.record import CAUSES, EFFECTS, KEY_BYTES, NOT_FINITE, NOT_MEASURED, Layout, Row

ROW_FIELDS: Final = (
    ("key", "16s"),
    ("index", "I"),
    ("route", "I"),
    ("effect", "B"),
    ("cause", "B"),
    ("reason", "B"),
    ("flags", "B"),
    ("surprisal", "I"),
    ("entropy", "I"),
)
"""Head of a row: name and `struct` code. Norms and charges follow, then exceptions and sketch where flags say so."""

WIDE: Final = 1
"""Flag: charges are u64, since one of them is no u32."""
LOWERED: Final = 2
"""Flag: the row has exceptions; their number (u16) is before them."""
SKETCHED: Final = 4
"""Flag: the row has a sketch; its length (u32) is before it."""
FLAGS: Final = WIDE | LOWERED | SKETCHED

EXCEPTION_FIELDS: Final = (("group", "H"), ("reason", "H"), ("share", "I"))

NORM_CODES: Final = {"float32": "f", "float16": "e"}
LARGEST_NORM: Final = 3.4028234663852886e38
"""The largest f32: a norm that is beyond it when rounded is written as not finite."""
LARGEST_NORMS: Final = {"float32": LARGEST_NORM, "float16": 65504.0}

_ROW: Final = struct.Struct("<" + "".join(code for _, code in ROW_FIELDS))
HEAD_BYTES: Final = _ROW.size
KEY: Final = slice(0, KEY_BYTES)
"""Where the example key of a row is."""
FLAGS_AT: Final = struct.calcsize("<" + "".join(code for _, code in ROW_FIELDS[:6]))
_EXCEPTION: Final = struct.Struct("<" + "".join(code for _, code in EXCEPTION_FIELDS))
_COUNT: Final = 2
_LENGTH: Final = 4

Exceptions = tuple[tuple[int, int, int], ...]


def norm_bytes(layout: Layout) -> int:
    """Return the bytes of one norm."""
    return struct.calcsize("<" + NORM_CODES[layout.norms])


def row_bytes(layout: Layout) -> int:
    """Return the bytes of a row without exceptions and sketch, and with charges of 4 bytes."""
    return HEAD_BYTES + norm_bytes(layout) * layout.groups + 4 * layout.budgets


def row_end(data: bytes, at: int, layout: Layout) -> int:
    """Return where the row that begins at `at` ends.

    Raises:
        CorruptLogError: There begins none, or it ends behind the data.
    """
    end = at + row_bytes(layout)
    if end > len(data):
        raise CorruptLogError("the block is cut short")
    flags = data[at + FLAGS_AT]
    end += 4 * layout.budgets * (flags & WIDE)
    if flags & LOWERED:
        end += _COUNT + _EXCEPTION.size * int.from_bytes(data[end : end + _COUNT], "little")
    if flags & SKETCHED:
        end += _LENGTH + int.from_bytes(data[end : end + _LENGTH], "little")
    if flags > FLAGS or end > len(data):
        raise CorruptLogError("the row has no valid head")
    return end


@cache
def _norms(groups: int, norms: str) -> struct.Struct:
    return struct.Struct(f"<{groups}{NORM_CODES[norms]}")


@cache
def _charges(budgets: int, wide: int) -> struct.Struct:
    return struct.Struct(f"<{budgets}{'Q' if wide else 'I'}")


def encode_row(row: Row, layout: Layout) -> bytes:
    """Return the leaf of one row.

    Raises:
        LineageError: A field does not fit its place.
    """
    if (len(row.example_key), len(row.norms), len(row.charges)) != (KEY_BYTES, layout.groups, layout.budgets):
        raise LineageError("a row of the log has another shape than the run")
    if any(group >= layout.groups for group, _, _ in row.exceptions):
        raise LineageError("a row of the log names a depth group that the run does not have")
    wide = WIDE if max(row.charges, default=0) >> 32 else 0
    flags = wide | (LOWERED if row.exceptions else 0) | (SKETCHED if row.sketch else 0)
    try:
        head = _ROW.pack(
            row.example_key,
            row.manifest_index,
            row.route,
            EFFECTS.index(row.effect),
            CAUSES.index(row.cause),
            row.reason_code,
            flags,
            row.surprisal,
            row.entropy,
        )
        norms = _norms(layout.groups, layout.norms).pack(*_written(row.norms, LARGEST_NORMS[layout.norms]))
        charges = _charges(layout.budgets, wide).pack(*row.charges)
        return b"".join((head, norms, charges, exceptions_bytes(row.exceptions), sketch_bytes(row.sketch)))
    except (struct.error, ValueError, OverflowError) as error:
        raise LineageError(f"a row of the log cannot be written: {error}") from error


def exceptions_bytes(exceptions: Exceptions) -> bytes:
    """Return exceptions with their number before them, nothing where there are none."""
    if not exceptions:
        return b""
    return len(exceptions).to_bytes(_COUNT, "little") + b"".join(_EXCEPTION.pack(*item) for item in exceptions)


def sketch_bytes(sketch: bytes) -> bytes:
    """Return a sketch with its length before it, nothing where there is none."""
    return len(sketch).to_bytes(_LENGTH, "little") + sketch if sketch else b""


def _written(values: Sequence[float], largest: float) -> list[float]:
    """Return norms, rounded to float32, as they are written; adding 0 makes 0 of -0."""
    rounded = [c_float(value).value for value in values]
    return [value + 0.0 if 0 <= value <= largest or value == NOT_MEASURED else NOT_FINITE for value in rounded]


def decode_row(leaf: bytes, layout: Layout) -> Row:
    """Return the row of a leaf.

    Trust:
        leaf is untrusted.

    Raises:
        CorruptLogError: The bytes are not the one encoding of a row.
    """
    charges, exceptions, sketch = cut_tail(leaf, layout)
    key, index, route, effect, cause, reason, _, surprisal, entropy = _ROW.unpack_from(leaf)
    if effect >= len(EFFECTS) or cause >= len(CAUSES):
        raise CorruptLogError("the row has an unknown effect or cause")
    norms = _norms(layout.groups, layout.norms).unpack_from(leaf, HEAD_BYTES)
    if marks_of(leaf, layout).difference(_MARKS[layout.norms]):
        raise CorruptLogError("the row holds a norm that no gate writes")
    verdict = (EFFECTS[effect], CAUSES[cause], reason)
    return Row(key, index, route, *verdict, surprisal, norms, charges, exceptions, sketch, entropy)


def cut_tail(leaf: bytes, layout: Layout) -> tuple[tuple[int, ...], Exceptions, bytes]:
    """Return charges, exceptions and sketch of a row, whose verdict and norms are not looked at.

    Raises:
        CorruptLogError: They are not the one encoding of any.
    """
    if row_end(leaf, 0, layout) != len(leaf):
        raise CorruptLogError("the row has another length")
    flags, at = leaf[FLAGS_AT], HEAD_BYTES + norm_bytes(layout) * layout.groups
    numbers = _charges(layout.budgets, flags & WIDE)
    charges: tuple[int, ...] = numbers.unpack_from(leaf, at)
    at += numbers.size
    exceptions: Exceptions = ()
    if flags & LOWERED:
        start, at = at + _COUNT, at + _COUNT + _EXCEPTION.size * int.from_bytes(leaf[at : at + _COUNT], "little")
        exceptions = tuple(_EXCEPTION.iter_unpack(leaf[start:at]))
        if not exceptions or any(group >= layout.groups for group, _, _ in exceptions):
            raise CorruptLogError("the row has exceptions that no gate writes")
    sketch = leaf[at + _LENGTH :] if flags & SKETCHED else b""
    if (flags & WIDE and not max(charges, default=0) >> 32) or (flags & SKETCHED and not sketch):
        raise CorruptLogError("the row says at length what it can say short")
    return charges, exceptions, sketch


_BITS: Final = {"float32": ("I", 0x7F800000), "float16": ("H", 0x7C00)}
"""`struct` code of a norm's bits; from which ones on they are no finite number, or a negative one."""

_MARKS: Final = {
    norms: frozenset(struct.unpack(f"<2{_BITS[norms][0]}", struct.pack(f"<2{code}", NOT_FINITE, NOT_MEASURED)))
    for norms, code in NORM_CODES.items()
}


def marks_of(leaf: bytes, layout: Layout) -> set[int]:
    """Return the bits of all norms of a row that are no finite number of 0 or more."""
    code, end = _BITS[layout.norms]
    numbers = struct.unpack_from(f"<{layout.groups}{code}", leaf, HEAD_BYTES)
    return {bits for bits in numbers if bits >= end}
