"""Which guards overlap which, all pairs at once.

Every guard's conjuncts get neighbouring numbers (slots), so that whole rows of
the answer are a few ANDs of bit vectors, and a guard is met where one of its
slots is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate
from operator import and_, itemgetter, or_

from aqpolicy.space.grid import Grid, bits


def overlapping(grid: Grid, guards: Sequence[int]) -> list[int]:
    """Return for each guard, given as its mask of conjuncts, the mask of guards that some observation shares with it.

    Exact: two conjuncts share an observation iff they share an interval of every
    attribute. A guard overlaps itself unless nothing satisfies it.
    """
    runs = [list(bits(guard)) for guard in guards]
    slots = Grid(grid.partitions, [grid.conjuncts[number] for run in runs for number in run])
    everything = (1 << len(slots.conjuncts)) - 1
    reach = {
        conjunct: reduce(and_, (slots.reached(*side) for side in conjunct), everything)
        for conjunct in dict.fromkeys(slots.conjuncts)
    }
    met = [reduce(or_, (reach[grid.conjuncts[number]] for number in run), 0) for run in runs]
    return met if all(len(run) == 1 for run in runs) else _gathered(met, [len(run) for run in runs])


def _gathered(met: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """Turn masks of slots into masks of guards; guard g owns the next `lengths[g]` slots.

    Adding ones to all but the last slot of every run carries into that last slot
    exactly where one of them is set, so one addition looks at every run at once.
    """
    ends = list(accumulate(lengths))
    width = ends[-1] + 1
    lasts = sum(1 << end - 1 for end, length in zip(ends, lengths, strict=True) if length)
    others = (1 << ends[-1]) - 1 & ~lasts
    # Places in the written-out number, whose first digit is 0: a guard without slots is never met.
    places = [width - end if length else 0 for end, length in zip(ends, lengths, strict=True)]
    pick = itemgetter(*reversed(places))
    marked = ((((row & others) + others) | row) & lasts for row in met)
    return [int("".join(pick(f"{row:0{width}b}")), 2) for row in marked]
