"""Exact answers about which observations satisfy what, from bit sets alone.

Input: attributes and conditions; output: the least observation that satisfies a
formula over them, proof that there is none, overlaps and readable regions. Start
at `Space`; formulas are combined with `both`, `either` and `opposite`. It knows
nothing of decisions, and what it leaves undecided is the solver's business.
"""

from aqpolicy.space.formula import FALSE, TRUE, Formula, both, either, neither, opposite, some
from aqpolicy.space.region import Region
from aqpolicy.space.search import EFFORT, Undecided
from aqpolicy.space.space import Space

__all__ = [
    "EFFORT",
    "FALSE",
    "TRUE",
    "Formula",
    "Region",
    "Space",
    "Undecided",
    "both",
    "either",
    "neither",
    "opposite",
    "some",
]
