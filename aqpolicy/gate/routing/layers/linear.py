"""Linear layers, with any number of positions between the example axis and the features."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from aqpolicy.gate.routing.layers.outer import Extent, OuterRule, positions, summed
from aqpolicy.gate.routing.layers.rule import Gradients, Use, Weights, widened


class LinearRule(OuterRule):
    """`nn.Linear`: weight gradient e'x, bias gradient the sum of e."""

    type_name = "Linear"
    positionwise = True

    def input_refusal(self, module: Any, x: Tensor) -> str | None:  # noqa: ARG002 - part of the interface
        """Refuse a vector: it has features, but no examples."""
        return "the input has no example axis" if x.dim() < 2 else None

    def forward(self, module: Any, x: Tensor, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:  # noqa: ARG002 - part of the interface
        """Apply the layer."""
        weight: Any = weights[0]
        if not x.is_contiguous():
            # With gaps in the input, torch chooses its kernel by whether the weight is trained.
            weight = weight.detach().requires_grad_()
        return functional.linear(x, weight, weights[1]), ()

    def grad_input(self, use: Use) -> Tensor:
        """Multiply by the weight."""
        weight: Any = use.weights[0]
        return _product(_flat(use.e), weight, _flat(use.x)).view(use.x.shape)

    def gradients(self, use: Use) -> Gradients:
        """Contract over examples and positions in one product."""
        e = _flat(use.e)
        weight = e.t().mm(_flat(use.x)) if use.wanted[0] else None
        return weight, e.sum(0) if use.wanted[1] else None

    def per_sample(self, use: Use) -> Gradients:
        """Contract over positions only."""
        x, e = self.factors(use)
        weight = torch.bmm(e.transpose(1, 2), x) if use.wanted[0] else None
        return weight, summed(e) if use.wanted[1] else None

    def extent(self, use: Use) -> Extent | None:
        """Return positions, features out and features in."""
        return Extent(prod(use.e.shape[1:-1]), use.e.shape[-1], use.x.shape[-1])

    def factors(self, use: Use) -> tuple[Tensor, Tensor]:
        """Return input and output gradient by position."""
        return widened(positions(use.x)), widened(positions(use.e))

    def shift(self, use: Use) -> Tensor:
        """Sum over positions."""
        return summed(positions(use.e))


class TransposedLinearRule(LinearRule):
    """`transformers.pytorch_utils.Conv1D`, the linear layer of GPT-2: its weight is (features in, features out)."""

    type_name = "Conv1D"
    rows_are_inputs = True

    def forward(self, module: Any, x: Tensor, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:  # noqa: ARG002 - part of the interface
        """Apply the layer."""
        weight, bias = weights
        out = torch.addmm(bias, x.view(-1, x.size(-1)), weight)  # type: ignore[arg-type]  # it always has both
        return out.view(*x.shape[:-1], out.shape[-1]), ()

    def grad_input(self, use: Use) -> Tensor:
        """Multiply by the transposed weight."""
        weight: Any = use.weights[0]
        return _product(_flat(use.e), weight.t(), _flat(use.x)).view(use.x.shape)

    def gradients(self, use: Use) -> Gradients:
        """Contract over examples and positions in one product."""
        e = _flat(use.e)
        weight = _flat(use.x).t().mm(e) if use.wanted[0] else None
        return weight, e.sum(0) if use.wanted[1] else None

    def per_sample(self, use: Use) -> Gradients:
        """Contract over positions only."""
        x, e = self.factors(use)
        weight = torch.bmm(x.transpose(1, 2), e) if use.wanted[0] else None
        return weight, summed(e) if use.wanted[1] else None


def _flat(tensor: Tensor) -> Tensor:
    """Return (b, ..., d) as (n, d)."""
    return tensor if tensor.dim() == 2 else tensor.reshape(-1, tensor.shape[-1])


def _product(e: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    """Return e times weight, laid out as x is, the way autograd does it."""
    by_columns = x.stride(0) == 1 and x.stride(1) == x.shape[0]
    return weight.t().mm(e.t()).t() if by_columns else e.mm(weight)
