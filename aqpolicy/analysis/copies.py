"""A policy once more over other values: the same rules, with some attributes under other names.

Two copies over one space let one question speak of two observations that differ
in these attributes only.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from aqpolicy.model.policy import (
    All,
    Any,
    Atom,
    Attribute,
    Condition,
    Defer,
    LimitLinear,
    Not,
    Policy,
    Restriction,
    Rule,
)
from aqpolicy.space.partition import comparisons


def other_name(attribute: str) -> str:
    """Return the name of an attribute's second value; no author can write it."""
    return f"{attribute}'"


def second(policy: Policy, names: Collection[str]) -> Policy:
    """Return the policy over second values of the named attributes."""

    def rule(old: Rule) -> Rule:
        restrictions = tuple(_restriction(item, names) for item in old.restrictions)
        return replace(old, when=renamed(old.when, names), restrictions=restrictions)

    taxonomy = replace(policy.taxonomy, attributes=tuple(_attribute(a, names) for a in policy.taxonomy.attributes))
    return replace(
        policy,
        taxonomy=taxonomy,
        derived=tuple(_attribute(attribute, names) for attribute in policy.derived),
        rules=tuple(rule(old) for old in policy.rules),
        budgets=tuple(replace(budget, when=renamed(budget.when, names)) for budget in policy.budgets),
        proofs=(),
        cases=(),
        extends=None,
    )


def renamed(condition: Condition, names: Collection[str]) -> Condition:
    """Return a condition over second values; the very same condition where it does not ask for them."""
    if not any(atom.attribute in names for atom in comparisons(condition)):
        return condition
    match condition:
        case Atom():
            return replace(condition, attribute=other_name(condition.attribute))
        case Not(term):
            return Not(renamed(term, names))
        case All(terms):
            return All(tuple(renamed(term, names) for term in terms))
        case Any(terms):
            return Any(tuple(renamed(term, names) for term in terms))
        case _:
            return condition


def _attribute(attribute: Attribute, names: Collection[str]) -> Attribute:
    return replace(attribute, name=other_name(attribute.name)) if attribute.name in names else attribute


def _restriction(item: Restriction, names: Collection[str]) -> Restriction:
    if isinstance(item, Defer):
        return replace(item, until=renamed(item.until, names))
    if isinstance(item, LimitLinear) and item.attribute in names:
        return replace(item, attribute=other_name(item.attribute))
    return item
