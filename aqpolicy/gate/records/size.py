"""How much a run will record of every visit, said before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

Shapes = Sequence[tuple[int, ...]]

FLOAT, KIND, POSITIONS, BESIDE = 4, 1, 2, 2
"""Bytes of a norm, factor or scale; of the kind of a piece; of its number of positions; of the parameter beside it."""

NAMES: Final = {"decisions": "decisions only", "norms": "norms", "sketch": "sketches", "factors": "factors"}


@dataclass(frozen=True, slots=True)
class RecordSize:
    """Bytes that a visit takes beside its decision, before compression.

    With factors the least is where every layer sees one position per example, the most where all gradients of
    matrices are recorded whole.
    """

    record: str
    bits: int
    least: int
    most: int

    def __str__(self) -> str:
        """Return it in words."""
        of_bits = f" of {self.bits} bits" if self.record == "factors" else ""
        amount = f"{self.least:,}" if self.least == self.most else f"{self.least:,} to {self.most:,}"
        return f"records {NAMES[self.record]}{of_bits}: {amount} bytes per visit beside the decision"


def record_size(record: str, groups: Sequence[Shapes], bits: int, widths: Sequence[int]) -> RecordSize:
    """Return how much a visit records.

    Args:
        record: The level.
        groups: Per group, the shapes of its trained parameters.
        bits: Of a factor.
        widths: Per group, the numbers of a sketch.
    """
    norms = 0 if record == "decisions" else FLOAT * len(groups)
    if record == "sketch":
        whole = norms + sum(FLOAT + width for width in widths)
        return RecordSize(record, bits, whole, whole)
    if record != "factors":
        return RecordSize(record, bits, norms, norms)
    most = norms + sum(FLOAT + sum(_whole(shape, bits) for shape in shapes) for shapes in groups)
    least = norms + sum(FLOAT + _least(shapes, bits) for shapes in groups)
    return RecordSize(record, bits, min(least, most), most)


def _levels(count: int, bits: int) -> int:
    return FLOAT + -(-count * bits // 8)


def _whole(shape: tuple[int, ...], bits: int) -> int:
    return KIND + _levels(prod(shape), bits)


def _least(shapes: Shapes, bits: int) -> int:
    total, beside = 0, False  # whether outer products of the parameter before are recorded, so that a bias is their sum
    for shape in shapes:
        rows, columns = shape[0] if shape else 1, prod(shape[1:])
        apart = len(shape) > 1 and rows + columns <= rows * columns
        if apart:
            total += KIND + POSITIONS + _levels(rows, bits) + _levels(columns, bits)
        else:
            total += KIND + BESIDE if beside and len(shape) == 1 else _whole(shape, bits)
        beside = apart
    return total
