"""Resolve profiles and rules, and check that `overrides` makes sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from aqpolicy.diagnostics import Label
from aqpolicy.model.conditions import Conditions
from aqpolicy.model.numbers import to_positive, to_share, to_share_limit
from aqpolicy.model.policy import Deny, LimitNorm, LimitShare, Profile, Restriction, Rule
from aqpolicy.model.problems import Names, Problems
from aqpolicy.model.vocabulary import resolve_groups
from aqpolicy.syntax import tree as t


def resolve_profile(decl: t.ProfileDecl, groups: Names[int], problems: Problems) -> Profile:
    """Return the profile; a group that it does not name has share 0."""
    shares: dict[str, int] = {}
    for portion in decl.portions:
        share = to_share(portion.share, problems) or 0
        named = t.Groups(None if portion.group is None else (portion.group,), portion.span)
        for group in resolve_groups(named, groups, problems):
            if group in shares:
                message = f"profile `{decl.name.text}` gives `{group}` two shares"
                problems.add("AQ202", message, Label(portion.span, "a second share"), Label(decl.name.span, "in here"))
            shares.setdefault(group, share)
    if not decl.portions:
        problems.add("AQ219", f"profile `{decl.name.text}` names no group", Label(decl.span, "no share in here"))
    return Profile(decl.name.text, tuple(shares.get(name, 0) for name in groups.names()), decl.name.span)


def resolve_rule(
    decl: t.RuleDecl, conditions: Conditions, profiles: Names[Profile], groups: Names[int], problems: Problems
) -> Rule:
    """Return the rule; `overrides` keeps the names as written until `check_overrides`."""
    admits = [action for action in decl.actions if isinstance(action, t.AdmitClause)]
    for again in admits[1:]:
        message = f"rule `{decl.name.text}` admits twice"
        problems.add("AQ211", message, Label(again.span, "a second `admit`"), Label(admits[0].span, "the first"))
    profile = [profiles.look_up(action.profile) for action in admits]
    found = [_restriction(action, groups, problems) for action in decl.actions]
    return Rule(
        name=decl.name.text,
        title=decl.title.text if decl.title else None,
        when=conditions.resolve(decl.when),
        admit=profile[0] if profile else None,
        restrictions=tuple(restriction for restriction in found if restriction is not None),
        overrides=tuple(dict.fromkeys(word.text for word in decl.overrides)),
        span=decl.name.span,
        when_span=decl.when.span,
        admit_span=admits[0].span if admits else None,
    )


def _restriction(action: t.Action, groups: Names[int], problems: Problems) -> Restriction | None:
    match action:
        case t.AdmitClause():
            return None
        case t.DenyClause():
            because = action.because.text if action.because else None
            return Deny(resolve_groups(action.groups, groups, problems), because, action.span)
        case t.LimitClause(kind="share"):
            share = to_share_limit(action.limit, problems)
            return LimitShare(resolve_groups(action.groups, groups, problems), share or 0, action.span)
        case t.LimitClause():
            norm = to_positive(action.limit, "norm", problems)
            return LimitNorm(resolve_groups(action.groups, groups, problems), norm or 0, action.span)


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
