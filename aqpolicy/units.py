"""Exact numbers: every number of a policy is an integer count of millionths.

The evaluator, the solver and the runtime compare these integers, so a proof
speaks about the very numbers that training compares.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

MICRO: Final = 1_000_000
"""Millionths in one."""

UNITS: Final = ("nat", "l2", "examples", "steps", "epochs")
"""The units of the language; there is no conversion between them."""


def micro_text(value: int) -> str:
    """Return a number of millionths as the shortest exact decimal."""
    sign = "-" if value < 0 else ""
    whole, part = divmod(abs(value), MICRO)
    digits = f"{part:06d}".rstrip("0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


DAY_ZERO: Final = date(1970, 1, 1)
"""The date that is counted as 0."""

LAST_DAY: Final = (date.max - DAY_ZERO).days
"""The last day of the calendar."""


def date_text(value: int) -> str:
    """Return a count of days, in millionths, as a date; the end of the calendar stands for what lies behind it."""
    return (DAY_ZERO + timedelta(days=min(value // MICRO, LAST_DAY))).isoformat()


def value_text(value: str | int, kind: str = "number") -> str:
    """Return a value of an attribute as its author would write it; `kind` is that of a numeric type."""
    if isinstance(value, str):
        return value
    return date_text(value) if kind == "date" else micro_text(value)
