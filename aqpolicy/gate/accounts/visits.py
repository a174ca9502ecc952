"""The visits of a step as tensors: who was scheduled, what was decided, what was spent, and why.

All numbers are integers: shares in millionths, surprisal, entropy and charges in
millionths of a nat. Floating point ends in `micro_nats`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

import torch
from torch import Tensor

from aqpolicy.bundle import Tables
from aqpolicy.units import MICRO

UNKNOWN: Final = -1
"""Index of an example that the manifest does not hold."""

NOT_FINITE: Final = -1
"""Surprisal of an example whose loss is not a finite number; entropy where it is not, or not known."""

LARGEST_SURPRISAL: Final = 2**31 - 1
"""Surprisals are clipped here: a little over 2147 nats."""

LARGEST_ENTROPY: Final = 100 * MICRO
"""Predictive entropies are clipped here."""


class Reason(IntEnum):
    """Why an example got other shares than its row of the table says."""

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


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The examples of a step or a part of it, in order.

    Shapes:
        keys (b), names (b), index (b,) with `UNKNOWN` where the manifest holds no such example, refused (b,).
    """

    keys: tuple[bytes, ...]
    names: tuple[str, ...]
    index: Tensor
    refused: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Decided visits, before budgets; no tensor is ever changed in place.

    Shapes:
        route (b,), surprisal (b,), entropy (b,), shares (b, g), charged (b, budgets), reasons (b, g).
    """

    scheduled: Scheduled
    route: Tensor
    surprisal: Tensor
    """`NOT_FINITE` where the loss is not finite."""
    entropy: Tensor
    """`NOT_FINITE` where it is not, or not known."""
    shares: Tensor
    charged: Tensor
    """Per budget the largest decided share among its groups; 0 where it does not apply."""
    reasons: Tensor

    def lowered(self, shares: Tensor, reason: Reason, coverage: Tensor) -> Batch:
        """Return the batch with lower shares; what follows from them follows."""
        reasons = self.reasons.masked_fill(shares < self.shares, int(reason))
        charged = largest(shares, coverage) * (self.charged > 0)
        return replace(self, shares=shares, charged=charged, reasons=reasons)


@dataclass(frozen=True, slots=True)
class Spending:
    """What is left for each visit after budgets.

    Shapes:
        shares (b, g), charges (b, budgets), reasons (b, g), deferred (b,).
    """

    batch: Batch
    """As decided: linear limits, frequency limits and holds are in it."""
    shares: Tensor
    charges: Tensor
    reasons: Tensor
    deferred: Tensor
    """Which visits wait, by a budget or by their row; one whose deferral has expired does not."""
    halted: str = ""
    """Name of the budget that stops the run, or nothing."""
    turned: Tensor | None = None
    """Which budgets deferred which visit (b, budgets); None where none did."""


def coverage(tables: Tables) -> Tensor:
    """Return which budget covers which group, as 0 and 1, shape (budgets, g)."""
    found = torch.zeros(len(tables.budgets), len(tables.groups), dtype=torch.int64, device="cpu")
    for number, budget in enumerate(tables.budgets):
        found[number, list(budget.groups)] = 1
    return found


def largest(shares: Tensor, covered: Tensor) -> Tensor:
    """Return the largest share among the groups that each budget covers, shape (b, budgets)."""
    return (shares.unsqueeze(1) * covered).amax(2)


def micro_nats(nats: Tensor, most: int = LARGEST_SURPRISAL) -> Tensor:
    """Return nats as integers of micro-nats, rounded up and clipped; `NOT_FINITE` where they are not.

    Args:
        nats: A loss, a surprisal or, with `most=LARGEST_ENTROPY`, an entropy.
        most: Where to clip, in micro-nats.
    """
    value = nats.detach().to(device="cpu", dtype=torch.float64)
    near = value.nan_to_num(0.0).clamp(0, most // MICRO + 1)
    product = near * MICRO
    whole = product.ceil()
    if nats.dtype == torch.float64:
        # Only a product that was rounded down to a whole number is not yet rounded up; narrower numbers round nothing.
        whole += (whole == product) & (_rounded_off(near, product) > 0)
    return whole.to(torch.int64).clamp_(max=most).masked_fill_(~value.isfinite(), NOT_FINITE)


def _rounded_off(value: Tensor, product: Tensor) -> Tensor:
    """Return exactly what `value * MICRO` lost by rounding, after T. J. Dekker (1971)."""
    shifted = value * (2**27 + 1)
    upper = shifted - (shifted - value)
    return (upper * MICRO - product) + (value - upper) * MICRO
