"""The space of observations of one policy, and exact answers about it without a solver.

A `Space` is cut for the conditions that it is made with and answers questions
about those only. Its answers are exact or it raises `Undecided`; it never guesses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Final

from aqpolicy.errors import InputError, InternalError
from aqpolicy.model.policy import Atom, Attribute, Condition
from aqpolicy.space.formula import Formula, some
from aqpolicy.space.grid import Grid
from aqpolicy.space.normalise import LARGEST_GUARD, Conjunct, Unfolding
from aqpolicy.space.overlap import overlapping
from aqpolicy.space.partition import Partition, comparisons, partition
from aqpolicy.space.region import Region, regions
from aqpolicy.space.search import EFFORT, Undecided, least

Projection = tuple[Condition, frozenset[str]]
"""A condition, and the attributes of which it shall ask nothing."""

_NO_NAMES: Final = frozenset[str]()


class Space:
    """All observations, told apart as far as some conditions do."""

    def __init__(
        self,
        attributes: Sequence[Attribute],
        conditions: Iterable[Condition],
        projections: Iterable[Projection] = (),
    ) -> None:
        """Cut every attribute at the thresholds of the conditions and number their conjuncts.

        Args:
            attributes: Everything that the conditions may compare, in the order in which observations ascend.
            conditions: Conditions on attributes alone, not on decisions.
            projections: What `projected` shall be asked for.
        """
        asked = [*((condition, _NO_NAMES) for condition in conditions), *projections]
        partitions = _cut(attributes, (condition for condition, _ in asked))
        numbering = _Numbering(partitions)
        # Hashing a condition walks through all of it, so conditions are known by identity first.
        self._known = {(id(condition), names): numbering.mask(condition, names) for condition, names in asked}
        self._asked = asked
        self._grid = Grid(partitions, numbering.conjuncts)

    # ---- From conditions to formulas

    def mask(self, condition: Condition) -> int:
        """Return the conjuncts of a condition: it holds where some of them does.

        Raises:
            Undecided: The condition has more conjuncts than `LARGEST_GUARD`.
        """
        return self._mask(condition, _NO_NAMES)

    def formula(self, condition: Condition) -> Formula:
        """Return a condition as a formula.

        Raises:
            Undecided: The condition has more conjuncts than `LARGEST_GUARD`.
        """
        return some(self._mask(condition, _NO_NAMES))

    def projected(self, condition: Condition, names: Collection[str]) -> Formula:
        """Return as a formula that a condition holds for some values of the named attributes.

        Raises:
            Undecided: The condition has more conjuncts than `LARGEST_GUARD`.
        """
        return some(self._mask(condition, frozenset(names)))

    def _mask(self, condition: Condition, names: frozenset[str]) -> int:
        key = (id(condition), names)
        try:
            mask = self._known[key] if key in self._known else self._by_equality[condition, names]
        except KeyError:
            raise InternalError("the space was not cut for this condition") from None
        if mask is None:
            raise Undecided(f"a condition unfolds into more than {LARGEST_GUARD} alternatives")
        return mask

    @cached_property
    def _by_equality(self) -> dict[Projection, int | None]:
        return {(condition, names): self._known[id(condition), names] for condition, names in self._asked}

    # ---- Questions

    def find(self, formula: Formula, effort: int = EFFORT) -> dict[str, str | int] | None:
        """Return the least observation that satisfies a formula; None is proof that there is none.

        Least in the order of the attributes, and of their values as declared or ascending.

        Raises:
            Undecided: More than `effort` states would have to be visited.
        """
        cell = least(self._grid, formula, self._grid.everything, effort)
        return None if cell is None else self._grid.observation(cell)

    def possible(self, formula: Formula, effort: int = EFFORT) -> bool:
        """Return whether some observation satisfies a formula.

        Raises:
            Undecided: More than `effort` states would have to be visited.
        """
        return self.find(formula, effort) is not None

    def overlapping(self, masks: Sequence[int]) -> list[int]:
        """Return for each guard, given as its mask of conjuncts, which guards some observation satisfies with it.

        The answers are masks over the positions of the guards.
        """
        return overlapping(self._grid, masks)

    def regions(self, formula: Formula, most: int) -> Iterator[Region]:
        """Yield at most so many readable regions that together hold what satisfies a formula.

        Raises:
            Undecided: A question is too large.
        """
        return regions(self._grid, formula, most)


class _Numbering:
    """Gives every distinct conjunct a number, in the order in which they are met."""

    def __init__(self, partitions: Sequence[Partition]) -> None:
        self._names = [part.attribute.name for part in partitions]
        self._unfolding = Unfolding(partitions)
        self._numbers: dict[Conjunct, int] = {}

    @property
    def conjuncts(self) -> tuple[Conjunct, ...]:
        return tuple(self._numbers)

    def mask(self, condition: Condition, names: frozenset[str]) -> int | None:
        """Return a condition's conjuncts without what they ask of the named attributes; None if there are too many."""
        try:
            found = self._unfolding.conjuncts(condition)
        except InputError:
            return None
        if names:
            found = tuple(tuple(side for side in conjunct if self._names[side[0]] not in names) for conjunct in found)
        mask = 0
        for conjunct in found:
            mask |= 1 << self._numbers.setdefault(conjunct, len(self._numbers))
        return mask


def _cut(attributes: Iterable[Attribute], conditions: Iterable[Condition]) -> tuple[Partition, ...]:
    atoms: dict[str, list[Atom]] = {}
    for condition in conditions:
        for atom in comparisons(condition):
            atoms.setdefault(atom.attribute, []).append(atom)
    return tuple(partition(attribute, atoms.get(attribute.name, ())) for attribute in attributes)
