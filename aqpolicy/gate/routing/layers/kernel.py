"""The convolution kernel behind every convolution layer, called directly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Kernel:
    """The options of a convolution kernel, one number per spatial axis."""

    stride: Sequence[int]
    pads: Sequence[int]
    dilation: Sequence[int]
    groups: int
    transposed: bool = False
    extra: Sequence[int] = ()
    """Output padding, of a transposed convolution."""

    def backward(
        self, e: Tensor, x: Tensor, weight: Tensor, mask: tuple[bool, bool, bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Call the kernel that autograd calls, for the outputs of `mask`: input, weight, bias."""
        gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
            e,
            x,
            weight,
            [e.shape[1]] if mask[2] else None,
            list(self.stride),
            list(self.pads),
            list(self.dilation),
            self.transposed,
            list(self.extra) or [0] * len(self.stride),
            self.groups,
            list(mask),
        )
        return gradients

    def per_sample(self, e: Tensor, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Return the weight gradient of each example, (b, *shape), of a plain convolution.

        Every example becomes a group of one convolution, two to four times faster than unfolding.
        """
        count = e.shape[0]
        e, x = e.reshape(1, -1, *e.shape[2:]), x.reshape(1, -1, *x.shape[2:])
        # Only the shape of the weight matters for its own gradient.
        weight = e.new_empty(()).expand(count * shape[0], *shape[1:])
        grouped = replace(self, groups=self.groups * count)
        return grouped.backward(e, x, weight, (False, True, False))[1].view(count, *shape)

    def pad(self, x: Tensor) -> Tensor:
        """Put the kernel's own zeros around an input."""
        return functional.pad(x, [amount for pad in reversed(self.pads) for amount in (pad, pad)])

    def unfold(self, x: Tensor, size: Sequence[int], places: Sequence[int]) -> Tensor:
        """Return what each place of the output saw of the input, (b, places, channels times kernel size)."""
        x = self.pad(x).contiguous()
        example, channel, *axes = x.stride()
        moves = [step * axis for step, axis in zip(self.stride, axes, strict=True)]
        reaches = [step * axis for step, axis in zip(self.dilation, axes, strict=True)]
        shape = (x.shape[0], *places, x.shape[1], *size)
        seen = x.as_strided(shape, (example, *moves, channel, *reaches))
        return seen.reshape(x.shape[0], prod(places), -1)
