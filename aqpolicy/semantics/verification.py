"""What a verification and a promotion mean: when a metric is looked at, and what it must be.

A verification belongs to updates that have been committed. It compares the metric
with its value at the last check that was passed, so that many small losses do not
pass one by one. Values are millionths.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from aqpolicy.bundle.tables import ObligationTable
from aqpolicy.semantics.state import COMPARE
from aqpolicy.units import MICRO

Remedy = Literal["", "rollback", "halt", "hold"]


@dataclass(frozen=True, slots=True)
class Verified:
    """What is remembered of one verification."""

    value: int | None = None
    """The metric at the last check that was passed, or before the first update; None before that."""
    due: int | None = None
    """The step at whose end the next check takes place; None where no update waits for one."""
    held: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was found, the remedy where it was not passed, and what is remembered afterwards."""

    verified: int
    now: int
    passed: bool
    remedy: Remedy
    after: Verified


def rounded(value: float) -> int:
    """Return a metric's value in millionths, halves to the even one."""
    return round(Fraction(value) * MICRO)


def before_update(kept: Verified, now: int) -> Verified:
    """Return what is remembered before a step that may admit an update: the metric, where there is no value yet."""
    return replace(kept, value=now) if kept.value is None else kept


def after_update(obligation: ObligationTable, kept: Verified, step: int) -> Verified:
    """Return what is remembered after a step that admitted an update: a check, where none is due earlier."""
    due = step + _number(obligation, "steps") - 1
    return replace(kept, due=due if kept.due is None else min(kept.due, due))


def is_due(kept: Verified, step: int) -> bool:
    """Say whether a check takes place at the end of a step."""
    return kept.due is not None and step >= kept.due


def waits(kept: Verified) -> bool:
    """Say whether updates wait for a check, so that none may be published before it."""
    return kept.due is not None


def check(obligation: ObligationTable, kept: Verified, now: int, step: int) -> Check:
    """Return the outcome of a check at the end of a step.

    What is held is looked at again as many steps later as a check may take.
    """
    verified = now if kept.value is None else kept.value
    loss = verified - now if obligation.parameters["direction"] == "falls" else now - verified
    if loss <= _number(obligation, "amount"):
        return Check(verified, now, passed=True, remedy="", after=Verified(now))
    remedy = _remedy(obligation)
    again = step + _number(obligation, "steps") if remedy == "hold" else None
    return Check(verified, now, passed=False, remedy=remedy, after=Verified(verified, again, remedy == "hold"))


def may_promote(obligation: ObligationTable, now: int, witnesses: int) -> bool:
    """Say whether what was learned may leave the run, given the metric and how many have witnessed the candidate."""
    metric_holds = COMPARE[str(obligation.parameters["op"])](now, _number(obligation, "value"))
    return bool(metric_holds) and witnesses >= _number(obligation, "witnesses")


def _remedy(obligation: ObligationTable) -> Remedy:
    remedy = obligation.parameters["remedy"]
    return "rollback" if remedy == "rollback" else "halt" if remedy == "halt" else "hold"


def _number(obligation: ObligationTable, name: str) -> int:
    value = obligation.parameters[name]
    return value if isinstance(value, int) else 0
