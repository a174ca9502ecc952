"""How much each class of observation can be admitted at most, group by group: proved, not enumerated.

Some observation of the class is admitted just that, and none is admitted more.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from aqpolicy.analysis import Prover
from aqpolicy.analysis.query import ALWAYS, And, Holds, Over, Query
from aqpolicy.analysis.reading import amounts, linear_limits
from aqpolicy.model.policy import Atom, Category, Policy
from aqpolicy.units import MICRO


@dataclass(frozen=True, slots=True)
class Reach:
    """The largest share of each group, for every value of an attribute, or (without one) for all observations."""

    attribute: str | None
    rows: tuple[tuple[str, tuple[int, ...]], ...]


def reach_of(policy: Policy) -> Reach:
    """Return the most that can be admitted by authority, or else by the first attribute whose values ascend.

    Raises:
        AnalysisError: A question was not decided.
    """
    ranked = {
        attribute.name: attribute
        for attribute in policy.taxonomy.attributes
        if isinstance(attribute.type, Category) and attribute.type.ordered > 1
    }
    prover = Prover(policy)
    if not ranked:
        return Reach(None, (("every observation", _most(prover, ALWAYS)),))
    chosen = ranked.get("authority") or next(iter(ranked.values()))
    assert isinstance(chosen.type, Category), "only categories are ranked"  # noqa: S101 - see above
    classes = {value: Holds(Atom(chosen.name, "=", value, chosen.span)) for value in chosen.type.values}
    return Reach(chosen.name, tuple((value, _most(prover, given)) for value, given in classes.items()))


def _most(prover: Prover, given: Query) -> tuple[int, ...]:
    return tuple(_most_of(prover, group, given) for group in prover.policies[0].group_names)


def _most_of(prover: Prover, group: str, given: Query) -> int:
    """Return the largest share that a group gets: the first candidate above which there is nothing."""
    policy = prover.policies[0]
    known = sorted({0, MICRO, *amounts(policy, group)})
    candidates = range(max(known) + 1) if any(linear_limits(policy, group)) else known
    nothing_above = bisect_left(
        candidates, True, key=lambda share: not prover.possible(And((given, Over(group, share))))
    )
    return candidates[nothing_above]
