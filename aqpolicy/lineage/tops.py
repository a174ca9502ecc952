"""The visits with the largest mass in every depth group, kept while steps go by.

The mass of a visit in a group: the norm that the log recorded, times the share that an
exception of the row gave it, in the precision of the log's norms. Without an exception
the share is the mask table's, which the log does not hold: the mass is then what the
visit can at most have written. A visit that was denied or deferred has none, and
neither has a norm that was not finite, not measured, or zero.

Nearly all numbers are too small to be kept. They are passed over a column at a time,
by the two highest bytes, which order numbers that are not negative as the numbers do.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from heapq import heappush, heapreplace
from typing import Final

from aqpolicy.lineage.leaf import FLAGS_AT, HEAD_BYTES, LOWERED, NORM_CODES, ROW_FIELDS, cut_tail
from aqpolicy.lineage.record import EFFECTS, Layout

KEPT: Final = 16
"""Visits that are kept per depth group."""

WHOLE: Final = 1_000_000
"""The share of a group that is written in full, in millionths."""

_WROTE: Final = bytes((EFFECTS.index("modulate"), EFFECTS.index("admit")))

ROW_OFFSETS: Final = {
    name: struct.calcsize("<" + "".join(code for _, code in ROW_FIELDS[:number]))
    for number, (name, _) in enumerate(ROW_FIELDS)
}
"""Where the fields of a row begin."""


class Tops:
    """The largest masses so far."""

    def __init__(self, layout: Layout, *, groups: Sequence[int] | None = None, kept: int = KEPT) -> None:
        """Start with nothing; `groups` are those that are looked at, all by default."""
        self._layout = layout
        self._number = struct.Struct("<" + NORM_CODES[layout.norms])
        self._norms = slice(HEAD_BYTES, HEAD_BYTES + self._number.size * layout.groups)
        self._width, self._kept = layout.groups, kept
        self._heaps: dict[int, list[tuple[float, int]]] = {
            group: [] for group in (range(layout.groups) if groups is None else groups)
        }
        self._least = [0.0] * layout.groups
        self._floors = [(0, 0)] * layout.groups

    def add(self, rows: Sequence[bytes], heads: bytes, first: int) -> None:
        """Add rows.

        Args:
            rows: Their leaves.
            heads: The first `leaf.HEAD_BYTES` of each.
            first: Place of the first one in the order of the runs.
        """
        places: Sequence[int] = range(first, first + len(rows))
        effects = heads[ROW_OFFSETS["effect"] :: HEAD_BYTES]
        if effects.translate(None, _WROTE):
            wrote = [number for number, effect in enumerate(effects) if effect in _WROTE]
            places, rows = [places[number] for number in wrote], [rows[number] for number in wrote]
        if rows:
            if any(flags & LOWERED for flags in set(heads[FLAGS_AT::HEAD_BYTES])):
                rows = [self._lowered(row) if row[FLAGS_AT] & LOWERED else row for row in rows]
            self._look(rows, places)

    def _look(self, rows: Sequence[bytes], places: Sequence[int]) -> None:
        """Keep the largest masses of rows; they stand where a row has its norms."""
        start, end, size = self._norms.start, self._norms.stop, self._number.size
        highs = b"".join([row[start + size - 1 : end : size] for row in rows])
        lows = b"".join([row[start + size - 2 : end : size] for row in rows])
        for group in self._heaps:
            high, low = self._floors[group]
            column = highs[group :: self._width]
            if not column.translate(None, _beneath(high)):
                continue
            hits = _hits(column, high, lows[group :: self._width], low)
            row = hits.find(1)
            while row >= 0:
                (mass,) = self._number.unpack_from(rows[row], start + size * group)
                self._keep(group, mass, places[row])
                row = hits.find(1, row + 1)

    def _lowered(self, row: bytes) -> bytes:
        """Return a row with the shares of its exceptions in its norms."""
        lowered = bytearray(row)
        for group, _, share in cut_tail(row, self._layout)[1]:
            place = self._norms.start + self._number.size * group
            (norm,) = self._number.unpack_from(row, place)
            if norm > 0 and share < WHOLE:
                self._number.pack_into(lowered, place, norm * share / WHOLE)
        return bytes(lowered)

    def _keep(self, group: int, mass: float, place: int) -> None:
        if mass <= self._least[group]:
            return  # of equal masses the earlier one stays
        heap = self._heaps[group]
        if len(heap) < self._kept:
            heappush(heap, (mass, -place))
        else:
            heapreplace(heap, (mass, -place))
        if len(heap) == self._kept:
            self._least[group] = heap[0][0]
            *_, low, high = self._number.pack(heap[0][0])
            self._floors[group] = (high, low)

    def largest(self, group: int) -> list[tuple[float, int]]:
        """Return mass and place of what was kept of a group, the largest and of equal ones the earliest first."""
        return [(mass, -place) for mass, place in sorted(self._heaps[group], reverse=True)]


def _hits(column: bytes, high: int, lower: bytes, low: int) -> bytes:
    """Return 1 for every number whose two highest bytes reach those of the floor, else 0 or 2.

    Both columns become small numbers, which are added as digits of one large number: no digit carries.
    """
    above = int.from_bytes(column.translate(_above(high)), "little")
    reached = int.from_bytes(lower.translate(_reached(low)), "little")
    return (above + reached).to_bytes(len(column), "little").translate(_HIT)


_HIT: Final = bytes((0, 0, 1, 1)) + bytes(252)


@cache
def _beneath(high: int) -> bytes:
    """Return the highest bytes of all numbers that are too small, or negative."""
    return bytes((*range(high), *range(128, 256)))


@cache
def _above(high: int) -> bytes:
    """Return a table: 0 for a highest byte that is too small, 1 for that of the floor, 2 for a larger one."""
    return bytes(0 if byte < high or byte >= 128 else 1 if byte == high else 2 for byte in range(256))


@cache
def _reached(low: int) -> bytes:
    return bytes(int(byte >= low) for byte in range(256))
