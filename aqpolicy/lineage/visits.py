"""The order in which a step's rows were visited, and which rank each came from.

A step comes in parts. In each part the gate visits the rows of all ranks, rank by
rank; the log keeps the rows of each rank together, part by part. Charges are spent
in the order of the visits.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import islice
from typing import TypeVar

from aqpolicy.errors import LineageError

Visits = tuple[tuple[int, ...], ...]
"""Rows per part, and in it per rank."""

_Item = TypeVar("_Item")


def whole(rows: int) -> Visits:
    """Return the visits of a step of one part and one rank."""
    return ((rows,),)


def checked(visits: Visits, rows: int) -> Visits:
    """Return visits that are those of so many rows.

    Raises:
        LineageError: They are not.
    """
    ranks = {len(part) for part in visits}
    counts = [count for part in visits for count in part]
    if len(ranks) != 1 or 0 in ranks or min(counts) < 0 or sum(counts) != rows:
        raise LineageError(f"the parts and ranks of a step do not add up to its {rows} rows")
    return visits


def by_rank(items: Sequence[_Item], visits: Visits) -> list[list[_Item]]:
    """Return items, given in the order of the visits, rank by rank."""
    if visits == whole(len(items)):
        return [list(items)]
    ranks: list[list[_Item]] = [[] for _ in visits[0]]
    rest = iter(items)
    for part in visits:
        for own, count in zip(ranks, part, strict=True):
            own.extend(islice(rest, count))
    return ranks


def in_order(ranks: Sequence[Sequence[_Item]], visits: Visits) -> list[_Item]:
    """Return items, given rank by rank, in the order of the visits."""
    rest = [iter(own) for own in ranks]
    return [item for part in visits for own, count in zip(rest, part, strict=True) for item in islice(own, count)]


def visits_bytes(visits: Visits) -> bytes:
    """Return the one encoding of visits: parts, ranks, and rows per part and in it per rank, u32 each."""
    counts = [count for part in visits for count in part]
    return struct.pack(f"<{2 + len(counts)}I", len(visits), len(visits[0]), *counts)
