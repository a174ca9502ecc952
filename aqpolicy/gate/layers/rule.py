"""What a layer must know to be gated: its native operations, one use of it, and per-example gradients.

A rule never computes a factor and never touches a parameter; it only says what
PyTorch itself would compute, for all examples together or for each alone.
`gradients` and `grad_input` call the very kernels that autograd calls, so an open
gate is bitwise plain training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

SCRATCH_BYTES: Final = 32 * 1024 * 1024
"""Most memory that per-example gradients made only for their norms may take at once."""

Gradients = tuple[Tensor | None, ...]
"""One entry per parameter of the layer, in the order of `Rule.parameters`; None where it is not trained."""


@dataclass(frozen=True, slots=True)
class Use:
    """One application of a layer in a step: what went in, and the gradient that came back.

    Shapes:
        x: (b, ...), the layer's input.
        saved: each (b, ...), what the forward kernel keeps for its backward kernel.
        e: (b, ...), gradient of the mean loss with respect to the layer's output.
    """

    rule: Rule
    module: nn.Module
    wanted: tuple[bool, ...]
    """Per parameter of the layer, whether it is trained."""
    x: Tensor
    saved: tuple[Tensor, ...]
    e: Tensor

    def rows(self, keep: Tensor) -> Use:
        """Return the use restricted to some examples."""
        saved = tuple(tensor.index_select(0, keep) for tensor in self.saved)
        return replace(self, x=self.x.index_select(0, keep), saved=saved, e=self.e.index_select(0, keep))

    def between(self, start: int, stop: int) -> Use:
        """Return the use restricted to a run of examples, without copying."""
        saved = tuple(tensor[start:stop] for tensor in self.saved)
        return replace(self, x=self.x[start:stop], saved=saved, e=self.e[start:stop])

    def scaled(self, factors: Tensor) -> Use:
        """Return the use with each example's gradient multiplied by its factor."""
        return replace(self, e=self.e * factors.to(self.e.dtype).view(-1, *[1] * (self.e.dim() - 1)))


class Rule(ABC):
    """The exact gradients of one type of layer."""

    type_name: ClassVar[str]
    parameters: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def refusal(self, module: Any) -> str | None:  # noqa: ARG002 - most layers have no option to refuse
        """Return why this instance cannot be gated exactly, or None."""
        return None

    def input_refusal(self, module: Any, x: Tensor) -> str | None:  # noqa: ARG002 - part of the interface
        """Return why this input has no example axis, or None."""
        return None

    @abstractmethod
    def forward(self, module: Any, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the layer's output and what its backward kernels need besides the input."""

    @abstractmethod
    def grad_input(self, use: Use) -> Tensor:
        """Return the gradient with respect to the input, as autograd computes it."""

    @abstractmethod
    def gradients(self, use: Use) -> Gradients:
        """Return the gradients of the parameters summed over the examples, as autograd computes them."""

    @abstractmethod
    def per_sample(self, use: Use) -> Gradients:
        """Return each example's own gradient of each parameter, shape (b, *parameter)."""

    def materialises(self, use: Use) -> bool:  # noqa: ARG002 - part of the interface
        """Return whether the weighted sum is best made of per-example gradients, which then give the norms too."""
        return False

    def squared_norms(self, use: Use) -> Tensor:
        """Return the squared l2 norm of each example's gradient over the layer's parameters, shape (b,)."""
        size = sum(parameter_sizes(use)) * use.e.element_size()
        chunk = max(1, SCRATCH_BYTES // max(1, size))
        total = use.e.shape[0]
        parts = [
            sum_of_squares(self.per_sample(use.between(start, min(total, start + chunk))))
            for start in range(0, total, chunk)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def parameter_sizes(use: Use) -> list[int]:
    """Return the number of elements of each trained parameter of the layer."""
    names = (name for name, wanted in zip(use.rule.parameters, use.wanted, strict=True) if wanted)
    return [prod(getattr(use.module, name).shape) for name in names]


def sum_of_squares(gradients: Gradients) -> Tensor:
    """Return the squared norm over several per-example gradients, shape (b,)."""
    return torch.stack([row_norms(tensor).square() for tensor in gradients if tensor is not None]).sum(0)


def row_norms(tensor: Tensor) -> Tensor:
    """Return the l2 norm of each example's part, shape (b,).

    Two levels keep single precision accurate: one long sum loses two digits.
    """
    if tensor.dim() == 2:
        return vector_norm(tensor, 1)
    return vector_norm(vector_norm(tensor.reshape(*tensor.shape[:2], -1), 2), 1)


def vector_norm(tensor: Tensor, dim: int) -> Tensor:
    """Return l2 norms along one axis."""
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=dim)
    return norms
