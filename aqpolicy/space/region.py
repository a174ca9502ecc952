"""Where a formula holds, in boxes that an author can read.

A region is as large as it can be made around its witness, attribute by attribute;
regions may overlap, and together they cover the formula unless there were more
than asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aqpolicy.model.policy import Category, Numeric
from aqpolicy.space.formula import Formula, both, neither, opposite
from aqpolicy.space.grid import Box, Grid, bits
from aqpolicy.space.partition import Partition
from aqpolicy.space.search import Cell, least
from aqpolicy.units import value_text


@dataclass(frozen=True, slots=True)
class Region:
    """A box of observations, with the least of those that no region before it holds."""

    witness: dict[str, str | int]
    partitions: tuple[Partition, ...]
    allowed: Box
    """The intervals of each attribute, as bit masks."""

    def text(self) -> str:
        """Return what the region asks of each attribute, as words; attributes that are free are left out."""
        sides = zip(self.partitions, self.allowed, strict=True)
        texts = [_side_text(part, allowed) for part, allowed in sides if allowed != part.everything]
        return "; ".join(texts) or "anything"


def regions(grid: Grid, formula: Formula, most: int) -> Iterator[Region]:
    """Yield at most so many regions that together hold what satisfies a formula, by ascending witness.

    Raises:
        Undecided: A question is too large.
    """
    widening, left, rest = _Widening(grid, opposite(formula)), grid, formula
    for _ in range(most):
        cell = least(left, rest, left.everything)
        if cell is None:
            return
        region = Region(grid.observation(cell), grid.partitions, widening.box(cell))
        yield region
        # The box becomes one more conjunct; what is left lies outside of it.
        rest = both(rest, neither(1 << len(left.conjuncts)))
        left = left.extended(region.allowed)


class _Widening:
    """Makes boxes as large as they can be without touching what must stay outside."""

    def __init__(self, grid: Grid, outside: Formula) -> None:
        self._grid, self._outside = grid, outside

    def box(self, cell: Cell) -> Box:
        """Return a box around a cell, widened along one attribute after the other."""
        box = tuple(1 << interval for interval in cell)
        for position in range(len(cell)):
            box = self._along(box, position)
        return box

    def _along(self, box: Box, position: int) -> Box:
        part = self._grid.partitions[position]

        def fits(allowed: int) -> bool:
            return least(self._grid, self._outside, _changed(box, position, allowed)) is None

        if fits(part.everything):
            return _changed(box, position, part.everything)
        widen = _widen_values if isinstance(part.attribute.type, Category) else _widen_stretch
        return _changed(box, position, widen(box[position], len(part.lowest), fits))


def _changed(box: Box, position: int, allowed: int) -> Box:
    return (*box[:position], allowed, *box[position + 1 :])


def _widen_values(allowed: int, size: int, fits: Callable[[int], bool]) -> int:
    """Add every value that fits."""
    for value in range(size):
        if fits(allowed | 1 << value):
            allowed |= 1 << value
    return allowed


def _widen_stretch(allowed: int, size: int, fits: Callable[[int], bool]) -> int:
    """Move the end of a stretch of numbers up and then its start down, as far as it fits."""
    start = allowed.bit_length() - 1
    end = start + bisect_left(range(start + 1, size), True, key=lambda last: not fits(_stretch(start, last)))
    first = bisect_left(range(start), True, key=lambda first: fits(_stretch(first, end)))
    return _stretch(first, end)


def _stretch(first: int, last: int) -> int:
    return (2 << last) - (1 << first)


def _side_text(part: Partition, allowed: int) -> str:
    name, kind = part.attribute.name, part.attribute.type
    if isinstance(kind, Category):
        values = [kind.values[interval] for interval in bits(allowed)]
        return f"{name} is {values[0]}" if len(values) == 1 else f"{name} is one of {', '.join(values)}"
    first, last = next(bits(allowed)), allowed.bit_length() - 1
    low, below = int(part.lowest[first]), int((*part.lowest, kind.high + kind.step)[last + 1])
    return _numbers_text(name, kind, low, below)


def _numbers_text(name: str, kind: Numeric, low: int, below: int) -> str:
    """Say that a number lies from `low` up to, but not at, `below`; an end of the range goes without saying."""
    high, unit = below - kind.step, f" {kind.unit}" if kind.unit else ""
    if low == high:
        return f"{name} is {value_text(low, kind.kind)}{unit}"
    start = _shorter(kind, (">=", low), (">", low - kind.step))
    end = _shorter(kind, ("<", below), ("<=", high))
    if low == kind.low:
        return f"{name} {end}{unit}"
    if high == kind.high:
        return f"{name} {start}{unit}"
    if kind.step > 1:
        return f"{name} from {value_text(low, kind.kind)} to {value_text(high, kind.kind)}{unit}"
    return f"{name} {start}{unit} and {end}{unit}"


def _shorter(kind: Numeric, usual: tuple[str, int], other: tuple[str, int]) -> str:
    """Return the comparison whose number is written shorter: `<= 0.5`, not `< 0.500001`."""
    one, two = (f"{op} {value_text(value, kind.kind)}" for op, value in (usual, other))
    return two if len(two.split()[1]) < len(one.split()[1]) else one
