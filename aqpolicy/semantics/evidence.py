"""What evidence means: the judgments behind one observation in, the value of its attribute `evidence` out.

It does not say whose judgments they are or whether they are true: that is the
manifest's. Rules it keeps: the order of judgments never matters; an echo adds
nothing; a judgment that shares nothing with the others never lowers the sum;
the value lies between floor and ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aqpolicy.model.policy import Evidence
from aqpolicy.units import MICRO

Judgment = Mapping[str, str | int]
"""Values of one judgment by attribute or key; what is not known is absent."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Judgments that are echoes of each other, and every key that one of them has."""

    keys: frozenset[tuple[str, str | int]]
    members: list[Judgment]


def weigh(evidence: Evidence, judgments: Sequence[Judgment]) -> int:
    """Return the value of `evidence` in millionths.

    Args:
        evidence: How judgments are weighed.
        judgments: The judgments behind the observation, in any order.
    """
    total = sum(_strongest(evidence, echoes) for echoes in _echoes(evidence, judgments))
    return min(max(total, evidence.floor), evidence.ceiling)


def _strongest(evidence: Evidence, echoes: Sequence[Judgment]) -> int:
    return max(_weight(evidence, judgment) for judgment in echoes)


def _weight(evidence: Evidence, judgment: Judgment) -> int:
    """Return the product of a judgment's weights, rounded down after each; what is not named counts 0."""
    product = MICRO
    for table in evidence.weights:
        weight = next((weight for value, weight in table.weights if value == judgment.get(table.attribute)), 0)
        product = product * weight // MICRO
    return product


def _echoes(evidence: Evidence, judgments: Sequence[Judgment]) -> list[list[Judgment]]:
    """Return the judgments in parts that share no key, directly or through others."""
    parts: list[_Part] = []
    for judgment in judgments:
        keys = frozenset((name, judgment[name]) for name in evidence.independent_by if name in judgment)
        touched = [part for part in parts if not keys.isdisjoint(part.keys)]
        members = [judgment, *(member for part in touched for member in part.members)]
        parts = [part for part in parts if keys.isdisjoint(part.keys)]
        parts.append(_Part(keys.union(*(part.keys for part in touched)), members))
    return [part.members for part in parts]
