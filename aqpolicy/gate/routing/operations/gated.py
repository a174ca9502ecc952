"""The autograd function of an operation: torch's values and input gradients, nothing to the parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aqpolicy.gate.routing.layers import Use
from aqpolicy.gate.routing.operations.call import are_saved_tensors_packed
from aqpolicy.gate.routing.operations.operation import Operation, use_of

Deliver = Callable[[str, Sequence[Tensor | None], Use], None]


class Gated(torch.autograd.Function):
    """One operation that mixes parameters with examples."""

    @staticmethod
    def forward(ctx: Any, operation: Operation, deliver: Deliver, edges: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return what the recorded call gave.

        Within a checkpoint the graph of the call is not kept: it is made again, from
        inputs that the checkpoint makes again.
        """
        ctx.operation, ctx.deliver, ctx.edges = operation, deliver, edges
        outs = tuple(out.detach() for out in operation.run.outs)
        ctx.again = are_saved_tensors_packed()
        if ctx.again:
            ctx.save_for_backward(*tensors[edges:])
            operation.forget()
        return outs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *es: Tensor) -> tuple[Tensor | None, ...]:
        """Hand the output gradients to the groups and the native gradients to earlier operations."""
        operation: Operation = ctx.operation
        if ctx.again:
            operation.repeat(ctx.saved_tensors)
        data = operation.run.data
        chosen = [tensor for tensor in data if tensor.requires_grad]
        layer = operation.layer(es[0])
        parameters, use = (operation.roots, use_of(operation, es)) if layer is None else layer
        ctx.deliver(operation.name, parameters, use)
        found = iter(
            torch.autograd.grad(operation.run.outs, chosen, es, retain_graph=True, allow_unused=True) if chosen else ()
        )
        gradients = [next(found) if tensor.requires_grad else None for tensor in data]
        return (None, None, None, *[None] * ctx.edges, *gradients)
