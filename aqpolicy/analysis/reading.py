"""One policy as formulas over bit sets: what applies, stands, is limited, deferred and owed.

It knows masks and nothing of observations; `bits` asks it and searches. Where a
method takes `without`, it speaks of the policy without that rule, which must not
override others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from aqpolicy.analysis.alternatives import Alternatives
from aqpolicy.analysis.linear import limits_to
from aqpolicy.model.policy import (
    Condition,
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
from aqpolicy.space import FALSE, TRUE, Formula, Space, Undecided, both, either, opposite
from aqpolicy.space.grid import bits
from aqpolicy.units import MICRO

ShareLimit = Deny | LimitShare | LimitLinear


def share_limits(rule: Rule, group: str) -> Iterator[ShareLimit]:
    """Yield what a rule says of the share of a group, beside granting it."""
    for limit in rule.restrictions:
        if isinstance(limit, ShareLimit) and group in limit.groups:
            yield limit


def linear_limits(policy: Policy, group: str) -> list[tuple[Rule, LimitLinear]]:
    """Return the limits of a group's share that are linear in an attribute, with their rules."""
    return [(r, limit) for r in policy.rules for limit in share_limits(r, group) if isinstance(limit, LimitLinear)]


def conditions(policy: Policy) -> Iterator[Condition]:
    """Yield every condition that decides what a policy says, linear limits aside."""
    yield from (rule.when for rule in policy.rules)
    yield from (budget.when for budget in policy.budgets)
    yield from (asked.until for _, asked in policy.obligations if isinstance(asked, Defer))


def amounts(policy: Policy, group: str) -> list[int]:
    """Return every share that a group can get unless a linear limit decides, ascending."""
    position = policy.group_names.index(group)
    granted = {rule.admit.shares[position] for rule in policy.rules if rule.admit is not None}
    limits = {li.share for rule in policy.rules for li in share_limits(rule, group) if isinstance(li, LimitShare)}
    return sorted({0} | granted | limits)


def overriding(rules: Sequence[Rule]) -> dict[str, set[str]]:
    """Return for each rule that others override which ones do, directly or through others."""
    overrides = {rule.name: rule.overrides for rule in rules}
    found: dict[str, set[str]] = {}
    for rule in rules:
        reached = list(rule.overrides)
        while reached:
            name = reached.pop()
            if rule.name not in found.setdefault(name, set()):
                found[name].add(rule.name)
                reached.extend(overrides.get(name, ()))
    return found


