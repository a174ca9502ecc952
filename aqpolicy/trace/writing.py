"""What the visits of one step wrote, as linear algebra: scores, kernels and sums, in whichever space a run recorded.

All vectors are flat, group after group. The reverse pass needs three things of a
step with gradients g_v: <d, g_v> per group, <g_v, g_w> over all groups, and sums
of y_v g_v. From factors they come without the gradients themselves where that is
cheaper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

import torch
from torch import Tensor

from aqpolicy.trace.factors import OUTER, FactorShape, Layer, Written


class Writing(Protocol):
    """The admitted gradients of the visits of one step."""

    @property
    def count(self) -> int:
        """Number of visits."""

    def scores(self, adjoints: Tensor) -> Tensor:
        """Return <adjoint, g_v> by adjoint, visit and group, (k, n) -> (k, b, g)."""

    def kernel(self, weights: Tensor, ground: Tensor | None) -> Tensor:
        """Return <g_v, P g_w> with every group's gradients multiplied by its weight first.

        Shapes:
            weights (g), ground (n) or None for ones -> (b, b).
        """

    def pull(self, weights: Tensor) -> Tensor:
        """Return sums of weight times gradient, (k, b, g) -> (k, n)."""

    def gradients(self) -> Tensor:
        """Return the gradients themselves, before the factor where that is known, (b, n)."""


@dataclass(frozen=True, slots=True)
class SketchWriting:
    """Sketches of admitted gradients.

    Shapes:
        rows (b, n).
    """

    rows: Tensor
    widths: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of visits."""
        return len(self.rows)

    def scores(self, adjoints: Tensor) -> Tensor:
        """Return <adjoint, g_v> by adjoint, visit and group."""
        pairs = zip(*(torch.split(one, list(self.widths), 1) for one in (adjoints, self.rows)), strict=True)
        return torch.stack([own @ rows.T.to(own.dtype) for own, rows in pairs], dim=2)

    def kernel(self, weights: Tensor, ground: Tensor | None) -> Tensor:
        """Return <g_v, P g_w>."""
        rows = self.rows * spread(weights, self.widths)
        return rows @ rows.T if ground is None else (rows * ground) @ rows.T

    def pull(self, weights: Tensor) -> Tensor:
        """Return sums of weight times gradient."""
        parts = torch.split(self.rows, list(self.widths), 1)
        return torch.cat([weights[:, :, group] @ part for group, part in enumerate(parts)], dim=1)

    def gradients(self) -> Tensor:
        """Return the admitted gradients themselves."""
        return self.rows


@dataclass(frozen=True, slots=True)
class _Part:
    """One parameter of a group.

    Shapes:
        rows (b, r), columns (b, c) of one outer product, or values (b, n).
    """

    group: int
    start: int
    stop: int
    rows: Tensor | None
    columns: Tensor | None
    values: Tensor | None

    def dot(self, adjoints: Tensor) -> Tensor:
        """Return inner products, (k, n) -> (k, b)."""
        own = adjoints[:, self.start : self.stop]
        if self.rows is None or self.columns is None:
            assert self.values is not None  # noqa: S101 - for mypy
            return own @ self.values.T
        return (torch.matmul(self.rows, own.reshape(len(own), self.rows.shape[1], -1)) * self.columns).sum(2)

    def dense(self) -> Tensor:
        """Return the gradients themselves, (b, n)."""
        if self.rows is not None and self.columns is not None:
            return (self.rows.unsqueeze(2) * self.columns.unsqueeze(1)).flatten(1)
        assert self.values is not None  # noqa: S101 - for mypy
        return self.values

    def gram(self, ground: Tensor | None) -> Tensor:
        if ground is None and self.rows is not None and self.columns is not None:
            return (self.rows @ self.rows.T) * (self.columns @ self.columns.T)
        values = self.dense()
        if ground is not None:
            values = values * ground[self.start : self.stop].sqrt()
        return values @ values.T

    def sum(self, weights: Tensor) -> Tensor:
        """Return weighted sums, (k, b) -> (k, n)."""
        if self.rows is None or self.columns is None:
            assert self.values is not None  # noqa: S101 - for mypy
            return weights @ self.values
        return torch.matmul((weights.unsqueeze(2) * self.rows).transpose(1, 2), self.columns).flatten(1)


