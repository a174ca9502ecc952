"""A number or two per channel: batch norm with frozen statistics, and the slopes of a PReLU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from aqpolicy.gate.routing.layers.native import NativeRule
from aqpolicy.gate.routing.layers.norm import NO_EXAMPLES, by_channel
from aqpolicy.gate.routing.layers.rule import Gradients, Use, widened


class BatchNormRule(NativeRule):
    """`nn.BatchNorm1d`, `2d` and `3d` with running statistics that are not updated: a scale and a shift per channel."""

    def __init__(self, *dimensions: int) -> None:
        self.dimensions = dimensions
        self.type_name = f"BatchNorm{dimensions[-1] - 2}d"  # type: ignore[misc]  # one class serves three types

    def refusal(self, module: Any) -> str | None:
        """Refuse a layer that has no statistics of its own to freeze."""
        if module.running_mean is not None:
            return None
        return "without running statistics it mixes the examples of a batch; swap it for a GroupNorm"

    def input_refusal(self, module: Any, x: Tensor) -> str | None:
        """Refuse training mode: one example's output would depend on the others."""
        if module.training:
            return (
                "batch normalisation in training mode mixes the examples of a batch; freeze it with .eval(), "
                "swap it for a GroupNorm, or leave its group ungoverned on purpose"
            )
        return None if x.dim() in self.dimensions else NO_EXAMPLES

    def operation(self, module: Any, x: Tensor, *weights: Tensor | None) -> Tensor:
        """Apply the layer."""
        weight, bias = weights
        return functional.batch_norm(x, module.running_mean, module.running_var, weight, bias, eps=module.eps)

    def per_sample(self, use: Use) -> Gradients:
        """Sum over the positions of each channel."""
        return by_channel(use, by_running_statistics)


class PReLURule(NativeRule):
    """`nn.PReLU`: the slope below zero, one or one per channel."""

    type_name = "PReLU"
    parameters = ("weight",)
    autocast = "low"
    autocast_cuda = "low"

    def input_refusal(self, module: Any, x: Tensor) -> str | None:
        """Refuse an input without channels where each has a slope of its own."""
        return None if x.dim() >= (2 if module.num_parameters > 1 else 1) else NO_EXAMPLES

    def operation(self, module: Any, x: Tensor, *weights: Tensor | None) -> Tensor:  # noqa: ARG002 - part of the interface
        """Apply the layer."""
        weight: Any = weights[0]
        out: Tensor = torch.prelu(x, weight)
        return out

    def per_sample(self, use: Use) -> Gradients:
        """Sum over what is below zero."""
        use = use.wide()
        below = use.e * use.x.clamp_max(0)
        if use.weights[0] is None or use.weights[0].numel() == 1:
            return (below.reshape(below.shape[0], -1).sum(1, keepdim=True),)
        return (below.reshape(*below.shape[:2], -1).sum(2),)


def by_running_statistics(use: Use) -> Tensor:
    """Return the input normalised by the running statistics."""
    x, module = widened(use.x), use.module
    shape = (1, -1, *[1] * (x.dim() - 2))
    mean, variance = (tensor.to(x.dtype).view(shape) for tensor in (module.running_mean, module.running_var))
    normalised: Tensor = (x - mean).mul_((variance + module.eps).rsqrt())
    return normalised