class Reading:
    """A policy's meaning as formulas; each is made when it is first asked for."""

    def __init__(self, policy: Policy, space: Space, *, may_conflict: bool | None = None) -> None:
        """Keep what is read; `may_conflict` spares the search, and True is always safe to say."""
        self.policy = policy
        self._space = space
        if may_conflict is not None:
            self.may_conflict = may_conflict
        self._rules = {rule.name: rule for rule in policy.rules}
        self._shares: dict[tuple[str, int], Formula] = {}
        self._limited: dict[tuple[str, int], Alternatives] = {}
        self._bounded: dict[tuple[str, int], Alternatives] = {}

    def mask(self, rule: str) -> int:
        """Return the conjuncts of a rule's guard."""
        return self._space.mask(self._rules[rule].when)

    def applies(self, rule: str) -> Formula:
        """Say that a rule applies."""
        return self._space.formula(self._rules[rule].when)

    def stands(self, rule: str) -> Formula:
        """Say that a grant applies and no rule that overrides it does."""
        if rule not in self.above:
            return self.applies(rule)
        return both(self.applies(rule), opposite(either(*map(self.applies, sorted(self.above[rule])))))

    def holds(self, condition: Condition) -> Formula:
        """Say that a condition on attributes is true."""
        return self._space.formula(condition)

    @cached_property
    def above(self) -> dict[str, set[str]]:
        """For each grant that can be overridden, the rules that do, directly or through others."""
        return overriding(self.policy.rules)

    # ---- Grants

    @cached_property
    def classes(self) -> dict[tuple[int, ...], list[str]]:
        """The grants by what they offer."""
        found: dict[tuple[int, ...], list[str]] = {}
        for rule in self.policy.rules:
            if rule.admit is not None:
                found.setdefault(rule.admit.shares, []).append(rule.name)
        return found

    @cached_property
    def _offers(self) -> dict[tuple[int, ...], Alternatives]:
        return {s: Alternatives((name, self.stands(name)) for name in names) for s, names in self.classes.items()}

    def offers(self, fits: Callable[[tuple[int, ...]], bool], without: Rule | None = None) -> list[Formula]:
        """Say of each vector of shares that fits that some grant which stands offers it."""
        found = [offered for shares, offered in self._offers.items() if fits(shares)]
        return [offered.some if without is None else offered.without(without.name) for offered in found]

    @cached_property
    def conflict(self) -> Formula:
        """Say that grants that stand offer different shares, and the least does not count."""
        return FALSE if self.policy.combine_min else _clash([offered.some for offered in self._offers.values()])

    @cached_property
    def may_conflict(self) -> bool:
        """Whether some observation is in conflict; also where that cannot be told."""
        if self.policy.combine_min or not self.rivals:
            return False
        try:
            return self._space.possible(self.conflict)
        except Undecided:
            return True

    @cached_property
    def rivals(self) -> dict[str, list[str]]:
        """For each grant the later ones that some observation satisfies with it and that offer other shares.

        Grants of which one overrides the other are no rivals. Rivals conflict, unless a third grant that
        overrides one of them always applies too.
        """
        grants = [(rule, rule.admit.shares) for rule in self.policy.rules if rule.admit is not None]
        met = self._space.overlapping([self.mask(rule.name) for rule, _ in grants])
        alike: dict[tuple[int, ...], int] = {}
        for number, (_, shares) in enumerate(grants):
            alike[shares] = alike.get(shares, 0) | 1 << number
        found: dict[str, list[str]] = {}
        for number, (rule, shares) in enumerate(grants):
            later = met[number] & ~alike[shares] & ~((1 << number) - 1)
            names = [grants[other][0].name for other in bits(later)] if later else []
            free = [name for name in names if not self._related(rule.name, name)]
            found |= {rule.name: free} if free else {}
        return found

    def meeting(self, name: str) -> list[str]:
        """Return the other rules that apply together with a rule to some observation."""
        names = [rule.name for rule in self.policy.rules]
        return [names[other] for other in bits(self._met[names.index(name)]) if names[other] != name]

    @cached_property
    def _met(self) -> list[int]:
        return self._space.overlapping([self.mask(rule.name) for rule in self.policy.rules])

    def _related(self, one: str, other: str) -> bool:
        return one in self.above.get(other, ()) or other in self.above.get(one, ())

    def smaller(self, policy: Policy) -> Reading:
        """Return the reading of a policy that has only some of this one's rules."""
        overriding = any(rule.overrides for rule in self.policy.rules)
        return Reading(policy, self._space, may_conflict=overriding or self.may_conflict)

    def offers_over(self, group: str, amount: int, without: Rule | None = None) -> Formula:
        """Say that what grants offer a group is above an amount, and that they agree."""
        position = self.policy.group_names.index(group)
        more = self.offers(lambda shares: shares[position] > amount, without)
        if not (self.policy.combine_min or self.may_conflict):
            return either(*more)
        less = self.offers(lambda shares: shares[position] <= amount, without)
        agreed = both() if self.policy.combine_min else opposite(_clash(more))
        return both(either(*more), opposite(either(*less)), agreed)

    def granted(self) -> Formula:
        """Say that some grant stands."""
        return either(*(offered.some for offered in self._offers.values()))

    # ---- Limits

    @cached_property
    def _limits(self) -> dict[str, list[tuple[Rule, ShareLimit]]]:
        found: dict[str, list[tuple[Rule, ShareLimit]]] = {name: [] for name in self.policy.group_names}
        for rule in self.policy.rules:
            for limit in rule.restrictions:
                if isinstance(limit, ShareLimit):
                    for group in limit.groups:
                        found[group].append((rule, limit))
        return found

    def limited(self, group: str, amount: int, without: Rule | None = None) -> Formula:
        """Say that a group may get at most an amount."""
        if (group, amount) not in self._limited:
            limits = ((rule.name, self._limit(rule, limit, amount)) for rule, limit in self._limits[group])
            self._limited[group, amount] = Alternatives(limits)
        found = self._limited[group, amount]
        return found.some if without is None else found.without(without.name)

    def _limit(self, rule: Rule, limit: ShareLimit, amount: int) -> Formula:
        """Say that a rule applies and that its limit is at most an amount."""
        if isinstance(limit, LimitLinear):
            return self._space.formula(limits_to(rule, limit, amount))
        share = limit.share if isinstance(limit, LimitShare) else 0
        return self.applies(rule.name) if share <= amount else FALSE

    def bounded(self, group: str, norm: int, without: Rule | None = None) -> Formula:
        """Say that a group's norm is limited to at most a number."""
        if (group, norm) not in self._bounded:
            rules = [rule for rule, limit in self._norms if group in limit.groups and limit.norm <= norm]
            self._bounded[group, norm] = Alternatives((rule.name, self.applies(rule.name)) for rule in rules)
        found = self._bounded[group, norm]
        return found.some if without is None else found.without(without.name)

    @cached_property
    def _norms(self) -> list[tuple[Rule, LimitNorm]]:
        return [(r, limit) for r in self.policy.rules for limit in r.restrictions if isinstance(limit, LimitNorm)]

    def left_over(self) -> Formula:
        """Say that no grant stands, nor do restrictions close every group."""
        return both(opposite(self.granted()), opposite(self.closed()))

    def closed(self, without: Rule | None = None) -> Formula:
        """Say that restrictions close every group."""
        return both(*(self.limited(group, 0, without) for group in self.policy.group_names))

    # ---- Decisions

    def before(self, group: str, amount: int, without: Rule | None = None) -> Formula:
        """Say that the share of a group is above an amount, whatever is deferred."""
        if without is not None:
            offered = self.offers_over(group, amount, without)
            return both(offered, opposite(self.limited(group, amount, without)))
        if (group, amount) not in self._shares:
            offered = self.offers_over(group, amount)
            self._shares[group, amount] = both(offered, opposite(self.limited(group, amount)))
        return self._shares[group, amount]

    def over(self, group: str, amount: int) -> Formula:
        """Say that the share admitted to a group is above an amount."""
        return both(self.before(group, amount), opposite(self.pending))

    def open_before(self, without: Rule | None = None) -> Formula:
        """Say that some group has a share above 0, whatever is deferred."""
        return either(*(self.before(group, 0, without) for group in self.policy.group_names))

    @cached_property
    def pending(self) -> Formula:
        """Say that a deferral applies and is not released."""
        return either(*(self._waits(rule, asked) for rule, asked in self._obligations if isinstance(asked, Defer)))

    @cached_property
    def _obligations(self) -> tuple[tuple[str, Obligation], ...]:
        return self.policy.obligations

    def _waits(self, rule: str, deferral: Defer) -> Formula:
        return both(self.applies(rule), opposite(self._space.formula(deferral.until)))

    def deferred(self) -> Formula:
        """Say that something would be admitted and is held back."""
        return both(self.open_before(), self.pending)

    def owes(self, obligation: int) -> Formula:
        """Say that the decision asks an obligation of the run."""
        rule, asked = self._obligations[obligation]
        if isinstance(asked, Defer):
            return both(self.open_before(), self._waits(rule, asked))
        among = asked.groups if isinstance(asked, LimitFrequency) else self.policy.group_names
        opened = either(*(self.before(group, 0) for group in among))
        return both(self.applies(rule), opened, opposite(self.pending))

    # ---- What one rule changes

    def matters(self, name: str) -> Formula:
        """Say that shares, norms of open groups or obligations would be others without a rule, or a refusal be gone.

        Raises:
            Undecided: Two shares are linear in attributes and would have to be compared.
        """
        rule, applies = self._rules[name], self.applies(name)
        change = _Change(self, rule)
        # A grant that others override hands on what it overrides even where it does not apply itself.
        where = TRUE if rule.overrides and name in self.above else applies
        waiting = both(self.pending, _differ(self.open_before(), change.open_before()))
        owed = [self.owes(n) for n, (owner, _) in enumerate(self._obligations) if owner == name]
        changed = either(change.of_shares(), both(applies, change.of_norms()))
        refused = (
            both(opposite(self.granted()), self.closed(), opposite(self.closed(rule))) if not rule.admit else FALSE
        )
        return both(where, either(*owed, both(opposite(self.pending), changed), waiting, both(applies, refused)))


