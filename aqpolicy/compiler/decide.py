"""Compute the row of a set of applicable rules and budgets.

The third implementation of the meaning of a policy: it sees only which guards
hold, never an observation. `aqpolicy.semantics` decides where they differ.

What remains for training is the value of a share limit that is linear in an
attribute. Whether such a limit leaves anything at all is one more guard, as is
whether a deferral is released (`questions`), so that everything else of a
decision is settled here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, TypeVar

from aqpolicy.bundle.tables import LARGEST_SHARE, NO_LIMIT, Cause, Effect, Row
from aqpolicy.model.policy import (
    All,
    Any,
    Atom,
    Condition,
    Defer,
    Deny,
    LimitFrequency,
    LimitLinear,
    LimitNorm,
    LimitShare,
    Obligation,
    Policy,
    Profile,
    Promote,
    Restriction,
    Rule,
    Verify,
)
from aqpolicy.units import MICRO

NOTHING_LEFT: Final = "nothing is left"
"""Reason where grants and share limits together leave no group open."""

Place = tuple[str, int]
"""A restriction: the name of its rule and its position there."""

R = TypeVar("R", bound=Restriction)


def beaten_by(rules: Sequence[Rule]) -> dict[str, frozenset[str]]:
    """Return for each rule all rules that its `overrides` reach, directly or through others."""
    by_name = {rule.name: rule for rule in rules}
    reached: dict[str, frozenset[str]] = {}

    def reach(name: str) -> frozenset[str]:
        if name not in reached:
            direct = by_name[name].overrides
            reached[name] = frozenset(direct).union(*(reach(other) for other in direct))
        return reached[name]

    return {rule.name: reach(rule.name) for rule in rules}


def questions(policy: Policy) -> dict[Place, Condition]:
    """Return what rows depend on beyond guards: is a deferral released, does a linear limit leave something."""
    found: dict[Place, Condition] = {}
    for rule in policy.rules:
        for position, restriction in enumerate(rule.restrictions):
            if isinstance(restriction, Defer):
                found[rule.name, position] = restriction.until
            elif isinstance(restriction, LimitLinear):
                found[rule.name, position] = leaves_something(restriction)
    return found


def leaves_something(limit: LimitLinear) -> Condition:
    """Return the condition under which a linear limit is above 0."""
    if limit.slope == 0:
        return All(()) if limit.intercept > 0 else Any(())
    # The least product of slope and value for which the limit is at least one millionth.
    least = (1 - limit.intercept) * MICRO
    if limit.slope > 0:
        return Atom(limit.attribute, ">=", -(-least // limit.slope), limit.span)
    return Atom(limit.attribute, "<=", least // limit.slope, limit.span)


@dataclass(frozen=True, slots=True)
class Holding:
    """All that holds of some observations: rules in the order declared, budgets, and answers to `questions`."""

    rules: Sequence[Rule]
    budgets: AbstractSet[str]
    answers: AbstractSet[Place]

    def restrictions(self, kind: type[R]) -> Iterator[tuple[Place, R]]:
        """Yield the restrictions of a kind that apply, in the order declared."""
        for rule in self.rules:
            for position, restriction in enumerate(rule.restrictions):
                if isinstance(restriction, kind):
                    yield (rule.name, position), restriction


@dataclass(frozen=True, slots=True)
class Grant:
    """A rule that admits something, and what."""

    rule: Rule
    profile: Profile


@dataclass(frozen=True, slots=True)
class Verdict:
    """What grants and restrictions come to before effect and charges are read off."""

    cause: Cause
    reason: str
    shares: tuple[int, ...]


class Decider:
    """Turns what holds into a row."""

    def __init__(self, policy: Policy) -> None:
        """Resolve overrides, groups, attributes and obligations once."""
        self._policy = policy
        self._beats = beaten_by(policy.rules)
        self._group = {name: i for i, name in enumerate(policy.group_names)}
        self._attribute = {attribute.name: i for i, attribute in enumerate(policy.attributes)}
        self._covered = [tuple(self._group[name] for name in budget.groups) for budget in policy.budgets]
        places = (
            (rule.name, position)
            for rule in policy.rules
            for position, restriction in enumerate(rule.restrictions)
            if isinstance(restriction, Obligation)
        )
        self._obligation = {place: number for number, place in enumerate(places)}

    def row(self, holding: Holding) -> Row:
        """Return the row where exactly this holds."""
        beaten = frozenset[str]().union(*(self._beats[rule.name] for rule in holding.rules if rule.admit is not None))
        grants = [
            Grant(rule, rule.admit) for rule in holding.rules if rule.admit is not None and rule.name not in beaten
        ]
        verdict = self._verdict(holding, grants)
        pending = self._pending(holding) if verdict.cause == "granted" else ()
        if pending:
            verdict = self._deferred(holding, pending)
        granted, norms = verdict.cause == "granted", self._norms(holding)
        standing = {grant.rule.name for grant in grants}
        return Row(
            effect="defer" if pending else _effect(verdict.shares, norms),
            cause=verdict.cause,
            shares=verdict.shares,
            norms=norms,
            charged=self._charged(holding, verdict.shares),
            rules=tuple(rule.name for rule in holding.rules if rule.restrictions or rule.name in standing),
            reason=verdict.reason,
            linear=self._linear(holding, verdict.shares) if granted else (),
            obligations=self._asked(holding, verdict.shares) if granted else pending,
        )

    def _verdict(self, holding: Holding, grants: Sequence[Grant]) -> Verdict:
        closed, ceiling = (0,) * len(self._group), self._ceiling(holding)
        offers = {grant.profile.shares for grant in grants}
        if len(offers) > 1 and not self._policy.combine_min:
            return Verdict("error", "grants conflict: " + ", ".join(grant.rule.name for grant in grants), closed)
        if not any(ceiling):
            return Verdict("denied", _first_denial(holding), closed)
        if not grants:
            return Verdict("default", self._policy.otherwise.because, closed)
        shares = tuple(min(column) for column in zip(ceiling, *offers, strict=True))
        if not any(shares):
            return Verdict("denied", NOTHING_LEFT, closed)
        return Verdict("granted", ", ".join(grant.rule.title or grant.rule.name for grant in grants), shares)

    def _deferred(self, holding: Holding, pending: Sequence[int]) -> Verdict:
        waits = self._policy.obligations[pending[0]][0]
        reason = next(rule.title or rule.name for rule in holding.rules if rule.name == waits)
        return Verdict("denied", reason, (0,) * len(self._group))

    def _ceiling(self, holding: Holding) -> list[int]:
        """Return the most that restrictions leave to each group, linear ones counting only where they leave nothing."""
        limits = [(share.groups, share.share) for _, share in holding.restrictions(LimitShare)]
        limits += [(deny.groups, 0) for _, deny in holding.restrictions(Deny)]
        limits += [
            (linear.groups, 0) for place, linear in holding.restrictions(LimitLinear) if place not in holding.answers
        ]
        ceiling = [LARGEST_SHARE] * len(self._group)
        for groups, share in limits:
            for position in (self._group[name] for name in groups):
                ceiling[position] = min(ceiling[position], share)
        return ceiling

    def _norms(self, holding: Holding) -> tuple[int, ...]:
        norms = [NO_LIMIT] * len(self._group)
        for _, limit in holding.restrictions(LimitNorm):
            for position in (self._group[name] for name in limit.groups):
                norms[position] = limit.norm if norms[position] < 0 else min(norms[position], limit.norm)
        return tuple(norms)

    def _charged(self, holding: Holding, shares: Sequence[int]) -> tuple[int, ...]:
        return tuple(
            max((shares[group] for group in groups), default=0) if budget.name in holding.budgets else 0
            for budget, groups in zip(self._policy.budgets, self._covered, strict=True)
        )

    def _pending(self, holding: Holding) -> tuple[int, ...]:
        return tuple(
            self._obligation[place] for place, _ in holding.restrictions(Defer) if place not in holding.answers
        )

    def _asked(self, holding: Holding, shares: Sequence[int]) -> tuple[int, ...]:
        """Return what is asked of an admitted update; a frequency only of a group that is open."""
        frequencies = [
            place
            for place, limit in holding.restrictions(LimitFrequency)
            if any(shares[self._group[name]] for name in limit.groups)
        ]
        others = [place for kind in (Verify, Promote) for place, _ in holding.restrictions(kind)]
        return tuple(sorted(self._obligation[place] for place in (*frequencies, *others)))

    def _linear(self, holding: Holding, shares: Sequence[int]) -> tuple[tuple[int, int, int, int], ...]:
        """Return the linear limits of open groups, each once, in an order that no order of rules changes."""
        found = {
            (self._group[name], self._attribute[limit.attribute], limit.intercept, limit.slope)
            for _, limit in holding.restrictions(LimitLinear)
            for name in limit.groups
        }
        return tuple(sorted(one for one in found if shares[one[0]]))


def _first_denial(holding: Holding) -> str:
    """Return the words of the first `deny`, or the name of its rule."""
    denials = (deny.because or place[0] for place, deny in holding.restrictions(Deny))
    return next(denials, NOTHING_LEFT)


def _effect(shares: Sequence[int], norms: Sequence[int]) -> Effect:
    if not any(shares):
        return "deny"
    return "admit" if set(shares) == {MICRO} and max(norms) < 0 else "modulate"
