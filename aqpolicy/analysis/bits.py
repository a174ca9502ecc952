"""Questions as formulas over bit sets: the back-end that is asked first, and needs no solver.

Shares no code with `encoder`, which says the same to the solver. It answers exactly
or raises `Undecided`: where two shares are linear in attributes and must be
compared with each other, or a search grows too large.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Final

from aqpolicy.analysis import query as q
from aqpolicy.analysis.linear import limits_to, plain
from aqpolicy.analysis.observation import Observation, shared_attributes
from aqpolicy.analysis.reading import Reading, amounts, conditions, linear_limits
from aqpolicy.model.policy import All, Atom, Category, Condition, Not, Policy
from aqpolicy.space import Formula, Region, Space, Undecided, both, either, opposite
from aqpolicy.space.formula import Some
from aqpolicy.space.partition import comparisons
from aqpolicy.units import MICRO

MOST_STATES: Final = 20_000
"""How many states the search for one question visits before the solver is asked."""


class BitSets:
    """Answers questions about policies by bit sets."""

    def __init__(self, policies: Sequence[Policy], effort: int = MOST_STATES) -> None:
        """Nothing is cut yet: that waits for the first question."""
        self._attributes = {attribute.name: attribute for attribute in shared_attributes(policies)}
        self._policies = tuple(policies)
        self._effort = effort
        self._by_identity: dict[int, Condition] = {}
        self._conditions: dict[Condition, None] = {}
        self._add(condition for policy in policies for condition in self._told_apart(policy))

    def learn(self, queries: Iterable[q.Query]) -> None:
        """Cut the space for what questions will ask, so that it need not be cut again."""
        self._add(condition for query in queries for leaf in q.leaves(query) for condition in self._needed(leaf))

    def possible(self, query: q.Query) -> bool:
        """Return whether some observation satisfies a question.

        Raises:
            Undecided: Bit sets do not answer this question.
        """
        formula = self.formula(query)
        # Every conjunct holds somewhere: one that could not would not have been numbered.
        return isinstance(formula, Some) or self.space.possible(formula, self._effort)

    def find(self, query: q.Query) -> Observation | None:
        """Return the least observation that satisfies a question; None is proof that there is none.

        Raises:
            Undecided: Bit sets do not answer this question.
        """
        formula = self.formula(query)
        return self.space.find(formula, self._effort)

    def regions(self, query: q.Query, most: int) -> Iterator[Region]:
        """Yield readable regions that together hold what satisfies a question, unless there are more.

        Raises:
            Undecided: Bit sets do not answer this question.
        """
        formula = self.formula(query)
        return self.space.regions(formula, most)

    def formula(self, query: q.Query) -> Formula:
        """Return a question as a formula over the space.

        Raises:
            Undecided: Bit sets do not answer this question.
        """
        self.learn((query,))
        return self._formula(query)

    @cached_property
    def space(self) -> Space:
        """The space, cut for everything that was asked so far."""
        return Space(tuple(self._attributes.values()), self._conditions)

    @cached_property
    def readings(self) -> tuple[Reading, ...]:
        """The policies as formulas over the space."""
        return tuple(Reading(policy, self.space) for policy in self._policies)

    # ---- What the space is cut for

    def _add(self, conditions: Iterable[Condition]) -> None:
        """Add conditions; where one is new, the space and what was read from it are made anew."""
        before = len(self._conditions)
        for condition in conditions:
            # Hashing a condition walks through all of it, so it is looked up by identity first.
            if id(condition) not in self._by_identity:
                self._by_identity[id(condition)] = condition
                self._conditions.setdefault(condition)
        if len(self._conditions) > before:
            self.__dict__.pop("space", None)
            self.__dict__.pop("readings", None)

    def _told_apart(self, policy: Policy) -> Iterator[Condition]:
        """Yield every condition that decides what a policy says."""
        yield from conditions(policy)
        yield from self._usual_thresholds(policy)

    def _usual_thresholds(self, policy: Policy) -> Iterator[Condition]:
        """Yield where linear limits are at most the shares that a group can get otherwise, or just below them."""
        for group in policy.group_names:
            limits = linear_limits(policy, group)
            known = [other for other in self._policies if limits and group in other.group_names]
            shares = {MICRO, *(share for other in known for share in amounts(other, group))}
            steps = {step for share in shares for step in (share - 1, share)}
            yield from (limits_to(rule, limit, step) for rule, limit in limits for step in sorted(steps))

    def _needed(self, leaf: q.Leaf) -> Iterator[Condition]:
        match leaf:
            case q.Holds(condition):
                yield condition
            case q.Before(attribute, other):
                yield from self._steps(attribute, other)
            case q.Over(group, amount, position):
                limits = linear_limits(self._policies[position], group)
                yield from (limits_to(rule, limit, amount) for rule, limit in limits)

    # ---- Questions as formulas

    def _formula(self, query: q.Query) -> Formula:
        match query:
            case q.Negated(term):
                return opposite(self._formula(term))
            case q.And(terms):
                return both(*map(self._formula, terms))
            case q.Or(terms):
                return either(*map(self._formula, terms))
            case q.Holds(condition):
                return self.space.formula(condition)
            case q.Before(attribute, other):
                return either(*map(self.space.formula, self._steps(attribute, other)))
            case q.Exceeds(group, policy, than):
                return self._exceeds(group, policy, than)
            case _:
                return self._about(query, self.readings[query.policy])

    def _about(self, query: q.Leaf, reading: Reading) -> Formula:
        """Return a question about one policy."""
        match query:
            case q.Applies(rule):
                return reading.applies(rule)
            case q.Stands(rule):
                return reading.stands(rule)
            case q.InScope(budget):
                return self.space.formula(next(b.when for b in reading.policy.budgets if b.name == budget))
            case q.Conflict():
                return reading.conflict
            case q.LeftOver():
                return reading.left_over()
            case q.Over(group, amount):
                return reading.over(group, amount)
            case q.Bounded(group, norm):
                return reading.bounded(group, norm)
            case q.Deferred():
                return reading.deferred()
            case q.Owes(obligation):
                return reading.owes(obligation)
            case q.Matters(rule):
                return reading.matters(rule)
        raise Undecided("bit sets know observations, not runs")

    def _exceeds(self, group: str, policy: int, than: int) -> Formula:
        """Say that one share is above another: there is an amount between the two.

        The amounts are those that one of the two can only have, which must not be
        linear in an attribute, unless the other keeps to the very same limit.
        """
        larger, smaller = self._policies[policy], self._policies[than]
        one, other = self.readings[policy], self.readings[than]
        if _linear(smaller, group) <= _linear(larger, group):
            steps = amounts(smaller, group)
        elif not _linear(larger, group):
            steps = [share - 1 for share in amounts(larger, group) if share > 0]
        else:
            raise Undecided("two shares are linear in attributes and are compared with each other")
        return either(*(both(one.over(group, step), opposite(other.over(group, step))) for step in steps))

    def _steps(self, attribute: str, other: str) -> list[Condition]:
        """Return for every cut that lies between two attributes the condition that it does.

        Values between the same cuts are not told apart, so for this back-end no value is before the other.
        """
        span = self._attributes[attribute].span
        kind = self._attributes[attribute].type
        if isinstance(kind, Category):
            names = kind.values[: kind.ordered]
            pairs = [(low, high) for n, low in enumerate(names) for high in names[n + 1 :]]
            return [All((Atom(attribute, "=", a, span), Atom(other, "=", b, span))) for a, b in pairs]
        found = [atom for policy in self._policies for c in self._told_apart(policy) for atom in comparisons(c)]
        values = {int(a.value) + offset for a in found if a.attribute in (attribute, other) for offset in (0, 1)}
        inside = sorted(value for value in values if kind.low < value <= kind.high)
        return [All((Not(Atom(attribute, ">=", v, span)), Atom(other, ">=", v, span))) for v in inside]


def _linear(policy: Policy, group: str) -> frozenset[tuple[object, ...]]:
    """Return what makes linear limits of a group the same in two policies, wherever they are written."""
    limits = linear_limits(policy, group)
    return frozenset((plain(rule.when), limit.intercept, limit.slope, limit.attribute) for rule, limit in limits)