class _Change:
    """What is different where a rule is taken away."""

    def __init__(self, reading: Reading, rule: Rule) -> None:
        self._all, self._rule = reading, rule
        self._groups = reading.policy.group_names
        self._less, self._without = reading, rule if not rule.overrides else None
        if rule.overrides:
            rest = tuple(other for other in reading.policy.rules if other is not rule)
            self._less = reading.smaller(replace(reading.policy, rules=rest))

    def before(self, group: str, amount: int) -> Formula:
        """Say that without the rule the share of a group would be above an amount, whatever is deferred."""
        return self._less.before(group, amount, self._without)

    def open_before(self) -> Formula:
        """Say that without the rule some group would be open, whatever is deferred."""
        return either(*(self.before(group, 0) for group in self._groups))

    def of_norms(self) -> Formula:
        """Say that an open group would have another norm."""
        found = [limit for limit in self._rule.restrictions if isinstance(limit, LimitNorm)]
        return either(
            *(
                both(self._all.before(group, 0), opposite(self._all.bounded(group, limit.norm, self._rule)))
                for limit in found
                for group in limit.groups
            )
        )

    def of_shares(self) -> Formula:
        """Say that a group would have another share, whatever is deferred."""
        if self._rule.admit is None:
            return either(*(self._lowered(group, limit) for group in self._groups for limit in self._own(group)))
        if self._rule.overrides or any(any(share_limits(self._rule, group)) for group in self._groups):
            return either(*(self._differs(group) for group in self._groups))
        return both(self._all.stands(self._rule.name), self._granted(self._rule.admit.shares))

    def _own(self, group: str) -> Iterator[ShareLimit]:
        return share_limits(self._rule, group)

    def _lowered(self, group: str, limit: ShareLimit) -> Formula:
        """Say that without the rule the share would be above its limit."""
        if not isinstance(limit, LimitLinear):
            return self.before(group, limit.share if isinstance(limit, LimitShare) else 0)
        steps = [share for share in amounts(self._all.policy, group) if share > 0]
        offered = (both(self._all.offers_over(group, s - 1), self._reaches(limit, s - 1)) for s in steps)
        return both(either(*offered), opposite(either(*self._tighter(group, limit))))

    def _reaches(self, limit: LimitLinear, amount: int) -> Formula:
        """Say that the rule applies, and that its limit comes down to an amount."""
        return self._all.holds(limits_to(self._rule, limit, amount))

    def _tighter(self, group: str, limit: LimitLinear) -> Iterator[Formula]:
        """Yield where other limits are at most a linear one: fixed limits, and linear ones that can be compared."""
        for share in amounts(self._all.policy, group):
            yield both(self._all.limited(group, share, self._rule), opposite(self._reaches(limit, share - 1)))
        for rule, other in linear_limits(self._all.policy, group):
            if rule is not self._rule:
                yield both(self._all.applies(rule.name), self._at_most(rule, other, limit))

    def _at_most(self, rule: Rule, other: LimitLinear, limit: LimitLinear) -> Formula:
        """Say that another linear limit is at most this one: known where they move alike."""
        if (other.attribute, other.slope) != (limit.attribute, limit.slope):
            raise Undecided("two limits are linear in attributes and are compared with each other")
        if other.intercept <= limit.intercept:
            return both()
        bottom = self._all.holds(limits_to(rule, other, 0))
        return either(bottom, opposite(self._reaches(limit, MICRO - 1)))

    def _differs(self, group: str) -> Formula:
        steps = set(amounts(self._all.policy, group))
        if any(isinstance(limit, LimitLinear) for limit in self._own(group)):
            steps |= {share - 1 for share in self._constant_amounts(group) if share > 0}
        return either(*(_differ(self._all.before(group, step), self.before(group, step)) for step in sorted(steps)))

    def _constant_amounts(self, group: str) -> list[int]:
        if any(rule is not self._rule for rule, _ in linear_limits(self._all.policy, group)):
            raise Undecided("two limits are linear in attributes and are compared with each other")
        return amounts(self._all.policy, group)

    def _granted(self, shares: tuple[int, ...]) -> Formula:
        """Say what a grant that overrides nothing changes where it stands."""
        every, rule = self._all, self._rule
        opened = every.open_before()
        if every.policy.combine_min:
            alone = opposite(either(*every.offers(lambda _: True, rule)))
            raised = (self.before(group, share) for group, share in zip(self._groups, shares, strict=True))
            return either(both(alone, opened), *raised)
        alone = opposite(either(*every.offers(lambda offered: offered == shares, rule)))
        if not every.may_conflict:
            return both(alone, opened)
        rivals = either(*every.offers(lambda offered: offered != shares))
        return either(both(alone, opened), both(rivals, self.open_before()))


def _differ(one: Formula, other: Formula) -> Formula:
    return FALSE if one == other else either(both(one, opposite(other)), both(opposite(one), other))


def _clash(formulas: Sequence[Formula]) -> Formula:
    """Say that at least two of the formulas are true."""
    return either(*(both(one, either(*formulas[n + 1 :])) for n, one in enumerate(formulas)))
