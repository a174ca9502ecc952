"""Questions about policies and one observation, as data: what both back-ends answer and what is exported.

A question is true or false of an observation. Leaves speak of one of the
prover's policies by position. Nothing here says how a question is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from aqpolicy.model.policy import (
    Admitted,
    All,
    Any,
    Atom,
    Budget,
    Charged,
    Condition,
    LimitNorm,
    Not,
    Op,
    Policy,
    Rule,
)
from aqpolicy.units import MICRO


@dataclass(frozen=True, slots=True)
class Holds:
    """A condition on attributes alone is true."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class Applies:
    """The guard of a rule holds."""

    rule: str
    policy: int = 0


@dataclass(frozen=True, slots=True)
class Stands:
    """A grant applies, and no rule that overrides it does."""

    rule: str
    policy: int = 0


@dataclass(frozen=True, slots=True)
class InScope:
    """A budget charges the observation, if anything is admitted to its groups."""

    budget: str
    policy: int = 0


@dataclass(frozen=True, slots=True)
class Conflict:
    """Grants that stand offer different shares, and the least does not count."""

    policy: int = 0


@dataclass(frozen=True, slots=True)
class LeftOver:
    """No grant stands, nor do restrictions close every group: what `otherwise` is for."""

    policy: int = 0


@dataclass(frozen=True, slots=True)
class Over:
    """The share admitted to a group is above an amount: never so under a conflict or while deferred."""

    group: str
    amount: int
    policy: int = 0


@dataclass(frozen=True, slots=True)
class Bounded:
    """What one example writes into a group is limited to at most a norm."""

    group: str
    norm: int
    policy: int = 0


@dataclass(frozen=True, slots=True)
class Deferred:
    """Something would be admitted, and a deferral that is not released holds it back."""

    policy: int = 0


@dataclass(frozen=True, slots=True)
class Owes:
    """The decision asks an obligation of the run, by position in `Policy.obligations`."""

    obligation: int
    policy: int = 0


@dataclass(frozen=True, slots=True)
class Exceeds:
    """One policy admits a larger share to a group than another does."""

    group: str
    policy: int
    than: int


@dataclass(frozen=True, slots=True)
class Matters:
    """Shares, norms of open groups or obligations would be others without a rule, or `otherwise` had to refuse."""

    rule: str
    policy: int = 0


@dataclass(frozen=True, slots=True)
class Before:
    """One attribute is less than another of the same type."""

    attribute: str
    other: str


@dataclass(frozen=True, slots=True)
class Spends:
    """A run of at most some length charges more than an amount to a budget; about runs, so only the solver knows."""

    budget: str
    amount: int
    epochs: int | None
    steps: int | None
    examples: int | None
    policy: int = 0


@dataclass(frozen=True, slots=True)
class Negated:
    """The question's answer is no."""

    term: Query


@dataclass(frozen=True, slots=True)
class And:
    """Every term is true."""

    terms: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Some term is true."""

    terms: tuple[Query, ...]


Leaf = (
    Holds
    | Applies
    | Stands
    | InScope
    | Conflict
    | LeftOver
    | Over
    | Bounded
    | Deferred
    | Owes
    | Exceeds
    | Matters
    | Before
    | Spends
)
Query = Leaf | Negated | And | Or

ALWAYS: Final = And(())
NEVER: Final = Or(())


def or_(terms: Iterable[Query]) -> Query:
    """Say that some term is true."""
    found = tuple(terms)
    return found[0] if len(found) == 1 else Or(found)


def leaves(query: Query) -> Iterator[Leaf]:
    """Yield the leaves of a question, from left to right."""
    if isinstance(query, Negated):
        yield from leaves(query.term)
    elif isinstance(query, And | Or):
        for term in query.terms:
            yield from leaves(term)
    else:
        yield query


# ---- Conditions on decisions


def on_decision(condition: Condition, policy: Policy, position: int = 0) -> Query:
    """Return the question that a condition on an observation and its decision asks."""
    if _is_plain(condition):
        return Holds(condition)
    match condition:
        case Not(term):
            return Negated(on_decision(term, policy, position))
        case All(terms):
            return And(tuple(on_decision(term, policy, position) for term in terms))
        case Any(terms):
            return Or(tuple(on_decision(term, policy, position) for term in terms))
        case Admitted(group, op, value):
            return _compared(op, value, lambda amount: Over(group, amount, position))
        case Charged(name, op, value):
            budget = next(budget for budget in policy.budgets if budget.name == name)
            return _compared(op, value, lambda amount: charged_over(budget, amount, position))
        case Atom():
            return Holds(condition)


def _is_plain(condition: Condition) -> bool:
    if isinstance(condition, Not):
        return _is_plain(condition.term)
    if isinstance(condition, All | Any):
        return all(_is_plain(term) for term in condition.terms)
    return isinstance(condition, Atom)


def _compared(op: Op, value: int, over: Callable[[int], Query]) -> Query:
    """Return a comparison of a share, which is never negative, in terms of being above an amount."""

    def above(amount: int) -> Query:
        return over(amount) if amount >= 0 else ALWAYS

    match op:
        case ">":
            return above(value)
        case ">=":
            return above(value - 1)
        case "<=":
            return Negated(above(value))
        case "<":
            return Negated(above(value - 1))
        case "=":
            return And((above(value - 1), Negated(above(value))))


def charged_over(budget: Budget, amount: int, position: int = 0) -> Query:
    """Ask whether a budget is charged a share above an amount."""
    return And((InScope(budget.name, position), or_(Over(group, amount, position) for group in budget.groups)))


# ---- Effects


def open_somewhere(policy: Policy, position: int = 0) -> Query:
    """Ask whether some group gets a share above 0."""
    return or_(Over(group, 0, position) for group in policy.group_names)


def fully_admitted(policy: Policy, position: int = 0) -> Query:
    """Ask whether every group gets exactly 1, without a norm limit."""
    terms: list[Query] = []
    for group in policy.group_names:
        norms = norms_of(policy, group)
        terms += [Over(group, MICRO - 1, position), Negated(Over(group, MICRO, position))]
        terms += [Negated(Bounded(group, max(norms), position))] if norms else []
    return And(tuple(terms))


def effect(word: str, policy: Policy, position: int = 0) -> Query:
    """Ask whether the decision has an effect: `deny`, `defer`, `modulate` or `admit`."""
    if word == "defer":
        return Deferred(position)
    if word == "admit":
        return fully_admitted(policy, position)
    if word == "deny":
        return And((Negated(open_somewhere(policy, position)), Negated(Deferred(position))))
    return And((open_somewhere(policy, position), Negated(fully_admitted(policy, position))))


def named(rule: Rule, position: int = 0) -> Query:
    """Ask whether a rule is among those that decide."""
    return Applies(rule.name, position) if rule.restrictions else Stands(rule.name, position)


def norms_of(policy: Policy, group: str) -> tuple[int, ...]:
    """Return the norms that rules may limit a group to, ascending."""
    limits = (limit for rule in policy.rules for limit in rule.restrictions if isinstance(limit, LimitNorm))
    return tuple(sorted({limit.norm for limit in limits if group in limit.groups}))
