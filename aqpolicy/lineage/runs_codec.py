"""Runs of the index as bytes: named columns of numbers that are searched where they lie.

No IO. A run is a head, the kind and length of every column, and the columns one
after the other; so the same columns have exactly one encoding.

Layout: docs/formats/lineage-index.md.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final

from aqpolicy.errors import CorruptLogError

RUN_MAGIC: Final = b"AQI3"

BYTES: Final = "B"
U32: Final = "I"
U64: Final = "Q"
F32: Final = "f"
ITEM: Final = {BYTES: 1, U32: 4, U64: 8, F32: 4}
"""Bytes of an item of a column, by the column's kind."""

_HEAD: Final = struct.Struct("<4s8sI")
_COLUMN: Final = struct.Struct("<c3xI")
_MOST_COLUMNS: Final = 16

Column = Sequence[Any]
"""A column where it lies: anything that can be indexed, sliced and bisected."""


def encode_run(name: str, columns: Iterable[tuple[str, Iterable[int] | Iterable[float] | bytes]]) -> bytes:
    """Return the bytes of a run.

    Args:
        name: Of the run; at most 8 letters.
        columns: Kind and numbers of every column; bytes hold numbers as the machine has them.
    """
    made = [(kind, _little(array(kind, numbers))) for kind, numbers in columns]
    heads = [_COLUMN.pack(kind.encode(), len(column)) for kind, column in made]
    head = _HEAD.pack(RUN_MAGIC, name.encode(), len(made))
    return b"".join((head, *heads, *(numbers.tobytes() for _, numbers in made)))


def decode_run(name: str, kinds: Sequence[str], data: bytes) -> list[Column]:
    """Return the columns of a run, without a copy where the machine's byte order is the format's.

    Args:
        name: Of the run.
        kinds: Of the columns; several letters are alternatives.
        data: The bytes of the run.

    Trust:
        data is untrusted; that a column is sorted is not checked.

    Raises:
        CorruptLogError: The bytes are no such run.
    """
    if len(data) < _HEAD.size:
        raise CorruptLogError(f"the run `{name}` of the index is cut short")
    magic, found, count = _HEAD.unpack_from(data)
    at = _HEAD.size + _COLUMN.size * count
    if (magic, found, count) != (RUN_MAGIC, name.encode().ljust(8, b"\0"), len(kinds)) or at > len(data):
        raise CorruptLogError(f"the run `{name}` of the index has no valid head")
    columns: list[Column] = []
    for number, allowed in enumerate(kinds):
        place = _HEAD.size + _COLUMN.size * number
        code, length = _COLUMN.unpack_from(data, place)
        kind = code.decode("latin-1")
        end = at + ITEM.get(kind, 0) * length
        if kind not in allowed or any(data[place + 1 : place + 4]) or end > len(data):
            raise CorruptLogError(f"the columns of the run `{name}` of the index do not fit")
        columns.append(column(kind, memoryview(data)[at:end]))
        at = end
    if at != len(data):
        raise CorruptLogError(f"the run `{name}` of the index is longer than its columns")
    return columns


def column(kind: str, data: bytes | memoryview) -> Any:
    """Return little-endian numbers where they lie: a `memoryview`, on other machines an `array`."""
    view: Any = memoryview(data)
    return view.cast(kind) if sys.byteorder == "little" else _little(array(kind, view.tobytes()))


def _little(numbers: array[Any]) -> array[Any]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
