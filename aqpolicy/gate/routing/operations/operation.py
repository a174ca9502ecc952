"""One operation that mixes governed parameters with examples, and what came back to it.

The rule of an operation hands its gradients on to the parameters: to a parameter
that stood in the call itself, or through the derivation of a tensor that was made
of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aqpolicy.errors import InternalError
from aqpolicy.gate.routing.layers import Gradients, Rule, Use, Weights
from aqpolicy.gate.routing.operations.call import Call, Run, random_state, restore_random_state
from aqpolicy.gate.routing.operations.replay import each_by_passes, each_by_replay, rows_by_replay
from aqpolicy.gate.routing.operations.split import Split
from aqpolicy.gate.routing.operations.tracked import Trace, carry, carry_each

if TYPE_CHECKING:
    from aqpolicy.gate.routing.operations.shortcuts import Shortcut


@dataclass(slots=True)
class Operation:
    """A recorded call."""

    name: str
    """Module and function, for messages."""
    call: Call
    run: Run
    """What came of it; forgotten between forward and backward within a checkpoint."""
    traces: tuple[Trace, ...]
    """Per tracked tensor of the call."""
    splits: tuple[Split, ...]
    """Per result that has a gradient."""
    inputs: tuple[Split | None, ...]
    """Per other tensor of the call; None where it is the same for all examples."""
    states: list[Tensor] | None
    """The random generators' states before the call, where it drew from them."""
    shortcut: Shortcut | None = None
    whole: bool = False
    """All examples are where a layer would have them, so that the use can be that of a layer."""
    slow: Callable[[], None] = field(default=lambda: None)
    """Take note that an example's own gradients had to be found the long way."""

    @property
    def tracked(self) -> list[Any]:
        """The tracked tensors, as they stood in the call."""
        return [self.call.leaves[number] for number in self.call.tracked]

    @property
    def roots(self) -> tuple[nn.Parameter, ...]:
        """The parameters behind them, each once."""
        return tuple({id(root): root for trace in self.traces for root in trace.roots}.values())

    def forget(self) -> None:
        """Let go of all that the forward pass made."""
        self.run = replace(self.run, data=(), tracked=(), flat=())

    def repeat(self, data: Sequence[Tensor]) -> None:
        """Make the graph of the call again."""
        tracked = [tensor.detach() for tensor in self.tracked]
        if self.states is None:
            self.run = self.call.run(data, tracked)
            return
        now = random_state([*data, *tracked])
        restore_random_state([*data, *tracked], self.states)
        self.run = self.call.run(data, tracked)
        restore_random_state([*data, *tracked], now)

    def layer(self, e: Tensor) -> tuple[tuple[Any, ...], Use] | None:
        """Return the use of the layer that the operation is, and its parameters; None where it is none."""
        return self.shortcut.layer(self, e) if self.whole and self.shortcut is not None else None

    def summed(self, es: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
        """Return the gradients of the tracked tensors from the graph of the call, summed over examples."""
        return torch.autograd.grad(self.run.outs, self.run.tracked, es, retain_graph=True, allow_unused=True)

    def each(self, es: tuple[Tensor, ...], keep: Tensor | None) -> list[Tensor | None]:
        """Return the gradients of the tracked tensors for each example that is kept, (k, *tensor)."""
        if self.shortcut is not None:
            found = self.shortcut.each(self, es, keep)
            if found is not None:
                return found
        self.slow()
        index = torch.arange(self.splits[0].examples, device=es[0].device) if keep is None else keep
        return each_by_replay(self, es, index) or each_by_passes(self, es, index)

    def rows(self, es: tuple[Tensor, ...], keep: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the tracked tensors, summed over the examples that are kept."""
        if self.shortcut is not None:
            found = self.shortcut.rows(self, es, keep)
            if found is not None:
                return tuple(found)
        return rows_by_replay(self, es, keep)


@dataclass(frozen=True, slots=True)
class OperationUse(Use):
    """What came back to an operation; `x` and `e` are only for counting and looking."""

    operation: Operation
    es: tuple[Tensor, ...]
    """Gradients of the results, as autograd gave them or weighed."""
    keep: Tensor | None = None
    """Which examples the use is restricted to; None for all."""

    def rows(self, keep: Tensor) -> OperationUse:
        """Return the use restricted to some examples."""
        chosen = keep if self.keep is None else self.keep.index_select(0, keep)
        e = self.e.index_select(0, keep)
        return replace(self, x=e, e=e, keep=chosen)

    def between(self, start: int, stop: int) -> OperationUse:
        """Return the use restricted to a run of examples."""
        if (start, stop) == (0, self.e.shape[0]):
            return self
        return self.rows(torch.arange(start, stop, device=self.e.device))

    def scaled(self, factors: Tensor) -> OperationUse:
        """Return the use with each example's gradient multiplied by its factor."""
        splits = self.operation.splits
        if self.keep is not None:
            every = factors.new_ones(splits[0].examples)
            factors = every.index_copy(0, self.keep, factors)
        es = tuple((e * split.factors(factors, e)).to(e.dtype) for e, split in zip(self.es, splits, strict=True))
        return replace(self, es=es)

    def wide(self) -> OperationUse:
        """Return the use itself: its gradients are made as wide as their operation."""
        return self


class OperationRule(Rule):
    """The gradients of one operation with respect to the parameters behind its tracked tensors."""

    type_name = "operation"

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.parameters = tuple(f"parameter {number}" for number in range(len(operation.roots)))  # type: ignore[misc]  # its own

    def forward(self, module: Any, x: Tensor, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:  # noqa: ARG002 - the interface
        """Raise: an operation ran when it was recorded."""
        raise InternalError(f"operation {self.operation.name} was asked to run again")

    def grad_input(self, use: Use) -> Tensor:  # noqa: ARG002 - part of the interface
        """Raise: an operation has several inputs."""
        raise InternalError(f"operation {self.operation.name} was asked for the gradient of one input")

    def gradients(self, use: Use) -> Gradients:
        """Ask autograd's graph of the call, or run it again where examples are left out."""
        own = _own(use)
        found = self.operation.summed(own.es) if own.keep is None else self.operation.rows(own.es, own.keep)
        return self._gather(own, found, carry)

    def per_sample(self, use: Use) -> Gradients:
        """Find each example's own gradients and carry them to the parameters."""
        own = _own(use)
        return self._gather(own, self.operation.each(own.es, own.keep), carry_each)

    def materialises(self, use: Use) -> bool:
        """Return whether there is no shorter way to the norms."""
        return self._short(use) is None

    def squared_norms(self, use: Use) -> Tensor:
        """Ask the layer's rule of the operation, where it has one and the parameters stand apart."""
        short = self._short(use)
        return super().squared_norms(use) if short is None else short.rule.squared_norms(short)

    def _short(self, use: Use) -> Use | None:
        own, operation = _own(use), self.operation
        apart = all(trace.rearranged for trace in operation.traces) and len(operation.roots) == len(operation.traces)
        if operation.shortcut is None or not apart or not all(own.wanted):
            return None
        short = operation.shortcut.use(operation, own.es, own.keep)
        return None if short is None or short.rule.materialises(short) else short

    def _gather(
        self,
        use: OperationUse,
        found: Any,
        carried: Callable[[Tensor, Trace, Tensor], list[Tensor | None]],
    ) -> Gradients:
        """Add up per parameter what its tensors got; nothing where its gradient is not wanted."""
        wanted = {id(r) for r, want in zip(self.operation.roots, use.wanted, strict=True) if want}
        total: dict[int, Tensor] = {}
        for tensor, trace, gradient in zip(self.operation.tracked, self.operation.traces, found, strict=True):
            if gradient is None or not any(id(root) in wanted for root in trace.roots):
                continue
            for root, part in zip(trace.roots, carried(tensor, trace, gradient), strict=True):
                if part is not None and id(root) in wanted:
                    before = total.get(id(root))
                    total[id(root)] = part if before is None else before + part
        return tuple(total.get(id(root)) for root in self.operation.roots)


def _own(use: Use) -> OperationUse:
    if not isinstance(use, OperationUse):
        raise InternalError("the rule of an operation got a layer's use")
    return use


def use_of(operation: Operation, es: tuple[Tensor, ...]) -> OperationUse:
    """Return the use of an operation that gradients came back to."""
    parts = [split.stack(e) for e, split in zip(es, operation.splits, strict=True)]
    e = parts[0] if len(parts) == 1 else torch.cat([part.flatten(1) for part in parts], dim=1)
    roots = operation.roots
    weights = tuple(root.detach() for root in roots)
    return OperationUse(OperationRule(operation), None, (True,) * len(roots), weights, e, (), e, operation, es)
