"""What a policy means: one observation's attributes in, one decision out.

This is the arbiter. The solver's encoding and the compiled tables are two
further implementations of the same meaning, and are tested against this one, so
it is written to be read: it is slow, and remembers nothing between calls.

Rules it keeps: order and duplicates never matter; restrictions combine by the
least and always win; what is missing or undecidable is denied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aqpolicy.bundle.tables import Cause, Effect
from aqpolicy.errors import InternalError
from aqpolicy.model.policy import (
    Admitted,
    All,
    Any,
    Atom,
    Attribute,
    Budget,
    Category,
    Charged,
    Condition,
    Defer,
    Deny,
    LimitFrequency,
    LimitLinear,
    LimitNorm,
    LimitShare,
    Not,
    Policy,
    Restriction,
    Rule,
)
from aqpolicy.semantics.state import COMPARE
from aqpolicy.units import MICRO

UNDECIDABLE: Final = "an attribute is missing, ill-typed or out of range"
"""Reason of every decision about an observation that does not fit the policy's attributes."""

NOTHING_LEFT: Final = "nothing is left"
"""Reason where grants and limits together leave no group open."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What an observation may reach. Shares, norms and charged shares are millionths.

    Shapes:
        shares (g), norms (g), charged (number of budgets).
    """

    effect: Effect
    cause: Cause
    shares: tuple[int, ...]
    norms: tuple[int | None, ...]
    """Per group, None where there is no limit."""
    charged: tuple[int, ...]
    """Per budget, the largest share among the groups that it covers; 0 where it does not apply."""
    rules: tuple[str, ...]
    """Rules that apply, as declared, without grants that were overridden and restrict nothing."""
    reason: str
    obligations: tuple[int, ...] = ()
    """What is asked beyond this step, by position in `Policy.obligations`; what an effect `defer` waits for."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What grants and restrictions come to, and why."""

    cause: Cause
    reason: str
    shares: tuple[int, ...]


def evaluate(policy: Policy, attributes: Mapping[str, object]) -> Decision:
    """Return the decision for an observation.

    Args:
        policy: The policy.
        attributes: Values by name, those of the run among them: names of values for categories, integer
            millionths for numbers. Attributes that the policy does not have are not looked at.
    """
    nothing = (0,) * len(policy.groups)
    if not all(is_value(attribute, attributes.get(attribute.name)) for attribute in policy.attributes):
        return Decision("deny", "error", nothing, (None,) * len(nothing), (0,) * len(policy.budgets), (), UNDECIDABLE)
    applicable = [rule for rule in policy.rules if holds(rule.when, attributes)]
    grants = _standing(policy, [rule for rule in applicable if rule.admit is not None])
    named = tuple(rule.name for rule in applicable if rule in grants or rule.restrictions)
    ceilings, norms = _ceilings(policy, applicable, attributes), _norms(policy, applicable)
    verdict = _verdict(policy, applicable, grants, ceilings)
    pending = _pending(policy, applicable, attributes) if verdict.cause == "granted" else ()
    if pending:
        waits = next(rule for rule in policy.rules if rule.name == policy.obligations[pending[0]][0])
        unspent = (0,) * len(policy.budgets)
        return Decision("defer", "denied", nothing, norms, unspent, named, waits.title or waits.name, pending)
    return Decision(
        effect=effect_of(verdict.shares, norms),
        cause=verdict.cause,
        shares=verdict.shares,
        norms=norms,
        charged=tuple(_charged(policy, budget, attributes, verdict.shares) for budget in policy.budgets),
        rules=named,
        reason=verdict.reason,
        obligations=_obligations(policy, applicable, verdict.shares) if verdict.cause == "granted" else (),
    )


def is_value(attribute: Attribute, value: object) -> bool:
    """Say whether a value is one that the attribute can have."""
    kind = attribute.type
    if isinstance(kind, Category):
        return isinstance(value, str) and value in kind.values
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return kind.low <= value <= kind.high and value % kind.step == 0


def holds(
    condition: Condition,
    attributes: Mapping[str, object],
    shares: Mapping[str, int] | None = None,
    charged: Mapping[str, int] | None = None,
) -> bool:
    """Say whether a condition is true of an observation and of the decision on it.

    Args:
        condition: The condition.
        attributes: Values by name.
        shares: What was admitted, by group.
        charged: What was charged, by budget.

    Raises:
        InternalError: The condition asks what it was not given, or orders names; no resolved policy does.
    """
    match condition:
        case All(terms):
            return all(holds(term, attributes, shares, charged) for term in terms)
        case Any(terms):
            return any(holds(term, attributes, shares, charged) for term in terms)
        case Not(term):
            return not holds(term, attributes, shares, charged)
        case Atom(name, op, literal):
            return _compare(attributes.get(name), op, literal)
        case Admitted(group, op, share):
            return _compare((shares or {}).get(group), op, share)
        case Charged(budget, op, share):
            return _compare((charged or {}).get(budget), op, share)


