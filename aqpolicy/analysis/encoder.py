"""A policy's meaning as terms of the solver: which rules apply, what is admitted, what is charged.

The second of three implementations of one meaning (`aqpolicy.semantics` is the
first and decides); it shares no code with the other two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any as Term

import z3

from aqpolicy.analysis.domain import Domain, compare
from aqpolicy.model.policy import Admitted, Atom, Budget, Condition, Deny, LimitNorm, LimitShare, Not, Policy, Rule
from aqpolicy.model.policy import All as Every
from aqpolicy.units import MICRO

NO_NORM = -1
"""A norm limit that is not there."""


@dataclass(frozen=True, slots=True)
class SymbolicDecision:
    """What every observation gets, as terms over the attributes.

    Shapes:
        shares (g), norms (g), charged (number of budgets).
    """

    shares: tuple[Term, ...]
    norms: tuple[Term, ...]
    charged: tuple[Term, ...]
    conflict: Term


def overridden_by(rules: Sequence[Rule]) -> dict[str, frozenset[str]]:
    """Return for each rule the names of all rules before which its grant yields, directly or through others."""
    above: dict[str, set[str]] = {rule.name: set() for rule in rules}
    for rule in rules:
        for name in rule.overrides:
            above[name].add(rule.name)
    for middle in rules:
        for others in above.values():
            if middle.name in others:
                others.update(above[middle.name])
    return {name: frozenset(others) for name, others in above.items()}


class Encoding:
    """One policy as terms: the guard of every rule and budget, and the decision."""

    def __init__(self, policy: Policy) -> None:
        """Encode everything once; queries only combine the parts."""
        self.policy = policy
        self.domain = Domain(policy.taxonomy)
        self.above = overridden_by(policy.rules)
        self.guards = {rule.name: self.condition(rule.when) for rule in policy.rules}
        self.scopes = {budget.name: self.condition(budget.when) for budget in policy.budgets}
        self.survives = {rule.name: self._survives(rule) for rule in policy.rules if rule.admit is not None}
        self.decision = self._decision()

    def condition(self, condition: Condition) -> Term:
        """Return a condition on attributes, and in a proof on the decision, as a term."""
        if isinstance(condition, Atom):
            return self.domain.atom(condition)
        if isinstance(condition, Admitted):
            group = self.policy.group_names.index(condition.group)
            return compare(self.decision.shares[group], condition.op, condition.value)
        if isinstance(condition, Not):
            return z3.Not(self.condition(condition.term))
        terms = [self.condition(term) for term in condition.terms]
        return z3.And(terms) if isinstance(condition, Every) else z3.Or(terms)

    def _survives(self, rule: Rule) -> Term:
        """Say that a grant applies and no rule that overrides it does."""
        above = [self.guards[name] for name in sorted(self.above[rule.name])]
        return z3.And(self.guards[rule.name], z3.Not(z3.Or(above)))

    def _decision(self) -> SymbolicDecision:
        conflict = self._conflict()
        groups = range(len(self.policy.groups))
        shares = tuple(z3.If(conflict, 0, self._share(group)) for group in groups)
        norms = tuple(self._norm(group) for group in groups)
        return SymbolicDecision(shares, norms, tuple(self._charge(b, shares) for b in self.policy.budgets), conflict)

    def _conflict(self) -> Term:
        """Say that two surviving grants give some group different shares."""
        if self.policy.combine_min:
            return z3.BoolVal(False)
        by_shares: dict[tuple[int, ...], list[Term]] = {}
        for rule in self.policy.rules:
            if rule.admit is not None:
                by_shares.setdefault(rule.admit.shares, []).append(self.survives[rule.name])
        some = [z3.Or(terms) for terms in by_shares.values()]
        return z3.Or([z3.And(a, b) for i, a in enumerate(some) for b in some[i + 1 :]])

    def _share(self, group: int) -> Term:
        """Return the least of the surviving grants and of the restrictions; 0 where nothing is granted."""
        grants = [(r.admit.shares[group], self.survives[r.name]) for r in self.policy.rules if r.admit is not None]
        name = self.policy.group_names[group]
        caps = [
            (cap.share if isinstance(cap, LimitShare) else 0, self.guards[rule.name])
            for rule in self.policy.rules
            for cap in rule.restrictions
            if isinstance(cap, Deny | LimitShare) and name in cap.groups
        ]
        granted = z3.Or([guard for _, guard in grants])
        return z3.If(granted, _least([*grants, *caps], MICRO), 0)

    def _norm(self, group: int) -> Term:
        name = self.policy.group_names[group]
        limits = [
            (limit.norm, self.guards[rule.name])
            for rule in self.policy.rules
            for limit in rule.restrictions
            if isinstance(limit, LimitNorm) and name in limit.groups
        ]
        return _least(limits, NO_NORM)

    def _charge(self, budget: Budget, shares: Sequence[Term]) -> Term:
        """Return the largest share among the groups that a budget covers; 0 where it does not apply."""
        largest: Term = z3.IntVal(0)
        for name in budget.groups:
            share = shares[self.policy.group_names.index(name)]
            largest = z3.If(share > largest, share, largest)
        return z3.If(self.scopes[budget.name], largest, 0)


def _least(choices: Iterable[tuple[int, Term]], otherwise: int) -> Term:
    """Return the least number whose condition holds."""
    by_number: dict[int, list[Term]] = {}
    for number, condition in choices:
        by_number.setdefault(number, []).append(condition)
    term: Term = z3.IntVal(otherwise)
    for number in sorted(by_number, reverse=True):
        term = z3.If(z3.Or(by_number[number]), number, term)
    return term
