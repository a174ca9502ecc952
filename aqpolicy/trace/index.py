"""A run compiled for questions: one row of bytes per example, so that a behaviour costs one backward pass, one product.

The estimate of `attribution` is linear in the behaviour's gradient. Its answers
to an orthonormal basis of `k` gradients therefore answer every gradient within
their span. Rows are rounded to bytes; sums by credential and depth group are kept
exactly. `compiling` makes an index, `index_file` keeps it, `answering` asks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

import torch
from torch import Tensor

from aqpolicy.gate import SketchPlan

ROUNDED: Final = 127
"""Levels on either side of zero."""

WHOLE: Final = 64
"""Numbers that a processor takes at once, or a multiple of them: rows are that long, or a multiple."""

_ROUGH: Final = 2.0**-6
"""Largest part that a score of short numbers may be off by: two roundings to 8 bits, and room."""

_BLOCK: Final = 16384
"""Rows that are multiplied at once."""

Parameters = tuple[tuple[tuple[str, tuple[int, ...]], ...], ...]
"""Per group, name and shape of each parameter that the bundle governs."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an index is of."""

    run: str
    policy: str
    model: str
    """Digest of the published model."""
    damp: float
    groups: tuple[str, ...]
    parameters: Parameters
    shapes: tuple[tuple[tuple[int, ...], ...], ...]
    """Per group, the shapes of its trained parameters."""
    sketch: tuple[int, int] | None
    """Numbers per group and seed of the run's sketches; None where it recorded factors."""
    credentials: tuple[str, ...]
    examples: tuple[str, ...]
    captured: float
    """Part of the run's own last gradients that lies in the basis: mean squared cosine."""

    def image(self, group: int, flat: Tensor) -> Tensor:
        """Return what a flat gradient of a group is in the space that the run recorded."""
        if self.sketch is None:
            return flat
        return SketchPlan(self.shapes, *self.sketch).sketch(group, flat)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers per group in that space."""
        sizes = [sum(prod(shape) for shape in shapes) for shapes in self.shapes]
        return tuple(sizes if self.sketch is None else (min(self.sketch[0], size) for size in sizes))


@dataclass(frozen=True)
class Index:
    """A compiled run.

    Shapes:
        basis (k, n), orthonormal rows; levels (e, k), bytes; scales (e,); owners (e,), positions in `credentials`;
        sums (c, g, k); visits (c,).
    """

    facts: Facts
    basis: Tensor
    levels: Tensor
    scales: Tensor
    owners: Tensor
    sums: Tensor
    visits: Tensor

    def scores(self, known: Tensor) -> Tensor:
        """Return every example's score for a behaviour of these coefficients, (k,) -> (e,)."""
        found = torch.empty(len(self.levels))
        room, wanted = torch.empty(_BLOCK, self.levels.shape[1]), known.float()
        for start in range(0, len(found), _BLOCK):
            rows = self.levels[start : start + _BLOCK]
            torch.mv(room[: len(rows)].copy_(rows), wanted, out=found[start : start + len(rows)])
        return found.mul_(self.scales)

    def strongest(self, known: Tensor, count: int) -> tuple[list[int], list[float]]:
        """Return the examples with the largest scores, whatever their sign, and these.

        All rows are first multiplied in short floating point, which is as fast as they come out of memory; those that
        this cannot rule out are multiplied again.

        Shapes:
            known (k,).
        """
        count = min(count, len(self.levels))
        rough = self._roughly(known.float()) if count else torch.empty(0)
        if rough is None:
            rough, chosen = self.scores(known), None
        else:
            least = rough.abs().topk(count).values[-1] if count else torch.zeros(())
            chosen = (rough.abs() >= least * (1 - _ROUGH)).nonzero().squeeze(1)
            rough = (self.levels[chosen].float() @ known.float()) * self.scales[chosen]
        best = rough.abs().topk(count).indices
        found = best if chosen is None else chosen[best]
        return found.tolist(), rough[best].tolist()

    def _roughly(self, known: Tensor) -> Tensor | None:
        """Return all scores to one part in a hundred, or None where torch has no such product."""
        # It reads whole registers, also behind the end of a row.
        product = getattr(torch, "_weight_int8pack_mm", None) if self.levels.shape[1] % WHOLE == 0 else None
        largest = known.abs().max() if len(known) else torch.zeros(())
        if product is None or not largest > 0 or not bool(largest.isfinite()):
            return None
        # What the first short number of a coefficient leaves over is the second one.
        whole = known / largest
        high = whole.bfloat16()
        pair = torch.stack([high, (whole - high.float()).bfloat16()])
        try:
            found: Tensor = product(pair, self.levels, torch.ones(len(self.levels), dtype=torch.bfloat16))
        except RuntimeError:
            return None
        return found.float().sum(0).mul_(self.scales).mul_(largest)


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return levels and scales of rows, each rounded by its own largest number.

    Shapes:
        rows (e, k) -> (e, k), (e,).
    """
    largest = rows.abs().amax(1) if rows.shape[1] else rows.new_zeros(len(rows))
    scales = torch.where(largest > 0, largest / ROUNDED, 0.0).float()
    levels = (rows / torch.where(scales > 0, scales, 1.0).unsqueeze(1)).round_().clamp_(-ROUNDED, ROUNDED)
    return levels.to(torch.int8), scales
