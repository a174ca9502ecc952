"""`nn.Conv1d` and `nn.Conv2d` with zero padding.

Per-example gradients come from one grouped `convolution_backward` in which every
example is a group of its own; that is two to four times faster than unfolding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aqpolicy.gate.layers.rule import Gradients, Rule, Use


class ConvRule(Rule):
    """Convolution over `spatial` axes."""

    def __init__(self, spatial: int) -> None:
        self.spatial = spatial
        self.type_name = f"Conv{spatial}d"  # type: ignore[misc]  # one class serves two types

    def refusal(self, module: Any) -> str | None:
        """Refuse padding that is not zeros, or not the same on both sides."""
        if module.padding_mode != "zeros":
            return f"padding mode `{module.padding_mode}` is not supported; pad in a layer of its own"
        pads = module._reversed_padding_repeated_twice  # noqa: SLF001 - the only place where `same` is resolved
        if any(low != high for low, high in zip(pads[::2], pads[1::2], strict=True)):
            return "`same` padding is not the same on both sides; pad in a layer of its own"
        return None

    def input_refusal(self, module: Any, x: Tensor) -> str | None:  # noqa: ARG002 - part of the interface
        """Refuse a single image: its first axis holds channels."""
        return None if x.dim() == self.spatial + 2 else "the input has no example axis"

    def forward(self, module: Any, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Apply the layer."""
        convolve = torch.conv1d if self.spatial == 1 else torch.conv2d
        stride, pads, dilation = module.stride, paddings(module), module.dilation
        return convolve(x, module.weight, module.bias, stride, pads, dilation, module.groups), ()

    def materialises(self, use: Use) -> bool:  # noqa: ARG002 - part of the interface
        """Return that there is no other way to the norms."""
        return True

    def grad_input(self, use: Use) -> Tensor:
        """Run the native backward kernel for the input alone."""
        weight: Any = use.module.weight
        return backward(use.module, use.e, use.x, weight, (True, False, False))[0]

    def gradients(self, use: Use) -> Gradients:
        """Run the native backward kernel for the parameters."""
        weight: Any = use.module.weight
        _, dw, db = backward(use.module, use.e, use.x, weight, (False, *use.wanted))
        return dw if use.wanted[0] else None, db if use.wanted[1] else None

    def per_sample(self, use: Use) -> Gradients:
        """Make every example a group of one convolution."""
        bias = use.e.flatten(2).sum(2) if use.wanted[1] else None
        return self._weight(use) if use.wanted[0] else None, bias

    def _weight(self, use: Use) -> Tensor:
        weight: Any = use.module.weight
        count = use.e.shape[0]
        e = use.e.reshape(1, -1, *use.e.shape[2:])
        x = use.x.reshape(1, -1, *use.x.shape[2:])
        # Only the shape of the weight matters for its own gradient.
        shape_of = weight.new_empty(()).expand(count * weight.shape[0], *weight.shape[1:])
        _, gradient, _ = backward(use.module, e, x, shape_of, (False, True, False), examples=count)
        return gradient.view(count, *weight.shape)


def paddings(module: Any) -> list[int]:
    """Return the padding per spatial axis, also where the module says `same` or `valid`."""
    return list(module._reversed_padding_repeated_twice[::-2])  # noqa: SLF001 - resolved nowhere else


def backward(
    module: Any, e: Tensor, x: Tensor, weight: Tensor, mask: tuple[bool, ...], *, examples: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Call the kernel that autograd calls, for the outputs of `mask`."""
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        e,
        x,
        weight,
        [weight.shape[0]] if mask[2] else None,
        list(module.stride),
        paddings(module),
        list(module.dilation),
        False,
        [0] * len(module.stride),
        module.groups * examples,
        list(mask),
    )
    return gradients
