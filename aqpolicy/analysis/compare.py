"""What one policy admits and another does not: equivalence proved, or every change with where it happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from aqpolicy.analysis.alignment import NEW, OLD, aligned, touched, vocabulary_changes
from aqpolicy.analysis.aspects import Aspect, Direction, aspects, limit_changes
from aqpolicy.analysis.observation import Observation
from aqpolicy.analysis.prover import Prover
from aqpolicy.analysis.query import And, Query
from aqpolicy.analysis.question import confirm, replay
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.analysis.wording import decision_text
from aqpolicy.model.policy import Policy
from aqpolicy.semantics import Decision
from aqpolicy.units import micro_text

MOST_CHANGES: Final = 50
"""How many changes of decisions are told apart."""

MOST_REGIONS: Final = 5
"""How many regions of one change are spelled out."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change that makes a policy wider or narrower, and where it happens.

    Changes of limits have no witness: they happen wherever the budget applies.
    """

    direction: Direction
    what: tuple[str, ...]
    regions: tuple[str, ...] = ()
    more: bool = False
    """Whether it happens in further regions too."""
    witness: Mapping[str, str] | None = None
    old: str = ""
    """The old decision on the witness, in words."""
    new: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that two policies decide differently; `equivalent` is a proof that there is nothing."""

    vocabulary: tuple[str, ...]
    """What they speak of differently; decisions are compared on what both know."""
    changes: tuple[Change, ...]
    more: bool
    """Whether there are changes beyond those listed."""

    @property
    def equivalent(self) -> bool:
        """Whether both decide the same for every observation, and budgets bound the same."""
        return not self.vocabulary and not self.changes

    @property
    def verdict(self) -> Literal["equivalent", "wider", "narrower", "both", "vocabulary"]:
        """What the new policy is, in a word."""
        directions = {change.direction for change in self.changes}
        if len(directions) == 2:
            return "both"
        return next(iter(directions)) if directions else "vocabulary" if self.vocabulary else "equivalent"


def compare(old: Policy, new: Policy, settings: CheckSettings | None = None) -> Comparison:
    """Compare two policies for every observation that both know.

    Raises:
        InputError: They have no observation in common.
        AnalysisError: A question was not decided.
    """
    chosen = settings or CheckSettings()
    one, other = aligned(old, new)
    prover = Prover(one, other, effort=chosen.effort, solver=chosen.solver)
    found, more = _decisions(prover)
    limits = [Change(direction, (what,)) for direction, what in limit_changes(old, new)]
    return Comparison(vocabulary_changes(old, new), (*found, *limits), more)


def _decisions(prover: Prover) -> tuple[list[Change], bool]:
    """Return the changes of decisions, and whether there are more: every way to differ is asked for apart.

    Changes that happen in the very same places are told as one.
    """
    old, new = prover.policies
    speaks = touched(old, new)
    found: dict[tuple[object, ...], Change] = {}
    for aspect in aspects(old, new, lambda query: prover.possible(And((speaks, query)))):
        query = And((speaks, aspect.query))
        witness = prover.witness(query)
        if witness is None:
            continue
        if len(found) == MOST_CHANGES:
            return list(found.values()), True
        change = _change(prover, aspect, query, witness)
        key = (change.direction, change.regions, tuple((change.witness or {}).items()))
        same = found.get(key)
        found[key] = change if same is None else replace(same, what=(*same.what, *change.what))
    return list(found.values()), False


def _change(prover: Prover, aspect: Aspect, query: Query, witness: Observation) -> Change:
    """Say where decisions differ in one way."""
    old, new = replay(prover, witness, OLD), replay(prover, witness, NEW)
    confirm(aspect.shown(old, new), f"two policies differ: {aspect.text}")
    regions = prover.regions(query, MOST_REGIONS + 1)
    return Change(
        direction=aspect.direction,
        what=(aspect.text,),
        regions=tuple(region.text() for region in regions[:MOST_REGIONS]),
        more=len(regions) > MOST_REGIONS,
        witness=prover.text(witness),
        old=_text(prover.policies[OLD], old),
        new=_text(prover.policies[NEW], new),
    )


def _text(policy: Policy, decision: Decision) -> str:
    pairs = zip(policy.group_names, decision.norms, strict=True)
    norms = [f"{name} {micro_text(norm)}" for name, norm in pairs if norm is not None]
    return decision_text(policy, decision) + (f" (norms: {', '.join(norms)})" if norms else "")
