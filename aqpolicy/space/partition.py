"""Cut each attribute where some condition of the policy can change its answer.

Between two cuts no condition tells values apart, so one value stands for all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from aqpolicy.model.policy import All, Any, Atom, Attribute, Category, Condition, Not, Numeric


@dataclass(frozen=True, slots=True)
class Partition:
    """The intervals of one attribute.

    `lowest` holds the least value of each interval, ascending; a category has one
    interval per value.
    """

    attribute: Attribute
    lowest: tuple[str | int, ...]

    @property
    def everything(self) -> int:
        """The set of all intervals; sets of intervals are bit masks, interval i is bit i."""
        return (1 << len(self.lowest)) - 1

    def satisfying(self, atom: Atom) -> int:
        """Return the set of intervals on which a comparison holds."""
        kind = self.attribute.type
        if isinstance(kind, Category):
            return _values_satisfying(kind, atom)
        # Every threshold is a cut, so an interval lies wholly on one side of it.
        threshold = int(atom.value)
        first, after = bisect_left(self.lowest, threshold), bisect_left(self.lowest, threshold + 1)
        below, not_above = (1 << first) - 1, (1 << after) - 1
        if atom.op in ("<", ">="):
            return below if atom.op == "<" else self.everything & ~below
        if atom.op in ("<=", ">"):
            return not_above if atom.op == "<=" else self.everything & ~not_above
        return not_above & ~below


def _values_satisfying(kind: Category, atom: Atom) -> int:
    position = kind.values.index(str(atom.value))
    if atom.op == "=":
        return 1 << position
    if position >= kind.ordered:
        return 0
    below, ordered = (1 << position) - 1, (1 << kind.ordered) - 1
    here = 1 << position
    masks = {"<": below, "<=": below | here, ">": ordered & ~below & ~here, ">=": ordered & ~below}
    return masks[atom.op]


def comparisons(condition: Condition) -> list[Atom]:
    """Return every comparison with an attribute that a condition makes, from left to right."""
    if isinstance(condition, Atom):
        return [condition]
    if isinstance(condition, Not):
        return comparisons(condition.term)
    if isinstance(condition, All | Any):
        return [atom for term in condition.terms for atom in comparisons(term)]
    return []


def partition(attribute: Attribute, atoms: Iterable[Atom]) -> Partition:
    """Cut an attribute at the thresholds that the comparisons use."""
    kind = attribute.type
    if isinstance(kind, Category):
        return Partition(attribute, kind.values)
    thresholds = {int(atom.value) for atom in atoms if atom.attribute == attribute.name}
    starts = {kind.low, *thresholds, *(threshold + 1 for threshold in thresholds)}
    cuts = {_round_up(start, kind) for start in starts}
    return Partition(attribute, tuple(sorted(cut for cut in cuts if kind.low <= cut <= kind.high)))


def _round_up(value: int, kind: Numeric) -> int:
    return -(-value // kind.step) * kind.step
