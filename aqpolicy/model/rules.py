"""Resolve rules, and check that `overrides` makes sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aqpolicy.diagnostics import Label
from aqpolicy.model.conditions import Conditions, Vocabulary
from aqpolicy.model.numbers import to_count, to_days, to_micro, to_positive, to_share_limit
from aqpolicy.model.policy import (
    All,
    Atom,
    Condition,
    Defer,
    Deny,
    LimitFrequency,
    LimitLinear,
    LimitNorm,
    LimitShare,
    Numeric,
    Profile,
    Promote,
    Restriction,
    Rule,
    Verify,
)
from aqpolicy.model.problems import Names, Problems
from aqpolicy.model.text import Texts
from aqpolicy.model.vocabulary import resolve_groups
from aqpolicy.syntax import tree as t
from aqpolicy.units import MICRO


@dataclass(frozen=True, slots=True)
class RuleResolver:
    """Turns the declarations of rules into rules; holds what they may name."""

    vocabulary: Vocabulary
    conditions: Conditions
    profiles: Names[Profile]
    texts: Texts
    problems: Problems

    def rule(self, decl: t.RuleDecl) -> Rule:
        """Return the rule; `overrides` keeps the names as written until `check_overrides`."""
        admits = [action for action in decl.actions if isinstance(action, t.AdmitClause)]
        for again in admits[1:]:
            message = f"rule `{decl.name.text}` admits twice"
            labels = (Label(again.span, "a second `admit`"), Label(admits[0].span, "the first"))
            self.problems.add("AQ211", message, *labels)
        profile = [self.profiles.look_up(action.profile) for action in admits]
        found = [self._restriction(action) for action in decl.actions]
        return Rule(
            name=decl.name.text,
            title=decl.title.text if decl.title else None,
            when=self._guard(decl),
            admit=profile[0] if profile else None,
            restrictions=tuple(restriction for restriction in found if restriction is not None),
            overrides=tuple(dict.fromkeys(word.text for word in decl.overrides)),
            span=decl.name.span,
            when_span=decl.when.span,
            admit_span=admits[0].span if admits else None,
        )

    def _guard(self, decl: t.RuleDecl) -> Condition:
        when = self.conditions.resolve(decl.when)
        if decl.until is None:
            return when
        self.vocabulary.used.add("today")
        last = to_days(decl.until, self.problems) or 0
        return All((when, Atom("today", "<=", last, decl.until.span)))

    def _restriction(self, action: t.Action) -> Restriction | None:
        match action:
            case t.AdmitClause():
                return None
            case t.DenyClause():
                return Deny(self._groups(action), action.because.text if action.because else None, action.span)
            case t.LimitClause(kind="share"):
                share = to_share_limit(action.limit, self.problems)
                return LimitShare(self._groups(action), share or 0, action.span)
            case t.LimitClause():
                norm = to_positive(action.limit, "norm", self.problems)
                return LimitNorm(self._groups(action), norm or 0, action.span)
            case t.LinearClause():
                return self._linear(action)
            case t.FrequencyClause():
                updates, steps = self._count(action.updates, "updates"), self._count(action.steps, "steps")
                return LimitFrequency(self._groups(action), updates, steps, action.span)
            case _:
                return self._obligation(action)

    def _groups(self, action: t.DenyClause | t.LimitClause | t.LinearClause | t.FrequencyClause) -> tuple[str, ...]:
        return resolve_groups(action.groups, self.vocabulary.groups, self.problems)

    def _count(self, number: t.Number, what: str) -> int:
        return to_count(number, f"number of {what}", self.problems) or 1

    def _obligation(self, action: t.DeferClause | t.VerifyClause | t.PromoteClause) -> Restriction:
        if isinstance(action, t.DeferClause):
            until, text = self.conditions.resolve(action.until), self.texts.of(action.until.span)
            return Defer(until, self._count(action.epochs, "epochs"), text, action.span)
        if isinstance(action, t.VerifyClause):
            amount = to_positive(action.amount, "amount", self.problems) or 0
            steps = self._count(action.steps, "steps")
            return Verify(action.metric.text, action.direction, amount, steps, action.remedy, action.span)
        value = to_micro(action.value, self.problems) or 0
        witnesses = self._count(action.witnesses, "witnesses") if action.witnesses else 0
        return Promote(action.metric.text, action.op, value, witnesses, action.span)

    def _linear(self, action: t.LinearClause) -> LimitLinear | None:
        attribute = self.vocabulary.look_up(action.attribute)
        factor = MICRO if action.factor is None else to_micro(action.factor, self.problems)
        intercept = 0 if action.intercept is None else to_micro(action.intercept, self.problems)
        groups = self._groups(action)
        if attribute is None or factor is None or intercept is None:
            return None
        if not isinstance(attribute.type, Numeric) or attribute.type.kind == "date":
            label = Label(action.attribute.span, "is no number")
            self.problems.add("AQ203", f"a share cannot be computed from `{attribute.name}`", label)
            return None
        if attribute.type.unit is not None:
            label = Label(action.attribute.span, f"is in {attribute.type.unit}")
            self.problems.add("AQ207", f"a share has no unit, `{attribute.name}` is in {attribute.type.unit}", label)
            return None
        return LimitLinear(groups, intercept, -factor if action.falls else factor, attribute.name, action.span)


def check_overrides(decls: tuple[t.RuleDecl, ...], rules: Names[Rule], problems: Problems) -> None:
    """Report overridden names that are unknown, grant nothing, or form a circle."""
    for decl in decls:
        rule = rules.look_up(decl.name)
        for word in decl.overrides:
            other = rules.look_up(word)
            for part in (rule, other):
                if part is not None and other is not None and part.admit_span is None:
                    message = f"rule `{part.name}` admits nothing, so `overrides` cannot relate it to another"
                    places = (Label(word.span, "relates two grants"), Label(part.span, "has no `admit`"))
                    problems.add("AQ209", message, *places, notes=("restrictions always combine, and always win",))
    edges = {rule.name: rule.overrides for rule in rules.values()}
    for circle in circles(edges):
        labels = [Label(rules.span(name), f"overrides `{follower}`") for name, follower in steps(circle)]
        problems.add("AQ208", f"rule `{circle[0]}` overrides itself", *labels)


def circles(edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return a circle for every edge that closes one, walking a relation between names in the order declared."""
    found: list[list[str]] = []
    finished: set[str] = set()
    for start in edges:
        path: dict[str, Iterator[str]] = {} if start in finished else {start: iter(edges[start])}
        while path:
            name, followers = next(reversed(path.items()))
            follower = next(followers, None)
            if follower is None:
                finished.add(name)
                del path[name]
            elif follower in path:
                walked = list(path)
                found.append(walked[walked.index(follower) :])
            elif follower in edges and follower not in finished:
                path[follower] = iter(edges[follower])
    return found


def steps(circle: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield every name of a circle with the one that follows it."""
    return zip(circle, [*circle[1:], circle[0]], strict=True)
