"""`nn.ConvTranspose1d`, `nn.ConvTranspose2d` and `nn.ConvTranspose3d`.

The weight gradient of a transposed convolution is that of the plain convolution
that leads back: input and output gradient change places.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn import functional

from aqpolicy.gate.routing.layers.conv import ConvolutionRule
from aqpolicy.gate.routing.layers.kernel import Kernel
from aqpolicy.gate.routing.layers.rule import Gradients, Use, Weights


class ConvTransposeRule(ConvolutionRule):
    """Transposed convolution."""

    shift_apart = True

    def __init__(self, spatial: int) -> None:
        super().__init__(spatial)
        self.type_name = f"ConvTranspose{spatial}d"  # type: ignore[misc]  # one class serves three types
        convolve = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)
        self.convolve: Any = convolve[spatial - 1]

    def forward(self, module: Any, x: Tensor, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Apply the layer."""
        weight, bias = weights
        options = (module.stride, module.padding, module.output_padding, module.groups, module.dilation)
        out: Tensor = self.convolve(x, weight, bias, *options)
        return out, ()

    def grad_input(self, use: Use) -> Tensor:
        """Run the native backward kernel for the input alone."""
        weight: Any = use.weights[0]
        return _kernel(use.module).backward(use.e, use.x, weight, (True, False, False))[0]

    def gradients(self, use: Use) -> Gradients:
        """Run the native backward kernel for the parameters."""
        weight: Any = use.weights[0]
        _, dw, db = _kernel(use.module).backward(use.e, use.x, weight, (False, use.wanted[0], use.wanted[1]))
        return dw if use.wanted[0] else None, db if use.wanted[1] else None

    def plain(self, use: Use) -> tuple[Kernel, Tensor, Tensor]:
        """Return the convolution that leads back."""
        module = use.module
        back = Kernel(module.stride, module.padding, module.dilation, module.groups)
        if all(extra < step for extra, step in zip(module.output_padding, module.stride, strict=True)):
            return back, use.e, use.x
        # With a whole stride of output padding the way back would find more places than the input has.
        e = back.pad(use.e)
        for axis, places in enumerate(use.x.shape[2:]):
            reach = module.dilation[axis] * (module.kernel_size[axis] - 1) + 1
            e = e.narrow(axis + 2, 0, (places - 1) * module.stride[axis] + reach)
        return replace(back, pads=[0] * self.spatial), e, use.x


def _kernel(module: Any) -> Kernel:
    options = (module.stride, module.padding, module.dilation, module.groups)
    return Kernel(*options, transposed=True, extra=module.output_padding)
