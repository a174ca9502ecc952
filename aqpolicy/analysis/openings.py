"""AQ312 and AQ318: grants for which a single attribute, or the model's own doubt, is enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Final

from aqpolicy.analysis.observation import Observation, Value, attribute_text
from aqpolicy.analysis.prover import Prover
from aqpolicy.analysis.query import And, Applies, Holds, Negated, Query, or_
from aqpolicy.analysis.question import Question
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.diagnostics import Diagnostic, Label, Span
from aqpolicy.model.policy import All, Atom, Attribute, Condition, DepthGroup, Policy, Rule
from aqpolicy.semantics import holds
from aqpolicy.space.partition import comparisons, partition

DOUBT: Final = ("label_entropy", "surprisal", "predictive_entropy")
"""What may only lower what authority permits."""


def questions(policy: Policy, _settings: CheckSettings) -> Iterator[Question]:
    """Ask whether one attribute opens a protected group, and of grants whether doubt alone admits."""
    for group in (group for group in policy.groups if group.protected):
        claim = f"no single attribute opens `{group.name}`"
        yield Question(claim, group.span, partial(opened_by_one, group=group))
    for rule in policy.rules:
        if rule.admit is not None and any(atom.attribute in DOUBT for atom in comparisons(rule.when)):
            claim = f"grant `{rule.name}` asks for more than entropy or surprisal"
            yield Question(claim, rule.span, partial(admitted_by_doubt, rule=rule))


@dataclass(frozen=True, slots=True)
class Enough:
    """Values of some attributes that imply a grant, whatever the others are."""

    values: Observation

    def condition(self, span: Span) -> Condition:
        """Return that the attributes have these values."""
        return All(tuple(Atom(name, "=", value, span) for name, value in self.values.items()))


class _Search:
    """Looks for values of a few attributes that leave no way around a set of grants."""

    def __init__(self, prover: Prover, rules: Sequence[Rule]) -> None:
        self._prover, self._rules = prover, rules
        self._granted = or_(Applies(rule.name) for rule in rules)
        self._ways_round: list[Observation] = []

    def enough(self, attributes: Sequence[Attribute]) -> Enough | None:
        """Return the least values that imply one of the grants, or None."""
        atoms = [atom for rule in self._rules for atom in comparisons(rule.when)]
        span = self._rules[0].span
        for values in product(*(partition(attribute, atoms).lowest for attribute in attributes)):
            found = Enough({a.name: value for a, value in zip(attributes, values, strict=True)})
            if not self._avoidable(found, span):
                return found
        return None

    def _avoidable(self, values: Enough, span: Span) -> bool:
        """Say whether an observation with these values is outside of all grants; ways round are tried again."""
        if any(self._outside(way | values.values) for way in self._ways_round):
            return True
        way = self._prover.witness(And((Negated(self._granted), Holds(values.condition(span)))))
        if way is not None:
            self._ways_round.append(way)
        return way is not None

    def _outside(self, observation: Observation) -> bool:
        return not any(holds(rule.when, observation) for rule in self._rules)


def opened_by_one(prover: Prover, group: DepthGroup) -> Iterator[Diagnostic]:
    """Yield a warning if some value of one attribute, or nothing at all, implies a grant that opens a group.

    Proved iff for every attribute and value some observation is outside of all grants that
    give the group a share above 0.
    """
    policy = prover.policies[0]
    position = policy.groups.index(group)
    rules = [rule for rule in policy.rules if rule.admit is not None and rule.admit.shares[position] > 0]
    if not rules:
        return
    search = _Search(prover, rules)
    used = {atom.attribute for rule in rules for atom in comparisons(rule.when)}
    everything = search.enough(())
    attributes = [] if everything else [a for a in policy.attributes if a.name in used]
    each = [everything, *(search.enough((attribute,)) for attribute in attributes)]
    found = [values for values in each if values is not None]
    if found:
        yield _opened(prover, group, rules, found)


def _sufficient(prover: Prover, rules: Sequence[Rule], values: Enough) -> list[Rule]:
    """Return grants that together are implied by values, of which none can be spared."""
    given = Holds(values.condition(rules[0].span))
    kept = [rule for rule in rules if prover.possible(And((given, Applies(rule.name))))]
    for rule in tuple(kept):
        rest = [other for other in kept if other is not rule]
        if rest and not prover.possible(And((given, Negated(_some(rest))))):
            kept = rest
    return kept


def _some(rules: Sequence[Rule]) -> Query:
    return or_(Applies(rule.name) for rule in rules)


def _opened(prover: Prover, group: DepthGroup, rules: Sequence[Rule], found: Sequence[Enough]) -> Diagnostic:
    why = ", or ".join(_values_text(prover, values.values) for values in found) or "nothing at all is asked"
    sufficient = {rule.name: rule for values in found for rule in _sufficient(prover, rules, values)}
    return Diagnostic(
        code="AQ312",
        severity="warning",
        message=f"one attribute alone opens the protected group `{group.name}`: {why}",
        labels=(
            Label(group.span, "protected"),
            *(
                Label(rule.when_span, f"`{rule.name}` admits then, whatever else is observed")
                for rule in sufficient.values()
            ),
        ),
        help=("ask for a second attribute, such as the review or the consensus",),
        witness=prover.text(_with(prover, rules, found[0])),
    )


def _with(prover: Prover, rules: Sequence[Rule], values: Enough) -> Observation:
    """Return the least observation with these values."""
    return prover.witness(Holds(values.condition(rules[0].span))) or values.values


def _values_text(prover: Prover, values: dict[str, Value]) -> str:
    kinds = {attribute.name: attribute for attribute in prover.attributes}
    return " and ".join(f"`{name}` is {attribute_text(kinds[name], value)}" for name, value in values.items())


def admitted_by_doubt(prover: Prover, rule: Rule) -> Iterator[Diagnostic]:
    """Yield a finding if values of entropy or surprisal imply a grant that is not always given.

    Proved iff for all values of these attributes some observation is outside of the grant.
    """
    search = _Search(prover, [rule])
    asked = {atom.attribute for atom in comparisons(rule.when)}
    doubt = [
        attribute for attribute in prover.policies[0].attributes if attribute.name in DOUBT and attribute.name in asked
    ]
    found = None if search.enough(()) else search.enough(doubt)
    if found is None:
        return
    yield Diagnostic(
        code="AQ318",
        severity="error",
        message=f"grant `{rule.name}` admits by entropy or surprisal alone",
        labels=(
            Label(rule.when_span, f"holds wherever {_values_text(prover, found.values)}"),
            Label(rule.admit_span or rule.span, "admits this"),
        ),
        notes=("how surprising or undecided a label is may lower what authority permits, never permit it",),
        help=("ask for authority, review or consensus too, and let entropy only restrict",),
        witness=prover.text(_with(prover, [rule], found)),
    )
