"""Quotients of products that do not fit 64 bits, exactly, by cutting one factor in two."""

from __future__ import annotations

from typing import Final

from torch import Tensor

_HALF: Final = 10_000
"""A share has at most 100 million millionths: its upper and lower half are at most this."""


def part_of(share: Tensor, part: Tensor, whole: Tensor) -> Tensor:
    """Return floor(share * part / whole), for a share up to 10**8 and 0 <= part <= whole < 2**38, whole above 0."""
    upper, lower = _divided(share, _HALF)
    whole_parts, rest = _divided(upper * part, whole)
    # The rest is less than `whole`, so nothing here exceeds 2**52.
    return whole_parts * _HALF + (rest * _HALF + lower * part).div(whole, rounding_mode="trunc")


def within(share: Tensor, limit: Tensor, charged: Tensor, surprisal: Tensor) -> Tensor:
    """Return floor(share * limit / (charged * surprisal)), where the divisor is at least the limit.

    For a share and what is charged up to 10**8 and a surprisal below 2**31, the
    latter two above 0. `limit // charged` is at most the surprisal, so every product
    stays below 2**58.
    """
    quotient, rest = _divided(limit, charged)
    return (share * quotient + (share * rest).div(charged, rounding_mode="trunc")).div(surprisal, rounding_mode="trunc")


def _divided(value: Tensor, by: Tensor | int) -> tuple[Tensor, Tensor]:
    """Return quotient and rest of numbers that are not negative."""
    quotient = value.div(by, rounding_mode="trunc")
    return quotient, value - quotient * by