class FactorWriting:
    """Factors: both sides of outer products where there is one position, else the gradients themselves."""

    def __init__(self, shape: FactorShape, records: Sequence[bytes]) -> None:
        """Read the records of a step.

        Raises:
            CorruptLogError: They are none of this layout.
        """
        alike = shape.together(records)
        count = len(records)
        if len(alike) == 1:
            layers = alike[0][1]
        else:
            layers = tuple(_merged(count, group, alike) for group in range(len(shape.shapes)))
        self.factors = torch.stack([torch.from_numpy(layer.factors) for layer in layers], dim=1)
        """What of every gradient was admitted, (b, g)."""
        self._parts: list[_Part] = []
        self._size, at = sum(shape.sizes), 0
        for group, layer in enumerate(layers):
            for one in layer.written:
                part = _part(group, at, one, count)
                at += one.size
                if part is not None:
                    self._parts.append(part)

    @property
    def count(self) -> int:
        """Number of visits."""
        return len(self.factors)

    def prices(self, adjoints: Tensor) -> Tensor:
        """Return <adjoint, g_v / factor>, what each gradient would score if all of it were admitted, (k, b, g)."""
        found = torch.zeros(len(adjoints), *self.factors.shape, dtype=torch.float64)
        single = adjoints.float()
        for part in self._parts:
            found[:, :, part.group] += part.dot(single)
        return found

    def scores(self, adjoints: Tensor) -> Tensor:
        """Return <adjoint, g_v> by adjoint, visit and group."""
        return self.prices(adjoints) * self.factors

    def kernel(self, weights: Tensor, ground: Tensor | None) -> Tensor:
        """Return <g_v, P g_w>."""
        admitted = self.factors * weights
        total = torch.zeros(len(admitted), len(admitted), dtype=torch.float64)
        ground = None if ground is None else ground.float()
        for part in self._parts:
            own = admitted[:, part.group]
            total += part.gram(ground) * torch.outer(own, own)
        return total

    def pull(self, weights: Tensor) -> Tensor:
        """Return sums of weight times gradient."""
        admitted = self.factors * weights
        total = torch.zeros(len(weights), self._size, dtype=self.factors.dtype)
        for part in self._parts:
            total[:, part.start : part.stop] = part.sum(admitted[:, :, part.group].to(self.factors.dtype))
        return total.double()

    def gradients(self) -> Tensor:
        """Return the gradients themselves, before the factor."""
        whole = torch.zeros(self.count, self._size, dtype=self.factors.dtype)
        for part in self._parts:
            whole[:, part.start : part.stop] = part.dense()
        return whole


def _part(group: int, start: int, one: Written, count: int) -> _Part | None:
    stop = start + one.size
    if one.kind == OUTER and one.rows is not None and one.columns is not None and one.rows.shape[1] == 1:
        rows, columns = (torch.from_numpy(side[:, 0]) for side in (one.rows, one.columns))
        return _Part(group, start, stop, rows, columns, None)
    if not one.kind:
        return None
    return _Part(group, start, stop, None, None, torch.from_numpy(one.dense(count)))


def _merged(count: int, group: int, alike: Sequence[tuple[list[int], tuple[Layer, ...]]]) -> Layer:
    """Put visits that are laid out differently together, as the gradients themselves."""
    first = alike[0][1][group]
    factors = torch.zeros(count)
    values = [torch.zeros(count, one.size) for one in first.written]
    for numbers, layers in alike:
        factors[numbers] = torch.from_numpy(layers[group].factors)
        for whole, one in zip(values, layers[group].written, strict=True):
            whole[numbers] = torch.from_numpy(one.dense(len(numbers)))
    written = tuple(Written(4, whole.shape[1], values=whole.numpy()) for whole in values)
    return Layer(factors.numpy(), written)


def spread(values: Tensor, widths: Sequence[int]) -> Tensor:
    """Return one number per column from one per group."""
    return values.repeat_interleave(torch.tensor(widths))


def split(flat: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """Return the groups' parts of a flat vector."""
    return [flat[start:stop] for start, stop in pairwise(accumulate(widths, initial=0))]
