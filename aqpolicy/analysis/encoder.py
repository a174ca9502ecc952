"""A policy's meaning as terms of the solver: which rules apply, what is admitted, charged and asked.

One of four implementations of one meaning (`aqpolicy.semantics` is the first and
decides); it shares no code with the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any as Term
from typing import Final

import z3

from aqpolicy.analysis import query as q
from aqpolicy.analysis.domain import Domain, every, some
from aqpolicy.errors import InternalError
from aqpolicy.model.policy import (
    Budget,
    Category,
    Defer,
    Deny,
    LimitFrequency,
    LimitLinear,
    LimitNorm,
    LimitShare,
    Obligation,
    Policy,
    Rule,
)

NO_NORM: Final = -1
"""A norm limit that is not there."""

NO_CEILING: Final = 2**40
"""A share that no policy can write, where nothing limits it."""


@dataclass(frozen=True, slots=True)
class SymbolicDecision:
    """What every observation gets, as terms over the attributes.

    Shapes:
        shares (g), norms (g), charged (number of budgets), obligations (number of obligations).
    """

    shares: tuple[Term, ...]
    norms: tuple[Term, ...]
    charged: tuple[Term, ...]
    obligations: tuple[Term, ...]
    conflict: Term
    deferred: Term


def overridden_by(rules: Sequence[Rule]) -> dict[str, frozenset[str]]:
    """Return for each rule the names of all rules before which its grant yields, directly or through others."""
    above: dict[str, set[str]] = {rule.name: set() for rule in rules}
    for rule in rules:
        for name in rule.overrides:
            above.setdefault(name, set()).add(rule.name)
    for middle in [rule for rule in rules if rule.overrides and above[rule.name]]:
        for others in above.values():
            if middle.name in others:
                others.update(above[middle.name])
    return {name: frozenset(others) for name, others in above.items()}


class Encoding:
    """One policy as terms: the guard of every rule and budget, and the decision."""

    def __init__(self, policy: Policy, domain: Domain) -> None:
        """Encode nothing yet; what is asked for is encoded once."""
        self.policy = policy
        self._domain = domain
        self._rules = {rule.name: rule for rule in policy.rules}
        self._budgets = {budget.name: budget for budget in policy.budgets}

    def guard(self, rule: str) -> Term:
        """Say that a rule applies."""
        return self._domain.condition(self._rules[rule].when)

    def scope(self, budget: str) -> Term:
        """Say that a budget charges the observation."""
        return self._domain.condition(self._budgets[budget].when)

    def stands(self, rule: str) -> Term:
        """Say that a grant applies and no rule that overrides it does."""
        above = [self.guard(name) for name in sorted(self._above[rule])]
        return z3.And(self.guard(rule), z3.Not(some(above))) if above else self.guard(rule)

    def position(self, group: str) -> int:
        """Return where a group stands among the policy's."""
        return self.policy.group_names.index(group)

    @cached_property
    def _above(self) -> dict[str, frozenset[str]]:
        return overridden_by(self.policy.rules)

    @cached_property
    def _offers(self) -> list[tuple[tuple[int, ...], Term]]:
        """Distinct vectors of shares, each with the statement that some standing grant offers it."""
        by_shares: dict[tuple[int, ...], list[Term]] = {}
        for rule in self.policy.rules:
            if rule.admit is not None:
                by_shares.setdefault(rule.admit.shares, []).append(self.stands(rule.name))
        return [(shares, some(terms)) for shares, terms in by_shares.items()]

    @cached_property
    def decision(self) -> SymbolicDecision:
        """The decision on every observation."""
        conflict = self._conflict()
        before = [z3.If(conflict, 0, self._share(group)) for group in range(len(self.policy.groups))]
        granted = some([share > 0 for share in before])
        pending = {number: self._pending(name, asked) for number, name, asked in self._deferrals()}
        deferred = z3.And(granted, some(list(pending.values())))
        shares = tuple(z3.If(deferred, 0, share) for share in before)
        return SymbolicDecision(
            shares=shares,
            norms=tuple(self._norm(group) for group in self.policy.group_names),
            charged=tuple(self._charge(budget, shares) for budget in self.policy.budgets),
            obligations=tuple(
                z3.And(deferred, pending[number]) if number in pending else self._owed(name, asked, shares)
                for number, (name, asked) in enumerate(self.policy.obligations)
            ),
            conflict=conflict,
            deferred=deferred,
        )

    def _conflict(self) -> Term:
        """Say that grants that stand offer at least two different vectors of shares."""
        if self.policy.combine_min or len(self._offers) < 2:
            return z3.BoolVal(False)
        return z3.Sum([z3.If(offered, 1, 0) for _, offered in self._offers]) >= 2

    def _share(self, group: int) -> Term:
        """Return the least of the standing grants and of the limits; 0 where nothing is granted."""
        offered = _least([(shares[group], term) for shares, term in self._offers], NO_CEILING)
        ceiling = self._ceilings[group]
        return z3.If(self._granted, z3.If(offered < ceiling, offered, ceiling), 0)

    @cached_property
    def _granted(self) -> Term:
        return some([offered for _, offered in self._offers])

    @cached_property
    def _ceilings(self) -> list[Term]:
        """The least of all limits of share, for each group."""
        ceilings = []
        for name in self.policy.group_names:
            least = _least(self._fixed_limits(name), NO_CEILING)
            for guard, limit in self._linear_limits(name):
                least = z3.If(z3.And(guard, limit < least), limit, least)
            ceilings.append(least)
        return ceilings

    def left_over(self) -> Term:
        """Say that no grant stands, and that restrictions do not close every group either."""
        return z3.And(z3.Not(self._granted), some([ceiling > 0 for ceiling in self._ceilings]))

    def _fixed_limits(self, group: str) -> list[tuple[int, Term]]:
        return [
            (limit.share if isinstance(limit, LimitShare) else 0, self.guard(rule.name))
            for rule in self.policy.rules
            for limit in rule.restrictions
            if isinstance(limit, Deny | LimitShare) and group in limit.groups
        ]

    def _linear_limits(self, group: str) -> list[tuple[Term, Term]]:
        return [
            (self.guard(rule.name), self._domain.linear(limit.attribute, limit.intercept, limit.slope))
            for rule in self.policy.rules
            for limit in rule.restrictions
            if isinstance(limit, LimitLinear) and group in limit.groups
        ]

    def _norm(self, group: str) -> Term:
        limits = [
            (limit.norm, self.guard(rule.name))
            for rule in self.policy.rules
            for limit in rule.restrictions
            if isinstance(limit, LimitNorm) and group in limit.groups
        ]
        return _least(limits, NO_NORM)

    def bounded(self, group: str, norm: int) -> Term:
        """Say that a group's norm is limited to at most a number."""
        limit = self.decision.norms[self.position(group)]
        return z3.And(limit != NO_NORM, limit <= norm)

    def _deferrals(self) -> list[tuple[int, str, Defer]]:
        numbered = enumerate(self.policy.obligations)
        return [(number, name, asked) for number, (name, asked) in numbered if isinstance(asked, Defer)]

    def _pending(self, rule: str, deferral: Defer) -> Term:
        return z3.And(self.guard(rule), z3.Not(self._domain.condition(deferral.until)))

    def _owed(self, rule: str, asked: Obligation, shares: Sequence[Term]) -> Term:
        """Say that an obligation is asked: something is admitted; for a frequency, to one of its groups."""
        among = asked.groups if isinstance(asked, LimitFrequency) else self.policy.group_names
        return z3.And(self.guard(rule), some([shares[self.position(group)] > 0 for group in among]))

    def _charge(self, budget: Budget, shares: Sequence[Term]) -> Term:
        """Return the largest share among the groups that a budget covers; 0 where it does not apply."""
        largest: Term = z3.IntVal(0)
        for name in budget.groups:
            share = shares[self.position(name)]
            largest = z3.If(share > largest, share, largest)
        return z3.If(self.scope(budget.name), largest, 0)


