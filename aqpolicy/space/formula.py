"""Questions about conjuncts: which of them hold, and how that combines.

A formula speaks of numbered conjuncts and knows neither attributes nor values.
Negation is pushed down to the conjuncts as a formula is made, so only `Neither`
denies. Make formulas with the functions, never with the classes: they fold
constants, flatten, and merge masks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Final


@dataclass(frozen=True, slots=True)
class Some:
    """Some conjunct of the mask holds."""

    mask: int


@dataclass(frozen=True, slots=True)
class Neither:
    """No conjunct of the mask holds."""

    mask: int


@dataclass(frozen=True, slots=True)
class Both:
    """Every term is true."""

    terms: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """Some term is true."""

    terms: tuple[Formula, ...]


Formula = Some | Neither | Both | Either

TRUE: Final[Formula] = Both(())
FALSE: Final[Formula] = Either(())


def some(mask: int) -> Formula:
    """Say that some conjunct of the mask holds."""
    return Some(mask) if mask else FALSE


def neither(mask: int) -> Formula:
    """Say that no conjunct of the mask holds."""
    return Neither(mask) if mask else TRUE


def opposite(formula: Formula) -> Formula:
    """Say the contrary of a formula."""
    if isinstance(formula, Some):
        return Neither(formula.mask)
    if isinstance(formula, Neither):
        return Some(formula.mask)
    terms = (opposite(term) for term in formula.terms)
    return either(*terms) if isinstance(formula, Both) else both(*terms)


def both(*formulas: Formula) -> Formula:
    """Say that every formula is true.

    What is denied anywhere is denied once, and is taken out of every choice.
    """
    flat = _flat(formulas, Both)
    denied = reduce(or_, (term.mask for term in flat if isinstance(term, Neither)), 0)
    rest = [term for term in flat if not isinstance(term, Neither)]
    terms = [some(term.mask & ~denied) if isinstance(term, Some) else term for term in rest]
    if FALSE in terms:
        return FALSE
    terms += [Neither(denied)] if denied else []
    return terms[0] if len(terms) == 1 else Both(tuple(terms))


def either(*formulas: Formula) -> Formula:
    """Say that some formula is true.

    What suffices anywhere suffices once, and need not be denied elsewhere.
    """
    flat = _flat(formulas, Either)
    enough = reduce(or_, (term.mask for term in flat if isinstance(term, Some)), 0)
    rest = [term for term in flat if not isinstance(term, Some)]
    terms = [neither(term.mask & ~enough) if isinstance(term, Neither) else term for term in rest]
    if TRUE in terms:
        return TRUE
    terms += [Some(enough)] if enough else []
    return terms[0] if len(terms) == 1 else Either(tuple(terms))


def mentioned(formula: Formula) -> int:
    """Return every conjunct that a formula speaks of."""
    if isinstance(formula, Some | Neither):
        return formula.mask
    return reduce(or_, (mentioned(term) for term in formula.terms), 0)


def _flat(formulas: Iterable[Formula], kind: type[Both | Either]) -> list[Formula]:
    """Put the terms of each formula of one kind in its place; made formulas nest no deeper."""
    return [term for formula in formulas for term in (formula.terms if isinstance(formula, kind) else (formula,))]
