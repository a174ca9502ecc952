"""The account of one decision: what every rule had to say, which had their way, and what would have been needed.

It decides nothing: truth comes from `semantics`, the nearest admitted observation
from `analysis`. The words are the policy's own, quoted with their places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aqpolicy.diagnostics import Span
from aqpolicy.errors import InternalError
from aqpolicy.model import Stack
from aqpolicy.model.policy import All as Every
from aqpolicy.model.policy import (
    Atom,
    Attribute,
    Condition,
    Defer,
    Deny,
    LimitLinear,
    LimitNorm,
    LimitShare,
    Policy,
    Restriction,
    Rule,
)
from aqpolicy.semantics import Decision, evaluate, holds
from aqpolicy.syntax import tree as t
from aqpolicy.trial.marks import ALL, Mark, Marker
from aqpolicy.trial.observation import Observation, missing
from aqpolicy.units import date_text, micro_text


@dataclass(frozen=True, slots=True)
class Effect:
    """A grant or restriction as written, and what came of it."""

    text: str
    came: str
    span: Span


@dataclass(frozen=True, slots=True)
class RuleAccount:
    """What one rule had to say."""

    rule: Rule
    applies: bool
    decides: bool
    condition: Mark
    overridden_by: tuple[str, ...]
    effects: tuple[Effect, ...]
    """What it gave, took or asked; empty where it does not apply."""


@dataclass(frozen=True, slots=True)
class Account:
    """One decision with its reasons; `rules` is empty where attributes are missing."""

    policy: Policy
    observation: Observation
    missing: tuple[Attribute, ...]
    decision: Decision
    rules: tuple[RuleAccount, ...]

    @property
    def obligations(self) -> tuple[Effect, ...]:
        """What the decision asks of the run."""
        spans = [self.policy.obligations[number][1].span for number in self.decision.obligations]
        return tuple(effect for told in self.rules for effect in told.effects if effect.span in spans)


def account_of(policy: Policy, stack: Stack, observation: Observation) -> Account:
    """Return the account of a decision.

    Args:
        policy: The policy.
        stack: The files that it was resolved from, for its words.
        observation: Well-typed values; some may be missing.
    """
    absent, decision = missing(policy, observation), evaluate(policy, observation)
    told = () if absent else tuple(_Teller(policy, stack, observation, decision).rules())
    return Account(policy, observation, absent, decision, told)


class _Teller:
    """Tells of the rules of one policy."""

    def __init__(self, policy: Policy, stack: Stack, observation: Observation, decision: Decision) -> None:
        self._policy, self._observation, self._decision = policy, observation, decision
        self._marker = Marker(policy, stack, observation)
        statements = [statement for layer in stack.layers() for statement in layer.tree.statements]
        self._written = {item.name.text: item for item in statements if isinstance(item, t.RuleDecl)}
        self._applying = {rule.name: rule for rule in policy.rules if holds(rule.when, observation)}
        standing = [r for r in self._applying.values() if r.admit is not None and not self._overriding(r)]
        offers = [rule.admit.shares for rule in standing if rule.admit is not None]
        # Without a grant that stands there is no column, and nothing is offered.
        least = (min(column) for column in zip(*offers, strict=True))
        self._offered = dict(zip(policy.group_names, least, strict=False))

    def rules(self) -> Iterator[RuleAccount]:
        """Yield the account of every rule, as declared."""
        for rule in self._policy.rules:
            applies = rule.name in self._applying
            yield RuleAccount(
                rule=rule,
                applies=applies,
                decides=rule.name in self._decision.rules,
                condition=self._condition(rule),
                overridden_by=tuple(self._overriding(rule)) if applies else (),
                effects=tuple(self._effects(rule)) if applies else (),
            )

    def _condition(self, rule: Rule) -> Mark:
        """Return the marks of a rule's condition; its `until` date is one more part."""
        written = self._written[rule.name]
        if written.until is None:
            return self._marker.mark(written.when, rule.when)
        when, last = _guard(rule.when)
        truth = holds(last, self._observation)
        text = f"until {date_text(int(last.value))}"
        date = Mark(text, truth, self._marker.value("today"), written.until.span)
        own = self._marker.mark(written.when, when)
        parts = own.parts if own.text == ALL else (own,)
        return Mark(ALL, own.holds and truth, "", written.when.span, (*parts, date))

    def _overriding(self, rule: Rule) -> list[str]:
        """Return the applicable grants that a grant yields to, directly or through others."""
        if rule.admit is None:
            return []
        return [
            name
            for name, other in self._applying.items()
            if other.admit is not None and rule.name in _reach(self._policy, other)
        ]

    def _effects(self, rule: Rule) -> Iterator[Effect]:
        if rule.admit is not None and rule.admit_span is not None:
            yield self._effect(rule.admit_span, _shares(self._policy, rule.admit.shares))
        for restriction in rule.restrictions:
            yield self._effect(restriction.span, self._came_of(restriction))

    def _effect(self, span: Span, came: str) -> Effect:
        return Effect(self._marker.texts.of(span), came, span)

    def _came_of(self, restriction: Restriction) -> str:
        """Return what a restriction took by itself from what was offered, or what became of what it asks."""
        match restriction:
            case Deny(groups):
                return self._taken(groups, 0)
            case LimitShare(groups, share):
                return self._taken(groups, share)
            case LimitLinear(groups):
                limit = self._marker.linear(restriction)
                return f"at most {micro_text(limit)}; {self._taken(groups, limit)}"
            case LimitNorm():
                return ""
            case Defer():
                return "released" if holds(restriction.until, self._observation) else "not released yet"
            case _:
                return "asked" if restriction in self._asked() else "not asked, as nothing is admitted"

    def _taken(self, groups: tuple[str, ...], limit: int) -> str:
        lowered = [
            f"{group} {micro_text(self._offered[group])} -> {micro_text(limit)}"
            for group in groups
            if self._offered.get(group, 0) > limit
        ]
        return ", ".join(lowered) or "takes nothing, as no grant offers more"

    def _asked(self) -> list[Restriction]:
        obligations = self._policy.obligations
        return [obligations[number][1] for number in self._decision.obligations]


def _guard(when: Condition) -> tuple[Condition, Atom]:
    """Return the two parts of the guard of a rule that has an `until` date."""
    match when:
        case Every((own, Atom() as last)):
            return own, last
    raise InternalError("a rule with an `until` date has a guard without it")


def _reach(policy: Policy, rule: Rule) -> set[str]:
    """Return the names that a rule overrides, directly or through others."""
    overrides: Mapping[str, tuple[str, ...]] = {each.name: each.overrides for each in policy.rules}
    found: set[str] = set()
    left = list(rule.overrides)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left.extend(overrides[name])
    return found


def _shares(policy: Policy, shares: tuple[int, ...]) -> str:
    pairs = zip(policy.group_names, shares, strict=True)
    return ", ".join(f"{group} {micro_text(share)}" for group, share in pairs)
