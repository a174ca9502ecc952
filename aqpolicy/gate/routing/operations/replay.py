"""Each example's own gradients of any operation: exact, and slow.

An operation that treats examples alike is run again on the examples apart, all at
once where torch can, else one after the other. What comes out is compared with
what the operation gave in the forward pass. Where it differs (the operation drew
random numbers, or looks at the whole batch), its own graph is differentiated once
per example instead, with the gradient of the others masked. That is always right.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from aqpolicy.gate.routing.operations.call import Run
from aqpolicy.gate.routing.operations.tracked import BATCHED_FAILS

if TYPE_CHECKING:
    from aqpolicy.gate.routing.operations.operation import Operation

TOLERANCE: Final = {torch.float64: 1e-9, torch.float32: 1e-3}
"""How far the results of a replay may differ from the recorded ones, relative to the largest; else 0.1."""

Parts = list[Tensor | None]


def each_by_replay(operation: Operation, es: Sequence[Tensor], index: Tensor) -> Parts | None:
    """Return the gradients for each example from runs on one example at a time; None where they do not apply."""
    if not _cuts(operation):
        return None
    found = _all_at_once(operation, es, index)
    if found is None:
        rows = [rows_of(operation, es, one) for one in index.view(-1, 1)]
        if any(row is None for row in rows):
            return None
        found = [None if column[0] is None else torch.stack(column) for column in zip(*rows, strict=True)]
    return found


def each_by_passes(operation: Operation, es: Sequence[Tensor], index: Tensor) -> Parts:
    """Return the gradients for each example from backward passes through the recorded graph."""
    rows = [
        operation.summed(tuple(s.only(e, int(i)) for e, s in zip(es, operation.splits, strict=True))) for i in index
    ]
    return [None if column[0] is None else torch.stack(column) for column in zip(*rows, strict=True)]


def rows_by_replay(operation: Operation, es: Sequence[Tensor], keep: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients summed over the examples that are kept.

    Where the operation cannot be run on them alone, the gradient of the others is
    masked. Should one of those be no finite number, nothing of the sum is.
    """
    if _cuts(operation):
        found = rows_of(operation, es, keep)
        if found is not None:
            return tuple(found)
    chosen = torch.zeros(operation.splits[0].examples, device=keep.device)
    chosen[keep] = 1
    masked = (
        torch.where(split.factors(chosen, e) != 0, e, torch.zeros_like(e))
        for e, split in zip(es, operation.splits, strict=True)
    )
    return operation.summed(tuple(masked))


def rows_of(operation: Operation, es: Sequence[Tensor], keep: Tensor) -> Parts | None:
    """Run the operation on some examples alone and differentiate; None where that gives other results."""
    recorded = operation.run
    data = [
        tensor if split is None else split.take(tensor, keep)
        for tensor, split in zip(recorded.data, operation.inputs, strict=True)
    ]
    try:
        run = operation.call.run(data, recorded.tracked)
    except BATCHED_FAILS:
        return None
    wanted = [split.take(out.detach(), keep) for out, split in zip(recorded.outs, operation.splits, strict=True)]
    if not _agree(run, wanted):
        return None
    own = [split.take(e, keep) for e, split in zip(es, operation.splits, strict=True)]
    return list(torch.autograd.grad(run.outs, run.tracked, own, allow_unused=True))


def _cuts(operation: Operation) -> bool:
    """Return whether the operation's tensors can be cut by example and its run repeated."""
    splits = [*operation.splits, *(split for split in operation.inputs if split is not None)]
    return operation.states is None and all(split.packed is None for split in splits)


def _all_at_once(operation: Operation, es: Sequence[Tensor], index: Tensor) -> Parts | None:
    """Run every example in its own lane of `torch.func.vmap`."""
    recorded, splits = operation.run, operation.splits
    lanes = [
        tensor if split is None else split.stack(tensor.detach()).index_select(0, index)
        for tensor, split in zip(recorded.data, operation.inputs, strict=True)
    ]
    own = [split.stack(e).index_select(0, index) for e, split in zip(es, splits, strict=True)]
    axes = tuple(None if split is None else 0 for split in operation.inputs)

    def one(data: Sequence[Tensor], own: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        parts = [t if s is None else s.join(t.unsqueeze(0)) for t, s in zip(data, operation.inputs, strict=True)]

        def outs(*tracked: Tensor) -> list[Tensor]:
            return _outs(operation, parts, tracked)

        found, pull = torch.func.vjp(outs, *(t.detach() for t in recorded.tracked))  # type: ignore[misc]  # overloads
        return pull([s.join(e.unsqueeze(0)) for e, s in zip(own, splits, strict=True)]), found

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            gradients, found = torch.func.vmap(one, in_dims=(list(axes), 0))(lanes, own)
        except BATCHED_FAILS:
            return None
    wanted = [
        split.stack(out.detach()).index_select(0, index) for out, split in zip(recorded.outs, splits, strict=True)
    ]
    return list(gradients) if all(map(_close, found, wanted)) else None


def _outs(operation: Operation, data: Sequence[Tensor], tracked: Sequence[Tensor]) -> list[Tensor]:
    """Return the results that have a gradient, from a run without a graph of its own."""
    flat = pytree.tree_leaves(operation.call.plain(data, tracked))
    return [flat[number] for number in operation.run.differentiable]


def _agree(run: Run, wanted: Sequence[Tensor]) -> bool:
    outs = run.outs
    return len(outs) == len(wanted) and all(
        out.shape == want.shape and _close(out.detach(), want) for out, want in zip(outs, wanted, strict=True)
    )


def _close(out: Tensor, wanted: Tensor) -> bool:
    tolerance = TOLERANCE.get(wanted.dtype, 0.1)
    finite = wanted.isfinite()
    largest = float(torch.where(finite, wanted, torch.zeros_like(wanted)).abs().amax()) if wanted.numel() else 0.0
    return torch.allclose(out, wanted, rtol=tolerance, atol=tolerance * largest, equal_nan=True)