def _spent(budget: str) -> Term:
    return z3.Int(f"spent {budget}")


def _spending(policy: Policy, run: q.Spends) -> list[Term]:
    """Say what limits and parents leave a budget and those above it to spend in a run.

    An update is one example in one step; phases follow each other once.
    """
    phases = [len(a.type.values) for a in policy.derived if a.name == "phase" and isinstance(a.type, Category)]
    lengths = {"run": 1, "epoch": run.epochs, "step": run.steps, "phase": phases[0] if phases else None}
    budgets = {budget.name: budget for budget in policy.budgets}
    terms: list[Term] = []
    name: str | None = run.budget
    while name is not None:
        budget, spent = budgets[name], _spent(name)
        most = [(limit.amount, lengths.get(limit.window)) for limit in budget.limits if limit.meter == "surprisal"]
        visits = [budget.exposures, run.steps] if run.examples is not None else []
        each = budget.per_update
        updates = [(each, run.examples * count) for count in visits if each and count] if run.examples else []
        terms += [spent <= amount * times for amount, times in [*most, *updates] if times is not None]
        terms += [spent <= _spent(budget.within)] if budget.within else []
        name = budget.within
    return terms


def _least(choices: Iterable[tuple[int, Term]], otherwise: int) -> Term:
    """Return the least number whose condition holds."""
    by_number: dict[int, list[Term]] = {}
    for number, condition in choices:
        by_number.setdefault(number, []).append(condition)
    term: Term = z3.IntVal(otherwise)
    for number in sorted(by_number, reverse=True):
        term = z3.If(some(by_number[number]), number, term)
    return term


