"""The least cell of a grid that satisfies a formula, or proof that there is none.

First the formula is split at its narrowest choice (a guard's few alternatives),
so that each part is asked inside a small box. What a box leaves open is searched
depth first through the attributes in their order: intervals that the formula
cannot tell apart are one option, and a conjunct that the rest of the box cannot
violate is certain, so most branches end long before the last attribute; what
failed once is not tried again. Exact; it gives up only when its effort is spent.

Source:
    Lakshman and Stiliadis, SIGCOMM 1998, section 3 (bit-vector packet classification).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aqpolicy.errors import AnalysisError
from aqpolicy.space.formula import FALSE, Both, Either, Formula, Neither, Some, both, mentioned, some
from aqpolicy.space.grid import Box, Grid, bits, meet

EFFORT: Final = 100_000
"""Default bound on the states that one question visits; a box counts as `BOX_EFFORT` of them."""

BOX_EFFORT: Final = 30

WIDEST_CHOICE: Final = 32
"""How many conjuncts of one choice are tried one by one."""

Cell = tuple[int, ...]
"""One interval of each attribute, by number."""

Judge = Callable[[int, int], bool | None]
"""Says of the conjuncts that still may hold, and of those that must, whether a formula is true; None is open."""


class Undecided(AnalysisError):  # noqa: N818 - no fault: callers go on and ask the solver
    """The search does not answer this question; never a pass."""


class _Effort:
    """What a question may still cost."""

    def __init__(self, states: int) -> None:
        self._left = states

    def spend(self, states: int) -> None:
        self._left -= states
        if self._left < 0:
            raise Undecided("the conditions overlap in too many ways to be searched")


def least(grid: Grid, formula: Formula, box: Box, effort: int = EFFORT) -> Cell | None:
    """Return the least cell of a box that satisfies a formula; None if there is none.

    Raises:
        Undecided: More than `effort` states would have to be visited.
    """
    budget, best = _Effort(effort), None
    agenda = [(formula, box)]
    while agenda:
        budget.spend(BOX_EFFORT)
        formula, box = _narrowed(grid, *agenda.pop())
        if formula == FALSE or (best is not None and _corner(box) >= best):
            continue
        parts = _split(formula)
        agenda += [(part, box) for part in reversed(parts)]
        found = None if parts else _Search(grid, formula, box, budget).least()
        best = min((cell for cell in (best, found) if cell is not None), default=None)
    return best


def _narrowed(grid: Grid, formula: Formula, box: Box) -> tuple[Formula, Box]:
    """Shrink a box to where a formula can be true, and leave out of the formula what the box decides."""
    smaller = meet(box, grid.hull(formula))
    while all(smaller):
        box, formula = smaller, grid.settled(formula, smaller)
        smaller = meet(box, grid.hull(formula))
        if smaller == box:
            return formula, box
    return FALSE, box


def _corner(box: Box) -> Cell:
    return tuple((allowed & -allowed).bit_length() - 1 for allowed in box)


def _split(formula: Formula) -> list[Formula]:
    """Return formulas of which one must be true, each with one choice made; none where there is no choice to make."""
    terms = formula.terms if isinstance(formula, Both) else (formula,)
    choices = [(len(parts), parts, term) for term in terms if (parts := _parts(term))]
    if not choices:
        return []
    _, parts, choice = min(choices, key=lambda each: each[0])
    rest = [term for term in terms if term is not choice]
    return [both(*rest, part) for part in parts]


def _parts(term: Formula) -> tuple[Formula, ...]:
    if isinstance(term, Either):
        return term.terms
    if isinstance(term, Some) and term.mask.bit_count() <= WIDEST_CHOICE:
        return tuple(some(1 << number) for number in bits(term.mask))
    return ()


class _Search:
    """One search through one box, for a formula that the box leaves open or has made true."""

    def __init__(self, grid: Grid, formula: Formula, box: Box, effort: _Effort) -> None:
        self._relevant = mentioned(formula)
        self._judge = _judge(formula)
        self._options = [self._distinct(vectors, allowed) for vectors, allowed in zip(grid.vectors, box, strict=True)]
        self._certain = [self._relevant]
        for position in reversed(range(len(box))):
            self._certain.insert(0, self._certain[0] & grid.certain(position, box[position]))
        self._failed: list[set[int]] = [set() for _ in range(len(box) + 1)]
        self._effort = effort

    def _distinct(self, vectors: tuple[int, ...], allowed: int) -> list[tuple[int, int]]:
        """Return the relevant vectors that intervals of one attribute have, each with its least interval."""
        options: dict[int, int] = {}
        for interval in bits(allowed):
            options.setdefault(vectors[interval] & self._relevant, interval)
        return list(options.items())

    def least(self) -> Cell | None:
        return self._from(0, self._relevant)

    def _from(self, level: int, alive: int) -> Cell | None:
        """Return the least completion from an attribute on, given the conjuncts that those before it leave possible."""
        verdict = self._judge(alive, alive & self._certain[level])
        if verdict:
            return tuple(options[0][1] for options in self._options[level:])
        if verdict is False:
            return None
        self._effort.spend(1)
        failed = self._failed[level + 1]
        for vector, interval in self._options[level]:
            left = alive & vector
            if left not in failed:
                rest = self._from(level + 1, left)
                if rest is not None:
                    return (interval, *rest)
                failed.add(left)
        return None


def _judge(formula: Formula) -> Judge:
    """Turn a formula into a function in three-valued logic."""
    if isinstance(formula, Some):
        mask = formula.mask
        return lambda alive, certain: True if certain & mask else (None if alive & mask else False)
    if isinstance(formula, Neither):
        mask = formula.mask
        return lambda alive, certain: False if certain & mask else (None if alive & mask else True)
    judges, whole = [_judge(term) for term in formula.terms], isinstance(formula, Both)

    def judge(alive: int, certain: int) -> bool | None:
        answer: bool | None = whole
        for term in judges:
            verdict = term(alive, certain)
            if verdict is (not whole):
                return verdict
            answer = None if verdict is None else answer
        return answer

    return judge
