"""Shares that are linear in an attribute, exactly, in 64 bits.

A limit is `intercept + floor(slope * value / 10**6)`, kept between 0 and 1. The
product may need more than 100 bits. So slope and value are cut into millions and
rest, and the one product that is still large is cut off where it decides alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from aqpolicy.bundle import LARGEST_SHARE, Tables
from aqpolicy.errors import BundleError
from aqpolicy.gate.accounts.columns import Columns, Observations, Sight
from aqpolicy.gate.accounts.visits import Batch, Reason
from aqpolicy.units import MICRO

LARGEST: Final = 2**53
"""No number of the language is as large."""

_ENOUGH: Final = 2**56
"""More than everything else in a limit can make up for."""


class LinearLimits:
    """The linear limits of all rows, as many terms for each as the longest has."""

    def __init__(self, tables: Tables, manifest: Observations) -> None:
        """Read the limits, and the values of the manifest that they depend on.

        Raises:
            BundleError: A number is larger than any of the language.
        """
        self._used = sorted({position for row in tables.rows for _, position, _, _ in row.linear})
        self._columns = Columns(tables, manifest, self._used)
        most = max((len(row.linear) for row in tables.rows), default=0)
        terms = [[self._term(*term) for term in row.linear] for row in tables.rows]
        padded = [row + [_NO_TERM] * (most - len(row)) for row in terms]
        self._terms = torch.tensor(padded, dtype=torch.int64, device="cpu").reshape(len(terms), most, len(_NO_TERM))

    def __bool__(self) -> bool:
        """Say whether any row has a linear limit."""
        return bool(self._used)

    def apply(self, batch: Batch, sight: Sight, coverage: Tensor) -> Batch:
        """Return the batch with every share within the linear limits of its row."""
        columns = [_column(self._columns.of(position, sight), sight.slot) for position in self._used]
        group, attribute, *numbers = self._terms.index_select(0, batch.route).unbind(2)
        limit = _limit(torch.stack(columns, dim=1).gather(1, attribute), numbers)
        shares = batch.shares.scatter_reduce(1, group, limit, "amin")
        return batch.lowered(shares, Reason.LINEAR, coverage) if bool((shares < batch.shares).any()) else batch

    def _term(self, group: int, position: int, intercept: int, slope: int) -> tuple[int, ...]:
        if max(abs(intercept), abs(slope)) > LARGEST:
            raise BundleError("the bundle holds a linear share with a number outside the language")
        decisive = _ENOUGH // max(abs(slope), 1) + 1
        return (group, self._used.index(position), MICRO, intercept, slope, *divmod(slope, MICRO), decisive)


_NO_TERM: Final = (0, 0, LARGEST_SHARE, LARGEST_SHARE, 0, 0, 0, 0)
"""A term that limits nothing."""


def _limit(value: Tensor, numbers: Sequence[Tensor]) -> Tensor:
    """Return `intercept + floor(slope * value / 10**6)`, kept between 0 and `top`.

    `slope` is `millions * 10**6 + rest`; `decisive` times the slope is more than `_ENOUGH`.
    """
    top, intercept, slope, millions, rest, decisive = numbers
    whole, part = value.div(MICRO, rounding_mode="floor"), value.remainder(MICRO)
    # At most 2**53 each, and so less than `_ENOUGH` together.
    small = intercept + millions * part + (rest * part).div(MICRO, rounding_mode="floor")
    large = slope * torch.minimum(torch.maximum(whole, -decisive), decisive)
    return torch.minimum((large + small).clamp_min_(0), top)


def _column(values: Tensor | int, like: Tensor) -> Tensor:
    return torch.full_like(like, values) if isinstance(values, int) else values