class Encoder:
    """Turns questions about several policies into terms over one domain."""

    def __init__(self, policies: Sequence[Policy], domain: Domain) -> None:
        self.encodings = tuple(Encoding(policy, domain) for policy in policies)
        self._domain = domain

    def term(self, query: q.Query) -> Term:
        """Return a question as a term."""
        match query:
            case q.Negated(term):
                return z3.Not(self.term(term))
            case q.And(terms):
                return every([self.term(term) for term in terms])
            case q.Or(terms):
                return some([self.term(term) for term in terms])
            case q.Holds(condition):
                return self._domain.condition(condition)
            case q.Before(attribute, other):
                return self._domain.before(attribute, other)
            case q.Exceeds(group, policy, than):
                return self._share(policy, group) > self._share(than, group)
            case _:
                return self._about(query, self.encodings[query.policy])

    def _share(self, policy: int, group: str) -> Term:
        encoding = self.encodings[policy]
        return encoding.decision.shares[encoding.position(group)]

    def _about(self, query: q.Leaf, encoding: Encoding) -> Term:
        """Return a question about one policy."""
        match query:
            case q.Applies(rule):
                return encoding.guard(rule)
            case q.Stands(rule):
                return encoding.stands(rule)
            case q.InScope(budget):
                return encoding.scope(budget)
            case q.Conflict():
                return encoding.decision.conflict
            case q.LeftOver():
                return encoding.left_over()
            case q.Over(group, amount):
                return encoding.decision.shares[encoding.position(group)] > amount
            case q.Bounded(group, norm):
                return encoding.bounded(group, norm)
            case q.Deferred():
                return encoding.decision.deferred
            case q.Owes(obligation):
                return encoding.decision.obligations[obligation]
            case q.Spends(budget, amount):
                return z3.And(_spent(budget) > amount, *_spending(encoding.policy, query))
            case q.Matters(rule):
                return self._matters(rule, encoding)
        raise InternalError("a question that the solver does not know")

    def _matters(self, rule: str, encoding: Encoding) -> Term:
        """Say that the decision would be another without the rule, by encoding the policy without it."""
        policy = encoding.policy
        rest = tuple(other for other in policy.rules if other.name != rule)
        other = Encoding(replace(policy, rules=rest), self._domain)
        with_it, without = encoding.decision, other.decision
        pairs = zip(with_it.shares, without.shares, with_it.norms, without.norms, strict=True)
        own = [with_it.obligations[number] for number, (name, _) in enumerate(policy.obligations) if name == rule]
        differences = [z3.Or(a != b, z3.And(a > 0, m != n)) for a, b, m, n in pairs]
        only_refuses = all(known.admit is None for known in policy.rules if known.name == rule)
        refusal = [z3.And(other.left_over(), z3.Not(encoding.left_over()))] if only_refuses else []
        return some([*differences, with_it.deferred != without.deferred, *own, *refusal])
