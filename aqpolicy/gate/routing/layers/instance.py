"""`nn.InstanceNorm1d`, `nn.InstanceNorm2d` and `nn.InstanceNorm3d`: normalisation of each channel of one example."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from aqpolicy.gate.routing.layers.affine import by_running_statistics
from aqpolicy.gate.routing.layers.native import NativeRule
from aqpolicy.gate.routing.layers.norm import NO_EXAMPLES, by_channel, standardised
from aqpolicy.gate.routing.layers.rule import Gradients, Use, Weights, widened


class InstanceNormRule(NativeRule):
    """To torch it is a batch norm of one example with as many channels as all examples have together.

    On a CPU its kernels are called directly. Elsewhere torch has several to
    choose from, so autograd is asked.
    """

    def __init__(self, spatial: int) -> None:
        self.spatial = spatial
        self.type_name = f"InstanceNorm{spatial}d"  # type: ignore[misc]  # one class serves three types

    def input_refusal(self, module: Any, x: Tensor) -> str | None:
        """Refuse a single image, and statistics that all examples write."""
        if x.dim() != self.spatial + 2:
            return NO_EXAMPLES
        if module.training and module.track_running_stats:
            return (
                "its running statistics collect what every example shows, past the policy; "
                "freeze it with .eval(), or build it without `track_running_stats`"
            )
        return None

    def operation(self, module: Any, x: Tensor, *weights: Tensor | None) -> Tensor:
        """Apply the layer."""
        weight, bias = weights
        mean, variance = (module.running_mean, module.running_var) if _frozen(module) else (None, None)
        return functional.instance_norm(x, mean, variance, weight, bias, mean is None, 0.0, module.eps)

    def forward(self, module: Any, x: Tensor, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Apply the layer; keep mean and reciprocal deviation per example and channel."""
        if x.device.type != "cpu" or _frozen(module) or prod(x.shape[2:]) < 2:
            return super().forward(module, x, weights)
        weight, bias = _repeated(weights, x.shape[0])
        out, mean, rstd = torch.native_batch_norm(_as_one(x), weight, bias, None, None, True, 0.0, module.eps)
        return out.view(x.shape), (mean.view(x.shape[:2]), rstd.view(x.shape[:2]))

    def grad_input(self, use: Use) -> Tensor:
        """Run the native backward kernel for the input alone."""
        if not use.saved:
            return super().grad_input(use)
        return _backward(use, [True, False, False])[0].view(use.x.shape)

    def gradients(self, use: Use) -> Gradients:
        """Run the native backward kernel for the parameters, then add up the examples."""
        if not use.saved:
            return super().gradients(use)
        _, *own = _backward(use, [False, *use.wanted])
        pairs = zip(own, use.wanted, strict=True)
        return tuple(part.view(use.x.shape[:2]).sum(0) if wanted else None for part, wanted in pairs)

    def per_sample(self, use: Use) -> Gradients:
        """Sum over the positions of each channel."""
        if not use.saved and _frozen(use.module):
            return by_channel(use, by_running_statistics)

        def normalised(some: Use) -> Tensor:
            saved = [tensor.unsqueeze(2) for tensor in some.saved]
            return standardised(widened(some.x).flatten(2), saved, (2,), use.module.eps)

        return by_channel(use, normalised)


def _frozen(module: Any) -> bool:
    """Return whether the layer normalises by running statistics, as it does once it is not in training."""
    return not module.training and module.running_mean is not None


def _as_one(tensor: Tensor) -> Tensor:
    """Return (b, c, ...) as (1, b * c, ...)."""
    return tensor.contiguous().view(1, -1, *tensor.shape[2:])


def _repeated(weights: Weights, times: int) -> list[Tensor | None]:
    return [None if weight is None else weight.repeat(times) for weight in weights]


def _backward(use: Use, mask: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
    weight, _ = _repeated(use.weights, use.x.shape[0])
    mean, rstd = (tensor.flatten() for tensor in use.saved)
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
        _as_one(use.e), _as_one(use.x), weight, None, None, mean, rstd, True, use.module.eps, mask
    )
    return gradients
