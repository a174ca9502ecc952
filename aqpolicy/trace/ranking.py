"""Rank correlation, without any library."""

from __future__ import annotations

import math
from collections.abc import Sequence


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the rank correlation of two columns; alike numbers share ranks. None where a column has one value only."""
    one, other = (_centred(_ranks(column)) for column in (first, second))
    length = math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))
    return sum(a * b for a, b in zip(one, other, strict=True)) / length if length else None


def _ranks(column: Sequence[float]) -> list[float]:
    """Return the rank of every number; those that are alike share the mean of theirs."""
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(column)):
        places.setdefault(value, []).append(place)
    return [sum(places[value]) / len(places[value]) for value in column]


def _centred(column: Sequence[float]) -> list[float]:
    mean = sum(column) / len(column) if column else 0.0
    return [value - mean for value in column]
