"""Layers whose weight gradient is a sum of outer products of input and output gradient, and whose bias shifts.

Norms can be had in three ways, and the cheapest is chosen: as a product of norms
where an example has one position, from the Gram matrices of its positions, or
from the example's own gradient, which then also gives the weighted sum.

Source: Goodfellow 2015, arXiv 1510.01799 (one position); Bu et al. 2022, arXiv 2210.00038 (Gram form).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import torch
from torch import Tensor

from aqpolicy.gate.routing.images import Edge, Product
from aqpolicy.gate.routing.layers.rule import (
    Gradients,
    Images,
    Rule,
    Use,
    add_up,
    chunks,
    joined,
    times,
    vector_norm,
    widened,
)

GRAM_ADVANTAGE: Final = 70
"""How much a materialised gradient costs per element, in products of the Gram form; measured on a CPU.

Below it, Gram matrices and a weighted sum of its own beat the examples' own gradients, norm and sum together. Beyond it
they still do, by little, and the worst norm of a transformer is off by just over a millionth. A constant and not a
measurement at attach: the same run makes the same numbers.
"""

GRAM_ADVANTAGE_ELSEWHERE: Final = 100
"""The same on an accelerator."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How large an example's outer products are: positions, and features on either side."""

    length: int
    wide: int
    narrow: int

    @property
    def gram_for_norms(self) -> bool:
        """Whether Gram matrices are the cheaper way to the norms alone."""
        return self.length == 1 or self.length * (self.wide + self.narrow) < self.wide * self.narrow

    def gram_for_both(self, advantage: int) -> bool:
        """Return whether Gram matrices and a weighted sum of its own are the cheaper way to both.

        Args:
            advantage: How much a materialised gradient costs per element, in products of the Gram form.
        """
        return self.length == 1 or self.length**2 * (self.wide + self.narrow) < advantage * self.wide * self.narrow

    @property
    def fewer_in_factors(self) -> bool:
        """Whether both sides together hold fewer numbers than their product."""
        return self.length * (self.wide + self.narrow) <= self.wide * self.narrow


class OuterRule(Rule):
    """A weight that multiplies and, perhaps, a bias."""

    autocast = "low"
    autocast_cuda = "low"
    shift_apart: ClassVar[bool] = False
    """Whether the bias adds up other positions than those of the outer products."""
    rows_are_inputs: ClassVar[bool] = False
    """Whether the weight has input features on its first axis."""

    def advantage(self, device: torch.device) -> int:
        """Return how much a materialised gradient costs per element, in products of the Gram form."""
        return GRAM_ADVANTAGE if device.type == "cpu" else GRAM_ADVANTAGE_ELSEWHERE

    @abstractmethod
    def extent(self, use: Use) -> Extent | None:
        """Return the size of the outer products; None where only the gradients themselves give the norms."""

    @abstractmethod
    def factors(self, use: Use) -> tuple[Tensor, Tensor]:
        """Return both sides of the outer products, (b, t, narrow) and (b, t, wide), in single precision at least."""

    @abstractmethod
    def shift(self, use: Use) -> Tensor:
        """Return each example's gradient of the bias, (b, o), in single precision at least."""

    def weighted(self, use: Use, factors: Tensor) -> Gradients:
        """Scale whichever of input and output gradient is smaller."""
        if not use.wanted[0] or use.x.numel() >= use.e.numel():
            return super().weighted(use, factors)
        scaled = replace(use, x=times(use.x, factors), wanted=(True, False))
        bias = None
        if use.wanted[1]:
            own = self.shift(use)
            bias = (factors.to(own.dtype) @ own).to(use.e.dtype)
        return self.gradients(scaled)[0], bias

    def materialises(self, use: Use) -> bool:
        """Return whether the Gram matrices and a sum of their own would cost more."""
        extent = self.extent(use)
        return use.wanted[0] and (extent is None or not extent.gram_for_both(self.advantage(use.e.device)))

    def squared_norms(self, use: Use) -> Tensor:
        """Choose the cheapest way."""
        if not use.wanted[0]:
            return vector_norm(self.shift(use), 1).square()
        extent = self.extent(use)
        if extent is None or not extent.gram_for_norms:
            return super().squared_norms(use)
        size = (2 * extent.length + extent.narrow) * extent.length * max(4, use.e.itemsize)
        return joined([self._norms(some) for some in chunks(use, size)])

    def _norms(self, use: Use) -> Tensor:
        together = use.wanted[1] and not self.shift_apart
        norms = outer_norms(*self.factors(use), bias=together)
        return norms + vector_norm(self.shift(use), 1).square() if use.wanted[1] and not together else norms

    def sketches_apart(self, use: Use) -> bool:
        """Return whether both sides together are smaller than their product."""
        extent = self.extent(use)
        return extent is not None and extent.fewer_in_factors

    def sketched(self, use: Use, images: Images) -> Tensor:
        """Convolve the images of both sides; an example's own gradient is not made."""
        weight, bias = (image if wanted else None for image, wanted in zip(images, use.wanted, strict=True))
        extent = self.extent(use)
        if extent is None or not isinstance(weight, Product):
            return super().sketched(use, images)
        along = weight.columns if self.rows_are_inputs else weight.rows
        edge = bias if isinstance(bias, Edge) and bias.side is along and not self.shift_apart else None
        size = extent.length * (extent.wide + extent.narrow) * max(4, use.e.itemsize)
        parts = [joined([weight.of_products(*self.sides(some), edge) for some in chunks(use, size)])]
        if bias is not None and edge is None:
            parts.append(bias.of(self.shift(use)))
        return add_up(parts)

    def sides(self, use: Use) -> tuple[Tensor, Tensor]:
        """Return the sides of the outer products in the order of the weight's axes."""
        x, e = self.factors(use)
        return (x, e) if self.rows_are_inputs else (e, x)


def outer_norms(x: Tensor, e: Tensor, *, bias: bool) -> Tensor:
    """Return the squared norms of e'x, and of the sum of e with `bias`, together, without making e'x.

    Shapes:
        x (b, t, i), e (b, t, o) -> (b,).
    """
    if e.shape[1] == 1:
        inner, outer = vector_norm(x, 2).square_(), vector_norm(e, 2).square_()
        return outer.mul_(inner.add_(1) if bias else inner).squeeze(1)
    ones = x.new_ones(()).expand(x.shape[0], x.shape[1], x.shape[1])
    gram = torch.baddbmm(ones, x, x.transpose(1, 2)) if bias else torch.bmm(x, x.transpose(1, 2))
    return gram.mul_(torch.bmm(e, e.transpose(1, 2))).sum(2).sum(1).clamp_min_(0)


def positions(tensor: Tensor) -> Tensor:
    """Return (b, ..., d) as (b, t, d)."""
    return tensor.reshape(tensor.shape[0], -1, tensor.shape[-1])


def summed(e: Tensor) -> Tensor:
    """Return the sum over positions, (b, t, d) -> (b, d), in single precision at least."""
    return e.squeeze(1) if e.shape[1] == 1 and e.itemsize >= 4 else e.sum(1, dtype=widened(e[:0]).dtype)
