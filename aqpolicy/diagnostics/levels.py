"""How grave each code is unless somebody says otherwise, and which may be said to be less.

What the checker refuses stays refused: no setting turns an error into less, but for
the one code whose rule can stand beside better ones without harm (AQ306).
"""

from __future__ import annotations

from typing import Final

from aqpolicy.diagnostics.diagnostic import Diagnostic, Severity

_WARNINGS: Final = frozenset(
    ("AQ309", "AQ312", "AQ313", "AQ314", "AQ315", "AQ401", "AQ404", "AQ405"),
)
_NOTES: Final = frozenset(("AQ316", "AQ317", "AQ402", "AQ406"))

_LOWERABLE: Final = frozenset(("AQ306",))
"""Errors that may be lowered."""


def default_severity(code: str) -> Severity:
    """Return how grave a finding of a code is by default."""
    if code in _WARNINGS:
        return "warning"
    return "note" if code in _NOTES else "error"


def is_adjustable(code: str) -> bool:
    """Say whether settings may change the level of a code."""
    return default_severity(code) != "error" or code in _LOWERABLE


def may_change(finding: Diagnostic) -> bool:
    """Say whether settings may change this finding; one of a milder code that is an error here may not."""
    return finding.severity != "error" or finding.code in _LOWERABLE
