"""Put two policies on common ground: the attributes and values that both know, and what only one does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from aqpolicy.analysis.linear import plain
from aqpolicy.analysis.query import ALWAYS, Applies, InScope, Query, or_
from aqpolicy.analysis.reading import overriding
from aqpolicy.analysis.wording import domain_text, quoted
from aqpolicy.diagnostics import Span
from aqpolicy.errors import InputError
from aqpolicy.model.policy import (
    All,
    Any,
    Atom,
    Attribute,
    AttributeType,
    Category,
    Condition,
    Defer,
    Not,
    Numeric,
    Policy,
    Restriction,
    Rule,
)

OLD, NEW = 0, 1
"""Positions of the policies."""

_NOWHERE = Span("", 0, 0, 1, 1)


def aligned(old: Policy, new: Policy) -> tuple[Policy, Policy]:
    """Return both policies over common values of the attributes that they share; each keeps its own others.

    Raises:
        InputError: An attribute of both has no value in common.
    """
    mine, theirs = _types(old), _types(new)
    common = {name: _common(name, kind, theirs[name]) for name, kind in mine.items() if name in theirs}
    return _over(old, common), _over(new, common)


def touched(old: Policy, new: Policy) -> Query:
    """Ask for observations that a rule or budget speaks of which is not the same in both policies.

    All others are decided alike: the same rules apply to them, and do the same.
    """
    if old.combine_min != new.combine_min or old.group_names != new.group_names:
        return ALWAYS
    mine, theirs = _meanings(old), _meanings(new)
    rules = [Applies(name, OLD) for name, meaning in mine.items() if theirs.get(name) != meaning]
    rules += [Applies(name, NEW) for name, meaning in theirs.items() if mine.get(name) != meaning]
    scopes, others = _scopes(old), _scopes(new)
    budgets = [InScope(name, OLD) for name, scope in scopes.items() if others.get(name) != scope]
    budgets += [InScope(name, NEW) for name, scope in others.items() if scopes.get(name) != scope]
    return or_([*rules, *budgets])


def _meanings(policy: Policy) -> dict[str, tuple[object, ...]]:
    """Return what each rule says, wherever it is written, and what overrides it."""
    above = overriding(policy.rules)
    return {
        rule.name: (
            plain(rule.when),
            rule.admit.shares if rule.admit is not None else None,
            tuple(asked_for(restriction) for restriction in rule.restrictions),
            frozenset(above.get(rule.name, ())),
        )
        for rule in policy.rules
    }


def _scopes(policy: Policy) -> dict[str, tuple[object, ...]]:
    return {budget.name: (plain(budget.when), frozenset(budget.groups)) for budget in policy.budgets}


def asked_for(restriction: Restriction) -> tuple[object, ...]:
    """Return what a restriction says, wherever it is written."""
    if isinstance(restriction, Defer):
        return (plain(restriction.until), restriction.epochs)
    return (type(restriction).__name__, replace(restriction, span=_NOWHERE))


def vocabulary_changes(old: Policy, new: Policy) -> tuple[str, ...]:
    """Return in words what the policies speak of differently: attributes, values, depth groups."""
    return (*_attribute_changes(old, new), *_group_changes(old, new))


def _types(policy: Policy) -> dict[str, AttributeType]:
    return {attribute.name: attribute.type for attribute in policy.attributes}


def _common(name: str, one: AttributeType, other: AttributeType) -> AttributeType:
    """Return the type whose values are those that two types share."""
    if one == other:
        return one
    if isinstance(one, Category) and isinstance(other, Category):
        values = tuple(value for value in one.values if value in other.values)
        if values:
            return Category(values, 0)
    if isinstance(one, Numeric) and isinstance(other, Numeric):
        kind = one if one.step >= other.step else other
        low, high = max(one.low, other.low), min(one.high, other.high)
        low, high = -(-low // kind.step) * kind.step, high // kind.step * kind.step
        if low <= high:
            return replace(kind, low=low, high=high)
    raise InputError(f"attribute `{name}` has no value that both policies know, so they cannot be compared")


# ---- A policy over fewer values


def _over(policy: Policy, types: Mapping[str, AttributeType]) -> Policy:
    """Return a policy over other types of some attributes; conditions on values that are gone never hold."""
    if all(types.get(attribute.name, attribute.type) == attribute.type for attribute in policy.attributes):
        return policy

    def retyped(attribute: Attribute) -> Attribute:
        return replace(attribute, type=types.get(attribute.name, attribute.type))

    def rule(old: Rule) -> Rule:
        restrictions = tuple(
            replace(item, until=_known(item.until, types)) if isinstance(item, Defer) else item
            for item in old.restrictions
        )
        return replace(old, when=_known(old.when, types), restrictions=restrictions)

    return replace(
        policy,
        taxonomy=replace(policy.taxonomy, attributes=tuple(map(retyped, policy.taxonomy.attributes))),
        derived=tuple(map(retyped, policy.derived)),
        rules=tuple(map(rule, policy.rules)),
        budgets=tuple(replace(budget, when=_known(budget.when, types)) for budget in policy.budgets),
    )


def _known(condition: Condition, types: Mapping[str, AttributeType]) -> Condition:
    match condition:
        case Atom(name, _, value):
            kind = types.get(name)
            return Any(()) if isinstance(kind, Category) and value not in kind.values else condition
        case Not(term):
            return Not(_known(term, types))
        case All(terms):
            return All(tuple(_known(term, types) for term in terms))
        case Any(terms):
            return Any(tuple(_known(term, types) for term in terms))
        case _:
            return condition


# ---- What has changed


def _attribute_changes(old: Policy, new: Policy) -> Iterator[str]:
    # Attributes that the language provides come and go with the conditions that use them.
    mine = {attribute.name: attribute.type for attribute in old.taxonomy.attributes}
    theirs = {attribute.name: attribute.type for attribute in new.taxonomy.attributes}
    yield from (f"attribute `{name}` is gone" for name in mine if name not in theirs)
    yield from (f"attribute `{name}` is new" for name in theirs if name not in mine)
    both = [name for name in mine if name in theirs and mine[name] != theirs[name]]
    both += [a.name for a in old.derived if _types(new).get(a.name, a.type) != a.type]
    for name in both:
        yield from _type_changes(name, _types(old)[name], _types(new)[name])


def _type_changes(name: str, one: AttributeType, other: AttributeType) -> Iterator[str]:
    if isinstance(one, Category) and isinstance(other, Category):
        gone = [value for value in one.values if value not in other.values]
        added = [value for value in other.values if value not in one.values]
        if gone:
            yield f"attribute `{name}` no longer has {quoted(gone)}"
        if added:
            yield f"attribute `{name}` now also has {quoted(added)}"
        if not gone and not added:
            yield f"the values of attribute `{name}` stand in another order"
    else:
        yield f"attribute `{name}` was {domain_text(one)}, and is {domain_text(other)}"


def _group_changes(old: Policy, new: Policy) -> Iterator[str]:
    mine = {group.name: group for group in old.groups}
    theirs = {group.name: group for group in new.groups}
    yield from (f"depth group `{name}` is gone" for name in mine if name not in theirs)
    yield from (f"depth group `{name}` is new" for name in theirs if name not in mine)
    for name in (name for name in mine if name in theirs):
        one, other = ([(m.kind, m.first, m.last) for m in group.modules] for group in (mine[name], theirs[name]))
        if one != other:
            yield f"depth group `{name}` covers other parts of the model"
        if mine[name].protected != theirs[name].protected:
            yield f"depth group `{name}` is {'now' if theirs[name].protected else 'no longer'} protected"
