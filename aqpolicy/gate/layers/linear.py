"""`nn.Linear`, with any number of positions between the example axis and the features."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from aqpolicy.gate.layers.rule import Gradients, Rule, Use, vector_norm

GRAM_ADVANTAGE: Final = 18
"""How many positions' worth of the direct product the Gram product may cost, measured on a CPU."""


class LinearRule(Rule):
    """Weight gradient e'x, bias gradient: sum of e."""

    type_name = "Linear"

    def input_refusal(self, module: Any, x: Tensor) -> str | None:  # noqa: ARG002 - part of the interface
        """Refuse a vector: it has features, but no examples."""
        return "the input has no example axis" if x.dim() < 2 else None

    def forward(self, module: Any, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Apply the layer."""
        return functional.linear(x, module.weight, module.bias), ()

    def grad_input(self, use: Use) -> Tensor:
        """Multiply by the weight."""
        flat = use.e.reshape(-1, use.e.shape[-1])
        return flat.mm(use.module.weight).view(use.x.shape)  # type: ignore[arg-type]  # a Linear

    def gradients(self, use: Use) -> Gradients:
        """Contract over examples and positions in one product."""
        e = use.e.reshape(-1, use.e.shape[-1])
        weight = e.t().mm(use.x.reshape(-1, use.x.shape[-1])) if use.wanted[0] else None
        return weight, e.sum(0) if use.wanted[1] else None

    def per_sample(self, use: Use) -> Gradients:
        """Contract over positions only."""
        e, x = positions(use.e), positions(use.x)
        weight = torch.bmm(e.transpose(1, 2), x) if use.wanted[0] else None
        return weight, e.sum(1) if use.wanted[1] else None

    def materialises(self, use: Use) -> bool:
        """Return whether the Gram matrices and a sum of their own would cost more."""
        length, wide, narrow = positions(use.e).shape[1], use.e.shape[-1], use.x.shape[-1]
        return length > 1 and length**2 * (wide + narrow) >= GRAM_ADVANTAGE * wide * narrow

    def squared_norms(self, use: Use) -> Tensor:
        """Use whichever is cheaper: the product of norms, the Gram matrices, or the gradients themselves.

        Source: Goodfellow 2015 (one position); Bu et al. 2022, arXiv 2210.00038 (Gram form).
        """
        e, x = positions(use.e), positions(use.x)
        length, wide, narrow = e.shape[1], e.shape[2], x.shape[2]
        if length == 1:
            return self._single(use, e[:, 0], x[:, 0])
        if length * (wide + narrow) >= wide * narrow:
            return super().squared_norms(use)
        gram = torch.bmm(x, x.transpose(1, 2)) if use.wanted[0] else torch.zeros_like(e[:, :1, :1])
        gram = gram + 1 if use.wanted[1] else gram
        return (gram * torch.bmm(e, e.transpose(1, 2))).sum((1, 2)).clamp_min(0)

    @staticmethod
    def _single(use: Use, e: Tensor, x: Tensor) -> Tensor:
        inner = vector_norm(x, 1).square() if use.wanted[0] else 0.0
        return vector_norm(e, 1).square() * (inner + 1.0 if use.wanted[1] else inner)


def positions(tensor: Tensor) -> Tensor:
    """Return (b, ..., d) as (b, t, d)."""
    return tensor.reshape(tensor.shape[0], -1, tensor.shape[-1])
