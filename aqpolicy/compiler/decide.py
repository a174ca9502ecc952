"""Compute the row of a set of applicable rules and budgets.

The third implementation of the meaning of a policy: it sees only which guards
hold, never an observation. `aqpolicy.semantics` decides where they differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from aqpolicy.bundle.tables import NO_LIMIT, Cause, Effect, Row
from aqpolicy.model.policy import Deny, LimitNorm, LimitShare, Policy, Profile, Rule
from aqpolicy.units import MICRO

NOTHING_LEFT: Final = "nothing is left"
"""Reason where grants and share limits together leave no group open."""


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


@dataclass(frozen=True, slots=True)
class Grant:
    """A rule that admits something, and what."""

    rule: Rule
    profile: Profile


@dataclass(frozen=True, slots=True)
class Verdict:
    """What grants and restrictions come to before effect and charges are read off."""

    shares: tuple[int, ...]
    norms: tuple[int, ...]
    cause: Cause
    reason: str


class Decider:
    """Turns the set of guards that hold into a row."""

    def __init__(self, policy: Policy) -> None:
        """Resolve overrides and group positions once."""
        self._policy = policy
        self._beats = beaten_by(policy.rules)
        self._position = {name: i for i, name in enumerate(policy.group_names)}
        self._covered = [tuple(self._position[name] for name in budget.groups) for budget in policy.budgets]

    def row(self, rules: Sequence[Rule], budgets: AbstractSet[str]) -> Row:
        """Return the row where exactly these rules (in order) and budgets apply."""
        beaten = frozenset[str]().union(*(self._beats[rule.name] for rule in rules if rule.admit is not None))
        grants = [Grant(rule, rule.admit) for rule in rules if rule.admit is not None and rule.name not in beaten]
        standing = {grant.rule.name for grant in grants}
        named = tuple(rule.name for rule in rules if rule.restrictions or rule.name in standing)
        verdict = self._verdict(rules, grants)
        charged = tuple(
            max((verdict.shares[g] for g in groups), default=0) if budget.name in budgets else 0
            for budget, groups in zip(self._policy.budgets, self._covered, strict=True)
        )
        effect = _effect(verdict)
        return Row(effect, verdict.cause, verdict.shares, verdict.norms, charged, named, verdict.reason)

    def _verdict(self, rules: Sequence[Rule], grants: Sequence[Grant]) -> Verdict:
        closed, norms, ceiling = (0,) * len(self._position), self._norms(rules), self._ceiling(rules)
        offers = {grant.profile.shares for grant in grants}
        if len(offers) > 1 and not self._policy.combine_min:
            reason = "grants conflict: " + ", ".join(grant.rule.name for grant in grants)
            return Verdict(closed, norms, "error", reason)
        if not any(ceiling):
            return Verdict(closed, norms, "denied", _first_denial(rules))
        if not grants:
            return Verdict(closed, norms, "default", self._policy.otherwise.because)
        shares = tuple(min(column) for column in zip(ceiling, *offers, strict=True))
        if not any(shares):
            return Verdict(closed, norms, "denied", NOTHING_LEFT)
        reason = ", ".join(grant.rule.title or grant.rule.name for grant in grants)
        return Verdict(shares, norms, "granted", reason)

    def _ceiling(self, rules: Sequence[Rule]) -> list[int]:
        """Return the most that restrictions leave to each group."""
        ceiling = [MICRO] * len(self._position)
        for rule in rules:
            for cap in rule.restrictions:
                if not isinstance(cap, LimitNorm):
                    share = cap.share if isinstance(cap, LimitShare) else 0
                    for position in (self._position[name] for name in cap.groups):
                        ceiling[position] = min(ceiling[position], share)
        return ceiling

    def _norms(self, rules: Sequence[Rule]) -> tuple[int, ...]:
        norms = [NO_LIMIT] * len(self._position)
        for rule in rules:
            for limit in rule.restrictions:
                if isinstance(limit, LimitNorm):
                    for position in (self._position[name] for name in limit.groups):
                        norms[position] = limit.norm if norms[position] < 0 else min(norms[position], limit.norm)
        return tuple(norms)


def _first_denial(rules: Sequence[Rule]) -> str:
    """Return the words of the first `deny`, or the name of its rule."""
    for rule in rules:
        for restriction in rule.restrictions:
            if isinstance(restriction, Deny):
                return restriction.because or rule.name
    return NOTHING_LEFT


def _effect(verdict: Verdict) -> Effect:
    if not any(verdict.shares):
        return "deny"
    return "admit" if min(verdict.shares) == MICRO and max(verdict.norms) < 0 else "modulate"
