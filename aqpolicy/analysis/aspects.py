"""Every respect in which a decision of one policy can be wider or narrower than that of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from aqpolicy.analysis.alignment import NEW, OLD, asked_for
from aqpolicy.analysis.linear import plain
from aqpolicy.analysis.query import (
    ALWAYS,
    NEVER,
    And,
    Bounded,
    Deferred,
    Exceeds,
    Negated,
    Over,
    Owes,
    Query,
    charged_over,
    norms_of,
    open_somewhere,
    or_,
)
from aqpolicy.analysis.reading import amounts, linear_limits
from aqpolicy.analysis.wording import limit_text
from aqpolicy.model.policy import Budget, Defer, LimitFrequency, LimitNorm, Policy
from aqpolicy.model.policy import Obligation as Owed
from aqpolicy.semantics import Decision
from aqpolicy.units import micro_text

Direction = Literal["wider", "narrower"]

STRICTNESS: Final = ("attenuate", "defer", "deny", "halt")
"""What becomes of an update that a budget does not cover, from the mildest."""

Shown = Callable[[Decision, Decision], bool]
Asks = Callable[[Query], bool]
"""Says whether some observation satisfies a question."""


@dataclass(frozen=True, slots=True)
class Aspect:
    """One way in which decisions differ: in words, as a question, and by the evaluator."""

    direction: Direction
    text: str
    query: Query
    shown: Shown
    """Says of the old and the new decision whether they differ in this way."""


def aspects(old: Policy, new: Policy, possible: Asks) -> Iterator[Aspect]:
    """Yield the ways in which decisions can differ; together they miss no difference in what is admitted.

    `possible` spares ways that no observation takes.
    """
    for group in dict.fromkeys((*old.group_names, *new.group_names)):
        yield from _share(old, new, group, possible)
        if group in old.group_names and group in new.group_names:
            yield from _norm(old, new, group)
    for name in dict.fromkeys(budget.name for budget in (*old.budgets, *new.budgets)):
        yield from _charge(old, new, name)
    yield from _deferral(old, new)
    yield from _owed(old, new, OLD)
    yield from _owed(new, old, NEW)


# ---- Shares and norms


def _share(old: Policy, new: Policy, group: str, possible: Asks) -> Iterator[Aspect]:
    """Yield every pair of different shares that a group can get; only the direction where shares are linear."""
    known = group in old.group_names and group in new.group_names
    if known and (linear_limits(old, group) or linear_limits(new, group)):
        yield from _moving_share(old, new, group)
        return
    mine, theirs = ([0] if group not in p.group_names else amounts(p, group) for p in (old, new))
    for before in mine:
        changed = And((_exactly(old, group, before, OLD), Negated(_exactly(new, group, before, NEW))))
        for after in theirs if possible(changed) else ():
            if after != before:
                yield _fixed_share(old, new, group, (before, after))


def _fixed_share(old: Policy, new: Policy, group: str, shares: tuple[int, int]) -> Aspect:
    before, after = shares
    verb = "rises" if after > before else "falls"
    return Aspect(
        direction="wider" if after > before else "narrower",
        text=f"the share of `{group}` {verb} from {micro_text(before)} to {micro_text(after)}",
        query=And((_exactly(old, group, before, OLD), _exactly(new, group, after, NEW))),
        shown=lambda one, other: (_at(old, one.shares, group), _at(new, other.shares, group)) == shares,
    )


def _exactly(policy: Policy, group: str, share: int, position: int) -> Query:
    """Ask whether a group gets this very share; one that the policy does not have gets 0."""
    if group not in policy.group_names:
        return ALWAYS if share == 0 else NEVER
    below = Negated(Over(group, share, position))
    return And((Over(group, share - 1, position), below)) if share > 0 else below


def _moving_share(old: Policy, new: Policy, group: str) -> Iterator[Aspect]:
    def change(one: Decision, other: Decision) -> int:
        return _at(new, other.shares, group) - _at(old, one.shares, group)

    text = f"the share of `{group}` is"
    yield Aspect("wider", f"{text} larger", Exceeds(group, NEW, OLD), lambda one, other: change(one, other) > 0)
    yield Aspect("narrower", f"{text} smaller", Exceeds(group, OLD, NEW), lambda one, other: change(one, other) < 0)


def _at(policy: Policy, values: tuple[int, ...], group: str) -> int:
    return values[policy.group_names.index(group)] if group in policy.group_names else 0


def _norm(old: Policy, new: Policy, group: str) -> Iterator[Aspect]:
    """Yield every pair of different norms, where both policies open a group."""
    if _norm_rules(old, group) == _norm_rules(new, group):
        return
    opened = (Over(group, 0, OLD), Over(group, 0, NEW))
    for before in (*norms_of(old, group), None):
        for after in (*norms_of(new, group), None):
            if before == after:
                continue
            words = ("no limit" if norm is None else micro_text(norm) for norm in (before, after))
            loose = after is None or (before is not None and after > before)
            yield Aspect(
                direction="wider" if loose else "narrower",
                text="the norm of `{}` goes from {} to {}".format(group, *words),
                query=And((*opened, _norm_is(old, group, before, OLD), _norm_is(new, group, after, NEW))),
                shown=partial(_has_norms, (old, new), group, (before, after)),
            )


def _norm_rules(policy: Policy, group: str) -> list[tuple[object, ...]]:
    """Return where a policy limits the norm of a group to what."""
    found = ((rule, limit) for rule in policy.rules for limit in rule.restrictions if isinstance(limit, LimitNorm))
    return [(plain(rule.when), limit.norm) for rule, limit in found if group in limit.groups]


def _norm_is(policy: Policy, group: str, norm: int | None, position: int) -> Query:
    """Ask whether the norm of a group is limited to this very number, or not at all."""
    norms = norms_of(policy, group)
    if norm is None:
        return Negated(Bounded(group, max(norms), position)) if norms else ALWAYS
    return And((Bounded(group, norm, position), Negated(Bounded(group, norm - 1, position))))


def _has_norms(
    policies: tuple[Policy, Policy], group: str, norms: tuple[int | None, int | None], one: Decision, other: Decision
) -> bool:
    """Say whether two decisions open a group with these norms."""
    for policy, norm, decision in zip(policies, norms, (one, other), strict=True):
        place = policy.group_names.index(group)
        if decision.shares[place] == 0 or decision.norms[place] != norm:
            return False
    return True


# ---- Charges


def _charge(old: Policy, new: Policy, name: str) -> Iterator[Aspect]:
    one, other = _budget(old, name), _budget(new, name)
    if one is not None:
        dropped = _uncharged(one, OLD, new, other, NEW)

        def is_dropped(before: Decision, after: Decision) -> bool:
            return _lost((old, one, before), (new, other, after))

        yield Aspect("wider", f"budget `{name}` is no longer charged", dropped, is_dropped)
    if other is not None:
        added = _uncharged(other, NEW, old, one, OLD)

        def is_added(before: Decision, after: Decision) -> bool:
            return _lost((new, other, after), (old, one, before))

        yield Aspect("narrower", f"budget `{name}` is charged now", added, is_added)


def _budget(policy: Policy, name: str) -> Budget | None:
    return next((budget for budget in policy.budgets if budget.name == name), None)


def _uncharged(budget: Budget, position: int, policy: Policy, same: Budget | None, other: int) -> Query:
    """Ask whether a policy opens what another one charges to a budget, without charging it."""
    opened = or_(Over(group, 0, other) for group in budget.groups if group in policy.group_names)
    charged = And((charged_over(budget, 0, position), opened))
    return charged if same is None else And((charged, Negated(charged_over(same, 0, other))))


def _lost(charging: tuple[Policy, Budget, Decision], other: tuple[Policy, Budget | None, Decision]) -> bool:
    policy, budget, decision = charging
    second, same, after = other
    opened = any(_at(second, after.shares, group) for group in budget.groups)
    still = same is not None and after.charged[second.budgets.index(same)] > 0
    return decision.charged[policy.budgets.index(budget)] > 0 and opened and not still


# ---- Deferrals and other obligations


def _deferral(old: Policy, new: Policy) -> Iterator[Aspect]:
    """Compare where nothing is admitted: held back is more than denied."""

    def query(waiting: int, denying: int, policy: Policy) -> Query:
        return And((Deferred(waiting), Negated(Deferred(denying)), Negated(open_somewhere(policy, denying))))

    yield Aspect(
        "wider",
        "deferred instead of denied",
        query(NEW, OLD, old),
        lambda one, other: (one.effect, other.effect) == ("deny", "defer"),
    )
    yield Aspect(
        "narrower",
        "denied instead of deferred",
        query(OLD, NEW, new),
        lambda one, other: (one.effect, other.effect) == ("defer", "deny"),
    )


def _owed(policy: Policy, other: Policy, position: int) -> Iterator[Aspect]:
    """Yield for each obligation of one policy whether the other asks less of what it lets through or holds back."""
    rival = NEW if position == OLD else OLD
    direction: Direction = "wider" if position == OLD else "narrower"
    keys = [_key(rule, asked) for rule, asked in other.obligations]
    for number, (rule, asked) in enumerate(policy.obligations):
        same = [n for n, key in enumerate(keys) if key == _key(rule, asked)]
        query = And((Owes(number, position), _lets(other, asked, rival), *(Negated(Owes(n, rival)) for n in same)))

        def shown(
            one: Decision, two: Decision, number: int = number, asked: Owed = asked, same: list[int] = same
        ) -> bool:
            mine, theirs = (one, two) if position == OLD else (two, one)
            return number in mine.obligations and _let(other, asked, theirs) and not set(same) & set(theirs.obligations)

        words = f"an obligation of rule `{rule}` is {'no longer asked' if position == OLD else 'asked now'}"
        yield Aspect(direction, words, query, shown)


def _lets(policy: Policy, asked: Owed, position: int) -> Query:
    """Ask whether a policy does to an observation what an obligation goes with: hold it back, or open a group."""
    if isinstance(asked, Defer):
        return Deferred(position)
    if isinstance(asked, LimitFrequency):
        return or_(Over(group, 0, position) for group in asked.groups if group in policy.group_names)
    return open_somewhere(policy, position)


def _let(policy: Policy, asked: Owed, decision: Decision) -> bool:
    if isinstance(asked, Defer):
        return decision.effect == "defer"
    if isinstance(asked, LimitFrequency):
        return any(_at(policy, decision.shares, group) for group in asked.groups)
    return any(decision.shares)


def _key(rule: str, asked: Owed) -> tuple[object, ...]:
    """Return what makes two obligations the same, wherever they are written; frequencies count by rule."""
    return (rule if isinstance(asked, LimitFrequency) else "", *asked_for(asked))


# ---- Limits of budgets, which no single decision shows


def limit_changes(old: Policy, new: Policy) -> Iterator[tuple[Direction, str]]:
    """Yield in words how budgets bound more or less than before."""
    mine, theirs = ({budget.name: budget for budget in policy.budgets} for policy in (old, new))
    yield from (("wider", f"budget `{name}` is gone") for name in mine if name not in theirs)
    yield from (("narrower", f"budget `{name}` is new") for name in theirs if name not in mine)
    for name in (name for name in mine if name in theirs):
        yield from _bounds_changes(mine[name], theirs[name])


def _bounds_changes(old: Budget, new: Budget) -> Iterator[tuple[Direction, str]]:
    gone = [group for group in old.groups if group not in new.groups]
    added = [group for group in new.groups if group not in old.groups]
    yield from (("wider", f"budget `{old.name}` no longer covers `{group}`") for group in gone)
    yield from (("narrower", f"budget `{old.name}` now covers `{group}`") for group in added)
    for limit in old.limits:
        after = new.limit(limit.meter, limit.window)
        if after is None:
            yield "wider", f"budget `{old.name}` no longer limits {limit.meter} to {limit_text(limit)}"
        elif after.amount != limit.amount:
            words = f"{limit.meter} from {limit_text(limit)} to {limit_text(after)}"
            yield "wider" if after.amount > limit.amount else "narrower", f"budget `{old.name}` limits {words}"
    for limit in new.limits:
        if old.limit(limit.meter, limit.window) is None:
            yield "narrower", f"budget `{old.name}` now limits {limit.meter} to {limit_text(limit)}"
    yield from _other_changes(old, new)


def _other_changes(old: Budget, new: Budget) -> Iterator[tuple[Direction, str]]:
    if old.exposures != new.exposures:
        before, after = ("no limit" if count is None else str(count) for count in (old.exposures, new.exposures))
        wider = new.exposures is None or (old.exposures is not None and new.exposures > old.exposures)
        words = f"budget `{old.name}` goes from {before} to {after} for exposures per example"
        yield "wider" if wider else "narrower", words
    if old.on_exhaust != new.on_exhaust:
        milder = STRICTNESS.index(new.on_exhaust) < STRICTNESS.index(old.on_exhaust)
        words = f"budget `{old.name}` says `on exhaust {new.on_exhaust}`, and said `{old.on_exhaust}`"
        yield "wider" if milder else "narrower", words
