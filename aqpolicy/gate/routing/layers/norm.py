"""Normalisation within one example: its parameters scale and shift what was normalised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from aqpolicy.gate.routing.layers.native import NativeRule
from aqpolicy.gate.routing.layers.rule import Gradients, Rule, Use, Weights, cached, joined_gradients, widened

NO_EXAMPLES = "the input has no example axis"


class LayerNormRule(Rule):
    """`nn.LayerNorm`: normalisation over the last axes."""

    type_name = "LayerNorm"
    positionwise = True
    autocast_cuda = "full"

    def trailing(self, module: Any) -> int:
        """Return the number of normalised axes."""
        return len(module.normalized_shape)

    def input_refusal(self, module: Any, x: Tensor) -> str | None:
        """Refuse a normalisation that spans the example axis."""
        return None if x.dim() > len(module.normalized_shape) else NO_EXAMPLES

    def forward(self, module: Any, x: Tensor, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Apply the layer; keep mean and reciprocal deviation."""
        out, mean, rstd = torch.native_layer_norm(x, list(module.normalized_shape), weights[0], weights[1], module.eps)
        return out, (mean, rstd)

    def grad_input(self, use: Use) -> Tensor:
        """Run the native backward kernel for the input alone."""
        return self._backward(use, [True, False, False])[0]

    def gradients(self, use: Use) -> Gradients:
        """Run the native backward kernel for the parameters."""
        _, weight, bias = self._backward(use, [False, *use.wanted])
        return weight if use.wanted[0] else None, bias if use.wanted[1] else None

    def materialises(self, use: Use) -> bool:  # noqa: ARG002 - part of the interface
        """Return that an example's own gradient is no larger than one position."""
        return True

    def per_sample(self, use: Use) -> Gradients:
        """Sum over the positions between the example axis and the normalised axes."""
        axes = tuple(range(-len(use.module.normalized_shape), 0))
        return by_position(use, lambda some: standardised(widened(some.x), some.saved, axes, use.module.eps))

    @staticmethod
    def _backward(use: Use, mask: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        shape, (mean, rstd) = list(use.module.normalized_shape), use.saved
        gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_layer_norm_backward(
            # The kernel takes for granted that nothing has gaps, the statistics included.
            use.e.contiguous(),
            use.x.contiguous(),
            shape,
            mean.contiguous(),
            rstd.contiguous(),
            *use.weights,
            mask,
        )
        return gradients


class RMSNormRule(NativeRule):
    """`nn.RMSNorm`: division by the root of the mean square over the last axes."""

    type_name = "RMSNorm"
    parameters = ("weight",)
    positionwise = True
    autocast_cuda = "full"

    def trailing(self, module: Any) -> int:
        """Return the number of normalised axes."""
        return len(module.normalized_shape)

    def input_refusal(self, module: Any, x: Tensor) -> str | None:
        """Refuse a normalisation that spans the example axis."""
        return None if x.dim() > len(module.normalized_shape) else NO_EXAMPLES

    def operation(self, module: Any, x: Tensor, *weights: Tensor | None) -> Tensor:
        """Apply the layer."""
        return torch.rms_norm(x, list(module.normalized_shape), weights[0], module.eps)

    def per_sample(self, use: Use) -> Gradients:
        """Sum over the positions between the example axis and the normalised axes."""
        axes = tuple(range(-len(use.module.normalized_shape), 0))

        def normalised(some: Use) -> Tensor:
            x = widened(some.x)
            eps = torch.finfo(x.dtype).eps if use.module.eps is None else use.module.eps
            return x * (x.square().mean(axes, keepdim=True) + eps).rsqrt()

        return by_position(use, normalised)


class GroupNormRule(Rule):
    """`nn.GroupNorm`: normalisation over groups of channels."""

    type_name = "GroupNorm"
    autocast_cuda = "full"

    def input_refusal(self, module: Any, x: Tensor) -> str | None:  # noqa: ARG002 - part of the interface
        """Refuse a vector."""
        return NO_EXAMPLES if x.dim() < 2 else None

    def forward(self, module: Any, x: Tensor, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Apply the layer; keep mean and reciprocal deviation per example and group of channels."""
        weight, bias = weights
        out, mean, rstd = torch.native_group_norm(_dense(x), weight, bias, *_sizes(module, x), module.eps)
        return out, (mean, rstd)

    def grad_input(self, use: Use) -> Tensor:
        """Run the native backward kernel for the input alone."""
        return self._backward(use, [True, False, False])[0]

    def gradients(self, use: Use) -> Gradients:
        """Run the native backward kernel for the parameters."""
        _, weight, bias = self._backward(use, [False, *use.wanted])
        return weight if use.wanted[0] else None, bias if use.wanted[1] else None

    def materialises(self, use: Use) -> bool:  # noqa: ARG002 - part of the interface
        """Return that an example's own gradient is no larger than one position."""
        return True

    def per_sample(self, use: Use) -> Gradients:
        """Sum over the positions of each channel."""

        def normalised(some: Use) -> Tensor:
            grouped = widened(some.x).reshape(some.x.shape[0], use.module.num_groups, -1)
            saved = [tensor.unsqueeze(2) for tensor in some.saved]
            return standardised(grouped, saved, (2,), use.module.eps)

        return by_channel(use, normalised)

    @staticmethod
    def _backward(use: Use, mask: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        x = _dense(use.x)
        e = use.e.contiguous() if x.is_contiguous() else use.e.contiguous(memory_format=torch.channels_last)
        # With channels last the CPU kernel crashes where the input's gradient is not asked for.
        mask = mask if x.is_contiguous() else [True, *mask[1:]]
        gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_group_norm_backward(
            e, x, *use.saved, use.weights[0], *_sizes(use.module, use.x), mask
        )
        return gradients


def standardised(x: Tensor, saved: Sequence[Tensor], axes: tuple[int, ...], eps: float) -> Tensor:
    """Return the input less its mean, over its deviation; by the statistics of forward unless those were rounded."""
    if saved and saved[0].itemsize >= x.itemsize:
        return (x - saved[0]).mul_(saved[1])
    centred = x - x.mean(axes, keepdim=True)
    return centred.mul_((centred.square().mean(axes, keepdim=True) + eps).rsqrt())


def by_position(use: Use, normalised: Callable[[Use], Tensor]) -> Gradients:
    """Return each example's gradient of a scale and, if there is one, a shift that all positions share."""
    shape = use.module.normalized_shape
    return _sums(use, normalised, lambda e: e.reshape(e.shape[0], -1, *shape), 1)


def by_channel(use: Use, normalised: Callable[[Use], Tensor]) -> Gradients:
    """Return each example's gradient of a scale and a shift per channel."""
    return _sums(use, normalised, lambda e: e.reshape(*e.shape[:2], -1), 2)


def _sums(use: Use, normalised: Callable[[Use], Tensor], fold: Callable[[Tensor], Tensor], axis: int) -> Gradients:
    """Return the sums over an axis of e times what was normalised, and of e.

    Args:
        use: What went in and came back.
        normalised: What the scale multiplies; a fresh tensor that may be written to.
        fold: Brings the summed positions to one axis.
        axis: That axis.
    """

    def own(some: Use) -> Gradients:
        e = widened(some.e)
        scale = fold(normalised(some).view(e.shape).mul_(e)).sum(axis) if use.wanted[0] else None
        return (scale, *(fold(e).sum(axis) if wanted else None for wanted in use.wanted[1:]))

    return joined_gradients([own(some) for some in cached(use)])


def _sizes(module: Any, x: Tensor) -> tuple[int, int, int, int]:
    return x.shape[0], x.shape[1], prod(x.shape[2:]), module.num_groups


def _dense(tensor: Tensor) -> Tensor:
    """Return the tensor without gaps; channels may stay last, as the native kernels want it."""
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor
    return tensor.contiguous()
