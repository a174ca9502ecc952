"""What a convolution adds around its input before it convolves, done as torch does it, and its gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from aqpolicy.gate.routing.layers.native import differentiate


def split(module: Any) -> tuple[list[int], list[int], str]:
    """Return what is padded beforehand (reversed, as `functional.pad` wants it), what the kernel pads, and how.

    The kernel pads zeros and both sides alike. All else is put around the input
    first; for `same` with uneven sides that is the excess of the far side.
    """
    pads = list(module._reversed_padding_repeated_twice)  # noqa: SLF001 - the only place where `same` is resolved
    near, far = pads[::2], pads[1::2]
    if module.padding_mode != "zeros":
        return pads, [0] * len(near), module.padding_mode
    before = [amount for low, high in zip(near, far, strict=True) for amount in (0, high - low)]
    return (before if any(before) else []), near[::-1], "constant"


def pad(module: Any, x: Tensor) -> Tensor:
    """Return the input as the convolution kernel gets it."""
    before, _, mode = split(module)
    return functional.pad(x, before, mode=mode) if before else x


def pad_backward(module: Any, x: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of what was padded from the gradient of what came out."""
    before, _, mode = split(module)
    if not before:
        return gradient
    inner: Tensor = differentiate(lambda leaf: functional.pad(leaf, before, mode=mode), (x,), (True,), gradient)[0]
    return inner
