"""Exact numbers: every number of a policy is an integer count of millionths.

The evaluator, the solver and the runtime compare these integers, so a proof
speaks about the very numbers that training compares.
"""

from __future__ import annotations

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
