"""Turn a guard into conjuncts: each asks of every attribute only which interval it lies in.

A conjunct maps attributes (by position) to sets of intervals (bit masks, see
`Partition`); an attribute that is not named is free. The guard holds where some
conjunct does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from aqpolicy.errors import InputError, InternalError
from aqpolicy.model.policy import All, Any, Atom, Condition, Not
from aqpolicy.space.partition import Partition

Conjunct = tuple[tuple[int, int], ...]
"""Pairs of attribute position and allowed intervals, by ascending position."""

LARGEST_GUARD: Final = 4096
"""How many conjuncts one guard may have."""


class Unfolding:
    """Unfolds conditions over one partition of the attributes; every comparison is looked up once.

    Alternatives that compare one attribute (`authority >= attending` in plain words) are one conjunct.
    """

    def __init__(self, partitions: Sequence[Partition]) -> None:
        self._place = {part.attribute.name: (position, part) for position, part in enumerate(partitions)}
        self._everything = [part.everything for part in partitions]
        self._known: dict[tuple[str, str, str | int], tuple[int, int, int]] = {}

    def conjuncts(self, condition: Condition, *, holds: bool = True) -> tuple[Conjunct, ...]:
        """Return the conjuncts of a condition, or with `holds` false of its opposite.

        Raises:
            InputError: There would be more than `LARGEST_GUARD`.
        """
        if isinstance(condition, Atom):
            return self._single(condition, holds=holds)
        if isinstance(condition, Not):
            return self.conjuncts(condition.term, holds=not holds)
        if not isinstance(condition, All | Any):
            raise InternalError("a guard asks for its own decision")
        parts = [self.conjuncts(term, holds=holds) for term in condition.terms]
        if isinstance(condition, All) is not holds:
            return self._alternatives(parts)
        product: tuple[Conjunct, ...] = ((),)
        for part in parts:
            product = _distinct(_meetings(product, part))
        return product

    def _single(self, atom: Atom, *, holds: bool) -> tuple[Conjunct, ...]:
        key = (atom.attribute, atom.op, atom.value)
        if key not in self._known:
            position, part = self._place[atom.attribute]
            self._known[key] = position, part.satisfying(atom), part.everything
        position, satisfying, everything = self._known[key]
        return _on(position, satisfying if holds else everything & ~satisfying, everything)

    def _alternatives(self, parts: Iterable[tuple[Conjunct, ...]]) -> tuple[Conjunct, ...]:
        found = _distinct(conjunct for part in parts for conjunct in part)
        return self._join(found) if len(found) > 1 else found

    def _join(self, found: tuple[Conjunct, ...]) -> tuple[Conjunct, ...]:
        """Gather alternatives that name one attribute, the same, and stop where one of them is always true."""
        several = [conjunct for conjunct in found if len(conjunct) > 1]
        allowed: dict[int, int] = {}
        for position, mask in (conjunct[0] for conjunct in found if len(conjunct) == 1):
            allowed[position] = allowed.get(position, 0) | mask
        single = [_on(position, mask, self._everything[position]) for position, mask in allowed.items()]
        if () in found or ((),) in single:
            return ((),)
        return (*(conjunct for part in single for conjunct in part), *several)


def _on(position: int, allowed: int, everything: int) -> tuple[Conjunct, ...]:
    """Return what asks of one attribute to lie in some intervals: nothing to ask, one conjunct, or never true."""
    if allowed == everything:
        return ((),)
    return (((position, allowed),),) if allowed else ()


def _meetings(ones: Iterable[Conjunct], others: Sequence[Conjunct]) -> Iterator[Conjunct]:
    for one in ones:
        for other in others:
            met = _meet(one, other)
            if met is not None:
                yield met


def _meet(one: Conjunct, other: Conjunct) -> Conjunct | None:
    """Return the conjunct that asks for both, or None where nothing satisfies both."""
    merged = dict(one)
    for position, allowed in other:
        merged[position] = merged.get(position, allowed) & allowed
        if not merged[position]:
            return None
    return tuple(sorted(merged.items()))


def _distinct(found: Iterable[Conjunct]) -> tuple[Conjunct, ...]:
    """Return distinct conjuncts in their order, and give up as soon as there are too many."""
    kept: dict[Conjunct, None] = {}
    for conjunct in found:
        kept[conjunct] = None
        if len(kept) > LARGEST_GUARD:
            raise InputError(f"a guard unfolds into more than {LARGEST_GUARD} alternatives; split the rule in several")
    return tuple(kept)
