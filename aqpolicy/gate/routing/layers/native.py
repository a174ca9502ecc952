"""Layers whose gradients autograd itself is asked for.

For operations whose backward is several kernels, or differs from device to
device: what comes out is bitwise what plain training computes, because it is
computed in the same way. The price is one more forward pass of the operation.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from aqpolicy.gate.routing.layers.rule import Gradients, Rule, Use, Weights, cached, joined


class NativeRule(Rule):
    """A layer that is one function of its input and its parameters, with few parameters, each example on its own."""

    @abstractmethod
    def operation(self, module: Any, x: Tensor, *weights: Tensor | None) -> Tensor:
        """Apply the layer."""

    def forward(self, module: Any, x: Tensor, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Apply the layer."""
        return self.operation(module, x, *weights), ()

    def grad_input(self, use: Use) -> Tensor:
        """Ask autograd."""
        wanted = (True, *(False for _ in use.weights))
        return joined([self._differentiate(some, wanted)[0] for some in cached(use)])

    def gradients(self, use: Use) -> Gradients:
        """Ask autograd."""
        return self._differentiate(use, (False, *use.wanted))[1:]

    def materialises(self, use: Use) -> bool:  # noqa: ARG002 - part of the interface
        """Return that an example's own gradient is no larger than one position of its input."""
        return True

    def _differentiate(self, use: Use, wanted: Sequence[bool]) -> tuple[Any, ...]:
        def operation(x: Tensor, *weights: Tensor | None) -> Tensor:
            return self.operation(use.module, x, *weights)

        return differentiate(operation, (use.x, *use.weights), wanted, use.e)


def differentiate(
    operation: Callable[..., Tensor], inputs: Sequence[Tensor | None], wanted: Sequence[bool], e: Tensor
) -> tuple[Any, ...]:
    """Return the gradient of an operation with respect to each wanted input, None for the others.

    Args:
        operation: A function of `inputs`.
        inputs: Its arguments.
        wanted: Per input, whether its gradient is wanted.
        e: Gradient of the operation's output.
    """
    with torch.enable_grad():
        leaves = [
            None if tensor is None else tensor.detach().requires_grad_(want)
            for tensor, want in zip(inputs, wanted, strict=True)
        ]
        out = operation(*leaves)
    chosen = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
    found = iter(torch.autograd.grad(out, chosen, e) if chosen else ())
    return tuple(next(found) if want and leaf is not None else None for leaf, want in zip(leaves, wanted, strict=True))
