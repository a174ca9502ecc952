"""`nn.LayerNorm` and `nn.GroupNorm`: their parameters scale and shift the normalised input of one example."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from aqpolicy.gate.layers.rule import Gradients, Rule, Use


class LayerNormRule(Rule):
    """Normalisation over the last axes."""

    type_name = "LayerNorm"

    def input_refusal(self, module: Any, x: Tensor) -> str | None:
        """Refuse a normalisation that spans the example axis."""
        return None if x.dim() > len(module.normalized_shape) else "the input has no example axis"

    def forward(self, module: Any, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Apply the layer; keep mean and reciprocal deviation."""
        shape = list(module.normalized_shape)
        out, mean, rstd = torch.native_layer_norm(x, shape, module.weight, module.bias, module.eps)
        return out, (mean, rstd)

    def grad_input(self, use: Use) -> Tensor:
        """Run the native backward kernel for the input alone."""
        return self._backward(use, [True, False, False])[0]

    def gradients(self, use: Use) -> Gradients:
        """Run the native backward kernel for the parameters."""
        _, weight, bias = self._backward(use, [False, *use.wanted])
        return weight if use.wanted[0] else None, bias if use.wanted[1] else None

    def per_sample(self, use: Use) -> Gradients:
        """Sum over the positions between the example axis and the normalised axes."""
        module: Any = use.module
        shape = (use.e.shape[0], -1, *module.normalized_shape)
        normalised = (use.x - use.saved[0]) * use.saved[1]
        weight = (use.e * normalised).reshape(shape).sum(1) if use.wanted[0] else None
        return weight, use.e.reshape(shape).sum(1) if use.wanted[1] else None

    @staticmethod
    def _backward(use: Use, mask: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        module: Any = use.module
        shape, (mean, rstd) = list(module.normalized_shape), use.saved
        gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_layer_norm_backward(
            use.e.contiguous(), use.x.contiguous(), shape, mean, rstd, module.weight, module.bias, mask
        )
        return gradients


class GroupNormRule(Rule):
    """Normalisation over groups of channels of one example."""

    type_name = "GroupNorm"

    def input_refusal(self, module: Any, x: Tensor) -> str | None:  # noqa: ARG002 - part of the interface
        """Refuse a vector."""
        return "the input has no example axis" if x.dim() < 2 else None

    def forward(self, module: Any, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Apply the layer; keep mean and reciprocal deviation per example and group of channels."""
        x = x.contiguous()
        sizes = (x.shape[0], x.shape[1], prod(x.shape[2:]), module.num_groups)
        out, mean, rstd = torch.native_group_norm(x, module.weight, module.bias, *sizes, module.eps)
        return out, (mean, rstd)

    def grad_input(self, use: Use) -> Tensor:
        """Run the native backward kernel for the input alone."""
        return self._backward(use, [True, False, False])[0]

    def gradients(self, use: Use) -> Gradients:
        """Run the native backward kernel for the parameters."""
        _, weight, bias = self._backward(use, [False, *use.wanted])
        return weight if use.wanted[0] else None, bias if use.wanted[1] else None

    def per_sample(self, use: Use) -> Gradients:
        """Sum over the positions of each channel."""
        mean, rstd = use.saved
        examples, channels = use.x.shape[:2]
        grouped = use.x.reshape(examples, mean.shape[1], -1)
        normalised = ((grouped - mean.unsqueeze(2)) * rstd.unsqueeze(2)).reshape(examples, channels, -1)
        e = use.e.reshape(examples, channels, -1)
        weight = (e * normalised).sum(2) if use.wanted[0] else None
        return weight, e.sum(2) if use.wanted[1] else None

    @staticmethod
    def _backward(use: Use, mask: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        module: Any = use.module
        mean, rstd = use.saved
        sizes = (use.x.shape[0], use.x.shape[1], prod(use.x.shape[2:]), module.num_groups)
        gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_group_norm_backward(
            use.e.contiguous(), use.x.contiguous(), mean, rstd, module.weight, *sizes, mask
        )
        return gradients
