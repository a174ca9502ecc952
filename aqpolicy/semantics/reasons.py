"""What became of a visit, in words of the log: the reason of each group, the one reason, effect and cause."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from aqpolicy.bundle.tables import NO_LIMIT, Cause, Effect, Row
from aqpolicy.units import MICRO


class Reason(IntEnum):
    """Why a group's share is what it is; the numbers are those of the log."""

    TABLE = 0
    UNKNOWN_EXAMPLE = 1
    REFUSED_EXAMPLE = 2
    NOT_FINITE = 3
    PER_UPDATE = 4
    EXHAUSTED = 5
    DEFERRED = 6
    ATTENUATED = 7
    HALTED = 8
    GRADIENT_NOT_FINITE = 9
    LINEAR = 10
    FREQUENCY = 11
    HELD = 12
    DEFERRAL_EXPIRED = 13


_TELLING: Final = (
    Reason.UNKNOWN_EXAMPLE,
    Reason.REFUSED_EXAMPLE,
    Reason.NOT_FINITE,
    Reason.GRADIENT_NOT_FINITE,
    Reason.HALTED,
    Reason.DEFERRED,
    Reason.DEFERRAL_EXPIRED,
    Reason.HELD,
)
"""The reasons that stand for a whole visit wherever one group has them, first the one that wins."""

_ERRORS: Final = _TELLING[:4]


def reason_of(reasons: Sequence[Reason], *, known: bool = True, refused: bool = False) -> Reason:
    """Return the one reason of a visit, given those of its groups.

    Shapes:
        reasons (g).
    """
    if not known:
        return Reason.UNKNOWN_EXAMPLE
    if refused:
        return Reason.REFUSED_EXAMPLE
    found = (reason for reason in _TELLING if reason in reasons)
    return next(found, max(reasons, default=Reason.TABLE))


def effect_of_visit(row: Row, shares: Sequence[int], reason: Reason, *, expired: bool) -> Effect:
    """Return what happened to a visit.

    Args:
        row: Its row of the tables.
        shares: What it got.
        reason: Its one reason.
        expired: Whether its row defers and the deferral has expired.

    Shapes:
        shares (g).
    """
    if reason is Reason.DEFERRED or (row.effect == "defer" and not expired):
        return "defer"
    if not any(shares):
        return "deny"
    whole = all(share == MICRO for share in shares) and all(norm == NO_LIMIT for norm in row.norms)
    return "admit" if whole else "modulate"


def cause_of_visit(row: Row, shares: Sequence[int], reason: Reason, *, expired: bool) -> Cause:
    """Return why it happened; the arguments are those of `effect_of_visit`."""
    if reason in _ERRORS:
        return "error"
    lost = any(row.shares) and not any(shares)
    return "denied" if lost or expired else row.cause