def _compare(value: object, op: str, literal: str | int) -> bool:
    if isinstance(value, int) and isinstance(literal, int):
        return bool(COMPARE[op](value, literal))
    if isinstance(value, str) and isinstance(literal, str) and op == "=":
        return value == literal
    raise InternalError(f"cannot say whether `{value}` {op} `{literal}`; please report this policy")


def _standing(policy: Policy, grants: list[Rule]) -> list[Rule]:
    """Return the grants that no other applicable grant overrides, directly or through others."""
    overridden: set[str] = set()
    overrides = {rule.name: rule.overrides for rule in policy.rules}
    reach = [name for rule in grants for name in rule.overrides]
    while reach:
        name = reach.pop()
        if name not in overridden:
            overridden.add(name)
            reach.extend(overrides[name])
    return [rule for rule in grants if rule.name not in overridden]


def _restrictions(rules: list[Rule]) -> list[Restriction]:
    return [restriction for rule in rules for restriction in rule.restrictions]


def _ceilings(policy: Policy, rules: list[Rule], attributes: Mapping[str, object]) -> tuple[int | None, ...]:
    """Return the least of all share limits per group, None where there is none."""
    limits: dict[str, list[int]] = {group: [] for group in policy.group_names}
    for restriction in _restrictions(rules):
        match restriction:
            case Deny(groups):
                limit = 0
            case LimitShare(groups, share):
                limit = share
            case LimitLinear(groups):
                limit = restriction.at(_number(attributes, restriction.attribute))
            case _:
                continue
        for group in groups:
            limits[group].append(limit)
    return tuple(min(found, default=None) for found in limits.values())


def _number(attributes: Mapping[str, object], name: str) -> int:
    value = attributes[name]
    if not isinstance(value, int):
        raise InternalError(f"`{name}` is no number, so no share can be linear in it; please report this policy")
    return value


def _norms(policy: Policy, rules: list[Rule]) -> tuple[int | None, ...]:
    """Return the least of all norm limits per group, None where there is none."""
    limits = [restriction for restriction in _restrictions(rules) if isinstance(restriction, LimitNorm)]
    return tuple(
        min((limit.norm for limit in limits if group in limit.groups), default=None) for group in policy.group_names
    )


def _verdict(policy: Policy, rules: list[Rule], grants: list[Rule], ceilings: Sequence[int | None]) -> _Verdict:
    """Return what the grants admit below the ceilings."""
    nothing = (0,) * len(ceilings)
    offers = [rule.admit.shares for rule in grants if rule.admit is not None]
    if len(set(offers)) > 1 and not policy.combine_min:
        return _Verdict("error", "grants conflict: " + ", ".join(rule.name for rule in grants), nothing)
    if all(ceiling == 0 for ceiling in ceilings):
        return _Verdict("denied", _first_denial(rules), nothing)
    if not grants:
        return _Verdict("default", policy.otherwise.because, nothing)
    columns = zip(ceilings, *offers, strict=True)
    shares = tuple(min(limit for limit in column if limit is not None) for column in columns)
    if not any(shares):
        return _Verdict("denied", NOTHING_LEFT, nothing)
    return _Verdict("granted", ", ".join(rule.title or rule.name for rule in grants), shares)


def _first_denial(rules: list[Rule]) -> str:
    """Return why the first `deny` denies: its own words, or the name of its rule."""
    denials = (cap.because or rule.name for rule in rules for cap in rule.restrictions if isinstance(cap, Deny))
    return next(denials, NOTHING_LEFT)


def _pending(policy: Policy, rules: list[Rule], attributes: Mapping[str, object]) -> tuple[int, ...]:
    """Return the deferrals of the rules that are not released yet, by number."""
    names = {rule.name for rule in rules}
    return tuple(
        number
        for number, (name, asked) in enumerate(policy.obligations)
        if name in names and isinstance(asked, Defer) and not holds(asked.until, attributes)
    )


def _obligations(policy: Policy, rules: list[Rule], shares: Sequence[int]) -> tuple[int, ...]:
    """Return what the rules ask of an admitted update, by number; a frequency only of a group that is open."""
    names = {rule.name for rule in rules}
    opened = {group for group, share in zip(policy.group_names, shares, strict=True) if share > 0}
    return tuple(
        number
        for number, (name, asked) in enumerate(policy.obligations)
        if name in names
        and not isinstance(asked, Defer)
        and not (isinstance(asked, LimitFrequency) and opened.isdisjoint(asked.groups))
    )


def _charged(policy: Policy, budget: Budget, attributes: Mapping[str, object], shares: Sequence[int]) -> int:
    if not holds(budget.when, attributes):
        return 0
    covered = (share for name, share in zip(policy.group_names, shares, strict=True) if name in budget.groups)
    return max(covered, default=0)


def effect_of(shares: Sequence[int], norms: Sequence[int | None]) -> Effect:
    """Return the effect of shares and norm limits: deny, modulate or admit."""
    if not any(shares):
        return "deny"
    whole = all(share == MICRO for share in shares) and all(norm is None for norm in norms)
    return "admit" if whole else "modulate"
