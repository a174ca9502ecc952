"""Numbered conjuncts laid over the intervals of every attribute.

For each interval of each attribute the grid holds which conjuncts it does not
rule out; an observation satisfies the conjuncts in the AND of its intervals'
vectors. A *box* is a set of intervals per attribute, by position. The grid
answers what can be read off a box without a search.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from operator import and_, or_

from aqpolicy.space.formula import Both, Formula, Neither, Some, both, either, neither, some
from aqpolicy.space.normalise import Conjunct
from aqpolicy.space.partition import Partition

Box = tuple[int, ...]
"""Allowed intervals of each attribute, as bit masks."""


def bits(mask: int) -> Iterator[int]:
    """Yield the positions of the bits that are set, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class Grid:
    """Conjuncts by number, over one partition of every attribute."""

    def __init__(self, partitions: Sequence[Partition], conjuncts: Sequence[Conjunct]) -> None:
        self.partitions = tuple(partitions)
        self.conjuncts = tuple(conjuncts)
        self.everything: Box = tuple(part.everything for part in partitions)
        self.vectors = tuple(_vectors(part, sides) for part, sides in zip(partitions, self._sides(), strict=True))
        """Per attribute and interval, the conjuncts that it does not rule out."""
        self._rows: dict[tuple[int, int], tuple[int, int]] = {}
        self._hulls: dict[int, Box] = {}

    def extended(self, box: Box) -> Grid:
        """Return this grid with a box as one more conjunct, which gets the next number."""
        sides = enumerate(zip(box, self.everything, strict=True))
        conjunct = tuple((position, allowed) for position, (allowed, every) in sides if allowed != every)
        return Grid(self.partitions, (*self.conjuncts, conjunct))

    def observation(self, cell: Iterable[int]) -> dict[str, str | int]:
        """Return the least observation of a cell, which names one interval of each attribute."""
        chosen = zip(self.partitions, cell, strict=True)
        return {part.attribute.name: part.lowest[interval] for part, interval in chosen}

    def _sides(self) -> list[dict[int, int]]:
        """Return for each attribute which sets of intervals conjuncts allow, and which conjuncts allow each."""
        sides: list[dict[int, int]] = [{} for _ in self.partitions]
        free = [(1 << len(self.conjuncts)) - 1] * len(self.partitions)
        for number, conjunct in enumerate(self.conjuncts):
            for position, allowed in conjunct:
                sides[position][allowed] = sides[position].get(allowed, 0) | 1 << number
                free[position] ^= 1 << number
        for position, every in enumerate(self.everything):
            sides[position][every] = free[position]
        return sides

    # ---- What can be read off a box

    def possible(self, box: Box) -> int:
        """Return the conjuncts that hold somewhere in a box."""
        return reduce(and_, (self.reached(position, allowed) for position, allowed in enumerate(box)))

    def reached(self, position: int, allowed: int) -> int:
        """Return the conjuncts that some interval of a set satisfies, for one attribute."""
        return self._row(position, allowed)[0]

    def certain(self, position: int, allowed: int) -> int:
        """Return the conjuncts that every interval of a set satisfies, for one attribute."""
        return self._row(position, allowed)[1]

    def _row(self, position: int, allowed: int) -> tuple[int, int]:
        """Return the conjuncts that some, and that all intervals of a set satisfy."""
        key = (position, allowed)
        if key not in self._rows:
            vectors = [self.vectors[position][interval] for interval in bits(allowed)]
            self._rows[key] = reduce(or_, vectors), reduce(and_, vectors)
        return self._rows[key]

    def hull(self, formula: Formula) -> Box:
        """Return a box outside of which a formula is false; it may be larger than need be."""
        if isinstance(formula, Neither):
            return self.everything
        if isinstance(formula, Some):
            if formula.mask not in self._hulls:
                self._hulls[formula.mask] = self._hull_of(formula.mask)
            return self._hulls[formula.mask]
        hulls = [self.hull(term) for term in formula.terms]
        if isinstance(formula, Both):
            return meet(self.everything, *hulls)
        nowhere = (0,) * len(self.everything)
        return tuple(reduce(or_, sides) for sides in zip(nowhere, *hulls, strict=True))

    def _hull_of(self, mask: int) -> Box:
        return tuple(
            sum(1 << interval for interval, vector in enumerate(vectors) if vector & mask) for vectors in self.vectors
        )

    def settled(self, formula: Formula, box: Box) -> Formula:
        """Return what is left of a formula inside a box, without the conjuncts that the box decides."""
        alive = self.possible(box)
        sure = reduce(and_, (self.certain(position, allowed) for position, allowed in enumerate(box)))
        return _settled(formula, alive, sure)


def meet(*boxes: Box) -> Box:
    """Return what lies in all boxes; an attribute without intervals means that nothing does."""
    return tuple(reduce(and_, sides) for sides in zip(*boxes, strict=True))


def _settled(formula: Formula, alive: int, sure: int) -> Formula:
    if isinstance(formula, Some):
        return neither(0) if formula.mask & sure else some(formula.mask & alive)
    if isinstance(formula, Neither):
        return some(0) if formula.mask & sure else neither(formula.mask & alive)
    terms = (_settled(term, alive, sure) for term in formula.terms)
    return both(*terms) if isinstance(formula, Both) else either(*terms)


def _vectors(part: Partition, sides: dict[int, int]) -> tuple[int, ...]:
    """Turn conjuncts by the intervals that they allow into conjuncts by interval."""
    vectors = [0] * len(part.lowest)
    for allowed, mask in sides.items():
        for interval in bits(allowed):
            vectors[interval] |= mask
    return tuple(vectors)
