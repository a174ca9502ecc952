"""Limits that are linear in an attribute, as thresholds: where is such a limit at most an amount?"""

from __future__ import annotations

from aqpolicy.errors import InternalError
from aqpolicy.model.policy import All, Any, Atom, Condition, LimitLinear, Not, Rule
from aqpolicy.units import MICRO


def at_most(limit: LimitLinear, amount: int) -> Condition:
    """Return where a limit is at most an amount, as a condition on its attribute.

    The limit is `intercept + floor(slope * x / 10**6)`, kept between 0 and 1, so for
    an amount below 1 this asks `slope * x <= (amount - intercept + 1) * 10**6 - 1`.
    """
    if amount < 0:
        return Any(())
    if amount >= MICRO:
        return All(())
    room = (amount - limit.intercept + 1) * MICRO - 1
    if limit.slope == 0:
        return All(()) if room >= 0 else Any(())
    if limit.slope > 0:
        return Atom(limit.attribute, "<=", room // limit.slope, limit.span)
    return Atom(limit.attribute, ">=", -(room // -limit.slope), limit.span)


def limits_to(rule: Rule, limit: LimitLinear, amount: int) -> Condition:
    """Return where a rule applies and limits its groups to at most an amount."""
    return All((rule.when, at_most(limit, amount)))


def plain(condition: Condition) -> tuple[object, ...]:
    """Return a condition on attributes without the places where it is written, to be compared."""
    if isinstance(condition, Not):
        return ("not", plain(condition.term))
    if isinstance(condition, All | Any):
        return (type(condition).__name__, *map(plain, condition.terms))
    if not isinstance(condition, Atom):
        raise InternalError("a condition on attributes asks for a decision")
    return (condition.attribute, condition.op, condition.value)
