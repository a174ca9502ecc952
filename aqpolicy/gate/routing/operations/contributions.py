"""Operations with a gradient per number of the result, which is summed over the positions of an example.

That is what is done number by number, and the scale and shift of a normalisation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as pytree

from aqpolicy.gate.routing.layers import Use
from aqpolicy.gate.routing.layers.rule import widened
from aqpolicy.gate.routing.operations.call import Call
from aqpolicy.gate.routing.operations.split import reduce_parts

if TYPE_CHECKING:
    from aqpolicy.gate.routing.operations.operation import Operation

Parts = list[Tensor | None]

POINTWISE: Final = frozenset(
    {
        "add",
        "sub",
        "rsub",
        "radd",
        "rmul",
        "mul",
        "multiply",
        "div",
        "divide",
        "true_divide",
        "rdiv",
        "rtruediv",
        "truediv",
        "pow",
        "rpow",
        "where",
        "lerp",
        "addcmul",
        "addcdiv",
        "maximum",
        "minimum",
        "clone",
        "expand",
        "expand_as",
        "broadcast_to",
        "repeat",
        "tile",
    }
)
"""Functions of which each number of the result depends on one number of each operand, after broadcasting."""

COPIES: Final = frozenset({"clone", "expand", "expand_as", "broadcast_to", "repeat", "tile"})
"""Those of them that only copy."""

NORMS: Final = {"layer_norm": -1, "rms_norm": -1, "group_norm": 1, "instance_norm": 1}
"""Normalisations, and the axis with which that of their weights lines up; -1 for the last ones."""


class _ByContribution(ABC):
    """An operation with a gradient per number of the result, which is summed over the positions of an example."""

    def use(self, operation: Operation, es: Sequence[Tensor], keep: Tensor | None) -> Use | None:  # noqa: ARG002 - the protocol
        """Return None: there is no such layer."""
        return None

    def layer(self, operation: Operation, e: Tensor) -> tuple[tuple[Any, ...], Use] | None:  # noqa: ARG002 - the protocol
        """Return None: there is no such layer."""
        return None

    def rows(self, operation: Operation, es: Sequence[Tensor], keep: Tensor) -> Parts | None:
        """Add up the examples."""
        found = self.each(operation, es, keep)
        return None if found is None else [None if part is None else part.sum(0) for part in found]

    @abstractmethod
    def each(self, operation: Operation, es: Sequence[Tensor], keep: Tensor | None) -> Parts | None:
        """Sum each example's contributions to the shape of the operand."""


@dataclass(frozen=True, slots=True)
class Pointwise(_ByContribution):
    """An operation that is done number by number."""

    def each(self, operation: Operation, es: Sequence[Tensor], keep: Tensor | None) -> Parts | None:
        """Run it on operands of the result's full shape: then no two numbers of the result share one of theirs."""
        run, split, call = operation.run, operation.splits[0], operation.call
        shape = run.outs[0].shape
        if any(not _fits(tensor.shape, shape) for tensor in (*run.data, *run.tracked)):
            return None
        data = [split.parts(_wide(t, shape), keep) for t in run.data]
        with torch.enable_grad():
            tracked = [split.parts(_wide(t, shape), keep).requires_grad_() for t in run.tracked]
            out = tracked[0] * 1 if call.name in COPIES else call.plain(data, tracked)
        e = split.parts(es[0], keep).to(out.dtype)
        found = torch.autograd.grad(out, tracked, e, allow_unused=True)
        parts: Parts = []
        for part, operand in zip(found, run.tracked, strict=True):
            if part is None:
                parts.append(None)
                continue
            # Positions that a packed example does not have are 0, and may have divided by 0.
            held = part if split.packed is None else torch.where(e == 0, torch.zeros_like(part), part)
            reduced = reduce_parts(held, operand.shape, split, keep)
            if reduced is None:
                return None
            parts.append(reduced)
        return parts


@dataclass(frozen=True, slots=True)
class Affine(_ByContribution):
    """Scale and shift after a normalisation of one example."""

    weight: int | None
    bias: int | None
    """Which of the call's tracked tensors they are."""
    bare: tuple[int, ...]
    """Where they stand in the call."""
    axis: int

    def each(self, operation: Operation, es: Sequence[Tensor], keep: Tensor | None) -> Parts | None:
        """Normalise without them, and multiply."""
        run, split, call = operation.run, operation.splits[0], operation.call
        x = run.data[0].detach()
        leaves = list(call.leaves)
        leaves[call.data[0]] = x
        for number in self.bare:
            leaves[number] = None
        normalised = _without(call, leaves)
        e = split.parts(widened(es[0]), keep)
        found = {self.bias: e, self.weight: e * split.parts(widened(normalised), keep)}
        parts: Parts = []
        for number, operand in enumerate(run.tracked):
            shape = operand.shape if self.axis < 0 else torch.Size((*operand.shape, *[1] * (x.dim() - 2)))
            reduced = reduce_parts(found[number], shape, split, keep)
            if reduced is None:
                return None
            parts.append(reduced.reshape(-1, *operand.shape))
        return parts


def _without(call: Call, leaves: list[Any]) -> Tensor:
    arguments, named = pytree.tree_unflatten(leaves, call.structure)
    with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - nothing is to be seen here
        out: Tensor = getattr(functional, call.name)(*arguments, **named)
    return out


def _fits(shape: torch.Size, wide: torch.Size) -> bool:
    """Return whether a tensor can be broadcast to a shape."""
    if len(shape) > len(wide):
        return False
    return all(own in {1, other} for own, other in zip(reversed(shape), reversed(wide), strict=False))


def _wide(tensor: Tensor, shape: torch.Size) -> Tensor:
    return widened(tensor.detach()).expand(shape)
