"""`nn.Conv1d`, `nn.Conv2d` and `nn.Conv3d`, with every option."""

from __future__ import annotations

from abc import abstractmethod
from math import prod
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from aqpolicy.gate.routing.layers import padding
from aqpolicy.gate.routing.layers.kernel import Kernel
from aqpolicy.gate.routing.layers.outer import Extent, OuterRule
from aqpolicy.gate.routing.layers.rule import Gradients, Use, Weights, chunks, joined, widened

GRAM_ADVANTAGE_OF_UNFOLDED: Final = 24
"""How much a materialised gradient costs per element, in products of the Gram form, where only that has to unfold."""


class ConvolutionRule(OuterRule):
    """What plain and transposed convolutions over `spatial` axes share."""

    def __init__(self, spatial: int) -> None:
        self.spatial = spatial

    @abstractmethod
    def plain(self, use: Use) -> tuple[Kernel, Tensor, Tensor]:
        """Return the plain convolution whose weight gradient this is: its kernel, input and output gradient."""

    def input_refusal(self, module: Any, x: Tensor) -> str | None:  # noqa: ARG002 - part of the interface
        """Refuse a single image: its first axis holds channels."""
        return None if x.dim() == self.spatial + 2 else "the input has no example axis"

    def per_sample(self, use: Use) -> Gradients:
        """Convolve with every example as a group of its own; on an accelerator multiply what was unfolded."""
        weight: Any = use.weights[0]
        bias = self.shift(use) if use.wanted[1] else None
        if not use.wanted[0]:
            return None, bias
        extent = self.extent(use)
        if extent is not None and use.e.device.type != "cpu":
            return self.unfolded(use, extent), bias
        kernel, x, e = self.plain(use)
        return kernel.per_sample(widened(e), widened(x), weight.shape), bias

    def unfolded(self, use: Use, extent: Extent) -> Tensor:
        """Return each example's own gradient of the weight as a product of both sides, (b, *weight)."""
        weight: Any = use.weights[0]
        size = extent.length * (extent.wide + extent.narrow) * max(4, use.e.itemsize)
        sides = (self.factors(some) for some in chunks(use, size))
        return joined([torch.bmm(e.transpose(1, 2), x) for x, e in sides]).view(-1, *weight.shape)

    def advantage(self, device: torch.device) -> int:
        """On a CPU the grouped convolution needs nothing unfolded, Gram matrices do."""
        return GRAM_ADVANTAGE_OF_UNFOLDED if device.type == "cpu" else super().advantage(device)

    def extent(self, use: Use) -> Extent | None:
        """Return positions, channels out, and channels in times places of the kernel."""
        if use.module.groups > 1:
            return None  # Each group of channels has outer products of its own.
        weight: Any = use.weights[0]
        e = use.x if self.shift_apart else use.e
        return Extent(prod(e.shape[2:]), weight.shape[0], prod(weight.shape[1:]))

    def factors(self, use: Use) -> tuple[Tensor, Tensor]:
        """Return what each place of the output saw, and the output gradient."""
        weight: Any = use.weights[0]
        kernel, x, e = self.plain(use)
        return kernel.unfold(widened(x), weight.shape[2:], e.shape[2:]), widened(e).flatten(2).transpose(1, 2)

    def shift(self, use: Use) -> Tensor:
        """Sum over the places of the output."""
        return widened(use.e).flatten(2).sum(2)


class ConvRule(ConvolutionRule):
    """Plain convolution."""

    def __init__(self, spatial: int) -> None:
        super().__init__(spatial)
        self.type_name = f"Conv{spatial}d"  # type: ignore[misc]  # one class serves three types
        self.convolve: Any = (functional.conv1d, functional.conv2d, functional.conv3d)[spatial - 1]

    def forward(self, module: Any, x: Tensor, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Pad, then convolve."""
        weight, bias = weights
        kernel = _kernel(module)
        x = padding.pad(module, x)
        out: Tensor = self.convolve(x, weight, bias, kernel.stride, kernel.pads, kernel.dilation, kernel.groups)
        return out, ()

    def grad_input(self, use: Use) -> Tensor:
        """Run the native backward kernels for the input alone."""
        weight: Any = use.weights[0]
        kernel, x, e = self.plain(use)
        gradient, _, _ = kernel.backward(e, x, weight, (True, False, False))
        return padding.pad_backward(use.module, use.x, gradient)

    def gradients(self, use: Use) -> Gradients:
        """Run the native backward kernel for the parameters."""
        weight: Any = use.weights[0]
        kernel, x, e = self.plain(use)
        _, dw, db = kernel.backward(e, x, weight, (False, use.wanted[0], use.wanted[1]))
        return dw if use.wanted[0] else None, db if use.wanted[1] else None

    def plain(self, use: Use) -> tuple[Kernel, Tensor, Tensor]:
        """Return itself, on the padded input."""
        return _kernel(use.module), padding.pad(use.module, use.x), use.e


def _kernel(module: Any) -> Kernel:
    return Kernel(module.stride, padding.split(module)[1], module.dilation, module.groups)
