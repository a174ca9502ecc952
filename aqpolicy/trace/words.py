"""What became of a visit, in the words of the log, derived again for the auditor.

Part of the auditor's own implementation: it shares no code with the gate or with
the reference semantics.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Final

from aqpolicy.bundle.tables import NO_LIMIT, Row
from aqpolicy.units import MICRO

TABLE: Final = 0
UNKNOWN_EXAMPLE: Final = 1
REFUSED_EXAMPLE: Final = 2
NOT_FINITE: Final = 3
PER_UPDATE: Final = 4
EXHAUSTED: Final = 5
DEFERRED: Final = 6
ATTENUATED: Final = 7
HALTED: Final = 8
GRADIENT_NOT_FINITE: Final = 9
LINEAR: Final = 10
FREQUENCY: Final = 11
HELD: Final = 12
DEFERRAL_EXPIRED: Final = 13

REASONS: Final = (
    "as the table says",
    "unknown example",
    "refused example",
    "loss not finite",
    "limit per update",
    "budget exhausted",
    "deferred",
    "attenuated to the budget's rest",
    "halted",
    "gradient not finite",
    "linear limit",
    "frequency limit",
    "held by a verification",
    "deferral expired",
)
"""What the reason codes of the log mean, by number."""

ERRORS: Final = (UNKNOWN_EXAMPLE, REFUSED_EXAMPLE, NOT_FINITE, GRADIENT_NOT_FINITE)
"""Reasons whose cause is `error`."""

_WHOLE_VISIT: Final = (NOT_FINITE, GRADIENT_NOT_FINITE, HALTED, DEFERRED, DEFERRAL_EXPIRED, HELD)
"""Reasons that stand for the visit where any group has them, most telling first."""


COMPARE: Final = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
"""How a policy compares a metric with a number."""


def reason_of(reasons: Sequence[int], *, known: bool, refused: bool) -> int:
    """Return the one code by which the log calls what became of a visit.

    Shapes:
        reasons (g).
    """
    if not known:
        return UNKNOWN_EXAMPLE
    if refused:
        return REFUSED_EXAMPLE
    for reason in _WHOLE_VISIT:
        if reason in reasons:
            return reason
    return max(reasons, default=TABLE)


def verdict_of(row: Row, shares: Sequence[int], reason: int, *, expired: bool = False) -> tuple[str, str]:
    """Return effect and cause of a visit with these applied shares.

    Args:
        row: Its row of the mask table.
        shares: What every group received.
        reason: Its one reason.
        expired: Whether it has waited longer than its row lets it.
    """
    if reason == DEFERRED or (row.effect == "defer" and not expired):
        effect = "defer"
    elif not any(shares):
        effect = "deny"
    else:
        whole = all(share == MICRO for share in shares) and all(norm == NO_LIMIT for norm in row.norms)
        effect = "admit" if whole else "modulate"
    if reason in ERRORS:
        return effect, "error"
    emptied = any(row.shares) and not any(shares)
    return effect, "denied" if emptied or expired else row.cause
