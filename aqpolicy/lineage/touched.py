"""Which rows of embedding tables a step wrote to, as bytes: sorted numbers, each as its distance from the one before.

Distances are LEB128 in its shortest form: seven bits a byte, the lowest first, the
highest bit set where more follow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final

from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage.record import Layout

Touched = tuple[tuple[int, int, tuple[int, ...]], ...]

_ITEM: Final = struct.Struct("<HHI")
_COUNT: Final = struct.Struct("<I")
_LONGEST: Final = 9
"""Bytes of a distance: no table has 2^63 rows."""


def encode_touched(touched: Touched, layout: Layout) -> bytes:
    """Return the bytes of touched rows.

    Raises:
        LineageError: They are not in order, of no group, or none at all.
    """
    items = [_COUNT.pack(len(touched))]
    places = [(group, position) for group, position, _ in touched]
    if any(one >= other for one, other in pairwise(places)) or any(group >= layout.groups for group, _ in places):
        raise LineageError("touched rows are not in order, or of a depth group that the run does not have")
    for group, position, rows in touched:
        gaps = [row - before - 1 for before, row in pairwise((-1, *rows))]
        if not gaps or min(gaps) < 0 or rows[-1] >> 63:
            raise LineageError("the touched rows of a table are not in order, or none")
        try:
            items.append(_ITEM.pack(group, position, len(gaps)))
        except struct.error as error:
            raise LineageError(f"the touched rows of a step cannot be written: {error}") from error
        items.append(bytes(gaps) if max(gaps) < 0x80 else b"".join(map(_varint, gaps)))
    return b"".join(items)


def _varint(number: int) -> bytes:
    digits = []
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*digits, number))


def decode_touched(data: bytes, layout: Layout) -> Touched:
    """Return the touched rows of their bytes, of which nothing is left.

    Trust:
        data is untrusted.

    Raises:
        CorruptLogError: The bytes are not the one encoding of any.
    """
    try:
        return tuple(_items(data, layout))
    except (struct.error, IndexError) as error:
        raise CorruptLogError("the touched rows are cut short") from error


def _items(data: bytes, layout: Layout) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    (count,), at, last = _COUNT.unpack_from(data), _COUNT.size, (-1, -1)
    for _ in range(count):
        group, position, rows = _ITEM.unpack_from(data, at)
        if (group, position) <= last or group >= layout.groups or not rows:
            raise CorruptLogError("the touched rows are not in order, or of no depth group, or none")
        gaps, at = _gaps(data, at + _ITEM.size, rows)
        numbers = tuple(accumulate(gaps, lambda before, gap: before + 1 + gap))
        if numbers[-1] >> 63:
            raise CorruptLogError("a touched row has a number that no table has")
        last = (group, position)
        yield group, position, numbers
    if at != len(data):
        raise CorruptLogError("the book goes on behind its end")


def _gaps(data: bytes, at: int, count: int) -> tuple[Sequence[int], int]:
    """Return so many distances, and where they end."""
    short = data[at : at + count]
    if len(short) == count and short.isascii():  # each takes one byte
        return short, at + count
    gaps = []
    for _ in range(count):
        gap, at = _read_varint(data, at)
        gaps.append(gap)
    return gaps, at


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins there, and where it ends."""
    number = 0
    for shift in range(0, 7 * _LONGEST, 7):
        digit = data[at]
        number, at = number | (digit & 0x7F) << shift, at + 1
        if digit < 0x80:
            if shift and not digit:
                break
            return number, at
    raise CorruptLogError("a touched row is not written in the shortest form, or beyond all tables")
