"""Turn a guard into conjuncts: each asks of every attribute only which interval it lies in.

A conjunct maps attributes (by position) to sets of intervals (bit masks, see
`Partition`); an attribute that is not named is free. The guard holds where some
conjunct does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aqpolicy.compiler.partition import Partition
from aqpolicy.errors import InputError, InternalError
from aqpolicy.model.policy import Admitted, Atom, Condition, Not
from aqpolicy.model.policy import All as Every

Conjunct = tuple[tuple[int, int], ...]
"""Pairs of attribute position and allowed intervals, by ascending position."""

LARGEST_GUARD: Final = 4096
"""How many conjuncts one guard may have."""


def conjuncts(condition: Condition, partitions: Sequence[Partition], *, holds: bool = True) -> tuple[Conjunct, ...]:
    """Return the conjuncts of a condition, or with `holds` false of its opposite.

    Raises:
        InputError: There would be more than `LARGEST_GUARD`.
    """
    if isinstance(condition, Not):
        return conjuncts(condition.term, partitions, holds=not holds)
    if isinstance(condition, Atom):
        return _single(condition, partitions, holds=holds)
    if isinstance(condition, Admitted):
        raise InternalError("a guard asks for its own decision")
    parts = [conjuncts(term, partitions, holds=holds) for term in condition.terms]
    if isinstance(condition, Every) is not holds:
        return _checked(tuple(dict.fromkeys(item for part in parts for item in part)))
    product: tuple[Conjunct, ...] = ((),)
    for part in parts:
        met = (_meet(one, other) for one in product for other in part)
        product = _checked(tuple(dict.fromkeys(item for item in met if item is not None)))
    return product


def _single(atom: Atom, partitions: Sequence[Partition], *, holds: bool) -> tuple[Conjunct, ...]:
    position = next(i for i, p in enumerate(partitions) if p.attribute.name == atom.attribute)
    satisfying = partitions[position].satisfying(atom)
    allowed = satisfying if holds else partitions[position].everything & ~satisfying
    if allowed == partitions[position].everything:
        return ((),)
    return (((position, allowed),),) if allowed else ()


def _meet(one: Conjunct, other: Conjunct) -> Conjunct | None:
    """Return the conjunct that asks for both, or None where nothing satisfies both."""
    merged = dict(one)
    for position, allowed in other:
        merged[position] = merged.get(position, allowed) & allowed
        if not merged[position]:
            return None
    return tuple(sorted(merged.items()))


def _checked(found: tuple[Conjunct, ...]) -> tuple[Conjunct, ...]:
    if len(found) > LARGEST_GUARD:
        raise InputError(f"a guard unfolds into more than {LARGEST_GUARD} alternatives; split the rule in several")
    return found
