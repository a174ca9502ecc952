"""What a policy means: one observation's attributes in, one decision out.

This is the arbiter. The solver's encoding and the compiled tables are two
further implementations of the same meaning, and are tested against this one, so
it is written to be read: it is slow, and remembers nothing between calls.

Rules it keeps: order and duplicates never matter; restrictions combine by the
least and always win; what is missing or undecidable is denied.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aqpolicy.bundle.tables import Cause, Effect
from aqpolicy.errors import InternalError
from aqpolicy.model import (
    Admitted,
    All,
    Any,
    Atom,
    Attribute,
    Budget,
    Category,
    Condition,
    Deny,
    LimitNorm,
    LimitShare,
    Not,
    Policy,
    Rule,
)
from aqpolicy.units import MICRO

UNDECIDABLE: Final = "an attribute is missing, ill-typed or out of range"
"""Reason of every decision about an observation that does not fit the taxonomy."""

_COMPARE: Final = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


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


def evaluate(policy: Policy, attributes: Mapping[str, object]) -> Decision:
    """Return the decision for an observation.

    Args:
        policy: The policy.
        attributes: Values by name: names of values for categories, integer millionths for
            numbers. Attributes that the taxonomy does not declare are not looked at.
    """
    if not all(is_value(attribute, attributes.get(attribute.name)) for attribute in policy.taxonomy.attributes):
        groups, budgets = len(policy.groups), len(policy.budgets)
        return Decision("deny", "error", (0,) * groups, (None,) * groups, (0,) * budgets, (), UNDECIDABLE)
    applicable = [rule for rule in policy.rules if holds(rule.when, attributes)]
    grants = _standing(policy, [rule for rule in applicable if rule.admit is not None])
    rules = [rule for rule in applicable if rule in grants or rule.restrictions]
    names = tuple(rule.name for rule in rules)
    caps, norms = _meet(policy, rules)
    shares, cause, reason = _verdict(policy, rules, grants, caps)
    charged = tuple(_charged(policy, budget, attributes, shares) for budget in policy.budgets)
    return Decision(effect_of(shares, norms), cause, shares, norms, charged, names, reason)


def is_value(attribute: Attribute, value: object) -> bool:
    """Say whether a value is one that the attribute can have."""
    kind = attribute.type
    if isinstance(kind, Category):
        return isinstance(value, str) and value in kind.values
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return kind.low <= value <= kind.high and value % kind.step == 0


def holds(condition: Condition, attributes: Mapping[str, object], shares: Mapping[str, int] | None = None) -> bool:
    """Say whether a condition is true of an observation, and of the shares admitted to it by group.

    Raises:
        InternalError: The condition asks what it was not given, or orders names; no resolved policy does.
    """
    match condition:
        case All(terms):
            return all(holds(term, attributes, shares) for term in terms)
        case Any(terms):
            return any(holds(term, attributes, shares) for term in terms)
        case Not(term):
            return not holds(term, attributes, shares)
        case Atom(name, op, literal):
            return _compare(attributes.get(name), op, literal)
        case Admitted(group, op, share):
            return _compare(None if shares is None else shares.get(group), op, share)


def _compare(value: object, op: str, literal: str | int) -> bool:
    if isinstance(value, int) and isinstance(literal, int):
        return bool(_COMPARE[op](value, literal))
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


def _verdict(
    policy: Policy, rules: list[Rule], grants: list[Rule], caps: tuple[int, ...]
) -> tuple[tuple[int, ...], Cause, str]:
    """Return the shares, their cause and the reason in words."""
    nothing = (0,) * len(caps)
    offers = [rule.admit.shares for rule in grants if rule.admit is not None]
    if len(set(offers)) > 1 and not policy.combine_min:
        return nothing, "error", "grants conflict: " + ", ".join(rule.name for rule in grants)
    if not any(caps):
        return nothing, "denied", _first_denial(rules)
    if not grants:
        return nothing, "default", policy.otherwise.because
    shares = tuple(min(column) for column in zip(caps, *offers, strict=True))
    if not any(shares):
        return nothing, "denied", "nothing is left"
    return shares, "granted", ", ".join(rule.title or rule.name for rule in grants)


def _first_denial(rules: list[Rule]) -> str:
    """Return why the first `deny` denies: its own words, or the name of its rule."""
    denials = (cap.because or rule.name for rule in rules for cap in rule.restrictions if isinstance(cap, Deny))
    return next(denials, "nothing is left")


def _meet(policy: Policy, rules: list[Rule]) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
    """Combine all restrictions: the least share and the least norm for every group."""
    caps = dict.fromkeys(policy.group_names, MICRO)
    norms: dict[str, int | None] = dict.fromkeys(policy.group_names)
    for restriction in (restriction for rule in rules for restriction in rule.restrictions):
        for group in restriction.groups:
            match restriction:
                case Deny():
                    caps[group] = 0
                case LimitShare(_, share):
                    caps[group] = min(caps[group], share)
                case LimitNorm(_, norm):
                    before = norms[group]
                    norms[group] = norm if before is None else min(before, norm)
    return tuple(caps.values()), tuple(norms.values())


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
