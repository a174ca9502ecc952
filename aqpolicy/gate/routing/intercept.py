"""Governed parameters used in any operation, gated exactly.

A module without a rule may do with its parameters what it likes. During a part,
every governed parameter reports what is done with it. What is computed from
parameters alone stays with autograd and is followed. An operation that mixes it
with the examples becomes one autograd function: torch's own values and input
gradients, while the parameters' part goes to their groups, per example.

What cannot be taken apart by example stays with autograd as it is. Should a loss
reach a parameter that way, its gradient arrives ungated, and the gate stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from aqpolicy.errors import UnsupportedLayerError
from aqpolicy.gate.routing.layout import Place
from aqpolicy.gate.routing.operations.arguments import padding_of
from aqpolicy.gate.routing.operations.attention import attend, batch_of
from aqpolicy.gate.routing.operations.call import (
    Call,
    Elsewhere,
    random_state,
    read_call,
    restore_random_state,
    undisturbed,
)
from aqpolicy.gate.routing.operations.gated import Gated
from aqpolicy.gate.routing.operations.names import (
    EXPANDING,
    GETTERS,
    SEEN_WHOLE,
    VIEW_GETTERS,
    is_penalty,
    rearranges,
    refuse,
    writes,
)
from aqpolicy.gate.routing.operations.operation import Operation
from aqpolicy.gate.routing.operations.seam import Seam
from aqpolicy.gate.routing.operations.shortcuts import Layered, find_shortcut
from aqpolicy.gate.routing.operations.split import Split
from aqpolicy.gate.routing.operations.splitting import Splitting
from aqpolicy.gate.routing.operations.tracked import Lookup, Trace, Types, merge

NOT_GATED: Final = object()
"""In place of a result: the operation cannot be taken apart by example."""


class Interceptor:
    """Follows the governed parameters of one model through its operations."""

    def __init__(self, router: Seam, buffers: Callable[[], Iterable[Tensor]] = tuple) -> None:
        """Follow nothing yet.

        Args:
            router: Where uses go.
            buffers: Gives the model's buffers: tensors that are no examples, whatever their shape.
        """
        self.slow: set[tuple[str, str]] = set()
        """Module and function of the uses whose norms had to be found the long way, example by example."""
        self._router = router
        self._types = Types(self._call)
        self._splitting = Splitting(buffers)
        self._watched: list[nn.Parameter] = []
        self._names: list[str] = []

    def open(self, parameters: Iterable[nn.Parameter]) -> None:
        """Follow parameters from now on."""
        self._watched += self._types.watch(parameters)
        self._splitting.open(self._router.layout)

    def close(self) -> None:
        """Follow them no more."""
        self._types.forget(self._watched)
        self._watched = []
        self._names.clear()

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Note that a module's forward runs, for messages."""
        self._names.append(name)
        try:
            yield
        finally:
            self._names.pop()

    def enter(self, x: Tensor) -> tuple[Tensor, bool]:
        """Return a layer's input, and whether the layer is to run plainly, its parameters followed instead.

        So it is for what was computed from parameters alone, and for what may well be the
        same for every example (positions, distances): following is exact either way.
        """
        if self.is_derived(x):
            settled = self.settle(x) if self._types.trace(x).indexed else x
            return settled, settled is x
        return x, not x.requires_grad and self._splitting.is_constant_input(x)

    def settle(self, tensor: Tensor) -> Tensor:
        """Return a tensor computed from parameters alone as one of the examples, where it has their axis.

        For whatever takes tensors without reporting it: the forward of a layer, the loss.
        """
        if not self.is_derived(tensor) or not self._router.recording():
            return tensor
        trace, split = self._types.trace(tensor), self._splitting.find(tensor)
        if split is None:
            return tensor
        if trace.lookup is not None:
            arguments = (trace.lookup.index, trace.roots[0], trace.lookup.padding)
            call, data = self._read(functional.embedding, arguments, {})
            found = self._gate(call, data, inputs=(split,), results=(split,))
        else:
            found = self._gate(*self._read(torch.clone, (tensor,), {}), results=(split,))
        return found  # type: ignore[no-any-return]  # a tensor, as both functions give

    def is_derived(self, tensor: Tensor) -> bool:
        """Return whether a tensor was computed from parameters alone."""
        return type(tensor) is self._types.derived

    def _call(self, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Answer one torch function call that has a tracked tensor among its arguments."""
        name = getattr(function, "__name__", "")
        metadata = name in SEEN_WHOLE or (name in GETTERS and function not in VIEW_GETTERS)
        if metadata or not self._router.recording():
            with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - torch's own way to run it plainly
                return function(*arguments, **named)
        if function is functional.multi_head_attention_forward:
            with self._splitting.attention(batch_of(arguments, named)):
                return attend(*arguments, **named)
        call, data = self._read(function, arguments, named)
        refuse(call, arguments, self._where())
        if writes(name, named) and not self._types.is_tracked(arguments[0]):
            return self._write(function, arguments, named)
        if not any(tensor.requires_grad or self._splitting.is_example(tensor) for tensor in data):
            return self._derive(call, data, arguments)
        if writes(name, named):
            raise UnsupportedLayerError(
                f"{self._where()} writes examples into a tensor of parameters with `{call.name}`; "
                "write into a new tensor"
            )
        result = self._gate(call, data)
        return self._natively(call, data) if result is NOT_GATED else result

    def _where(self) -> str:
        return f"module `{self._names[-1]}`" if self._names and self._names[-1] else "the model"

    def _read(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[Call, list[Tensor]]:
        return read_call(function, arguments, named, self._types.is_tracked)

    def _derive(self, call: Call, data: list[Tensor], arguments: tuple[Any, ...]) -> Any:
        """Leave a computation on parameters alone to autograd and follow its results."""
        tracked = [call.leaves[number] for number in call.tracked]
        if call.name in EXPANDING:
            with torch.no_grad():
                split = self._splitting.of_spread(tracked[0], call.plain(data, tracked))
            if split is not None:
                return self._gate(call, data, results=(split,))
        result = self._natively(call, data)
        lookup = None
        if call.function is functional.embedding and isinstance(tracked[0], nn.Parameter) and len(data) == 1:
            lookup = Lookup(data[0], padding_of(call))
        rearranged = len(tracked) == 1 and rearranges(call.name, arguments)
        self._follow(result, merge(self._types.traces(tracked), rearranged=rearranged, lookup=lookup))
        return result

    def _natively(self, call: Call, data: list[Tensor]) -> Any:
        """Leave a computation to autograd; what reaches a parameter this way is ungated."""
        tracked = [call.leaves[number] for number in call.tracked]
        inputs = [self._types.alias(t) if isinstance(t, nn.Parameter) else t for t in tracked]
        with undisturbed():
            result = call.plain(data, inputs)
        for parameter, alias in zip(tracked, inputs, strict=True):
            result = parameter if result is alias else result  # it returned its input
        return result

    def _follow(self, result: Any, trace: Trace) -> None:
        """Mark what was computed from parameters alone, unless it is such a tensor already."""
        if isinstance(result, (tuple, list)):
            for part in result:
                self._follow(part, trace)
        elif isinstance(result, Tensor) and not isinstance(result, nn.Parameter) and result.requires_grad:
            self._types.mark(result, trace)

    def _gate(
        self,
        call: Call,
        data: list[Tensor],
        *,
        inputs: tuple[Split | None, ...] | None = None,
        results: tuple[Split, ...] | None = None,
    ) -> Any:
        """Make one autograd function of an operation with examples."""
        tracked = [call.leaves[number] for number in call.tracked]
        shortcut = find_shortcut(call, data, tracked)
        states = [] if shortcut is not None else random_state([*data, *tracked])
        run = call.run(data, tracked)
        if not run.outs:
            return run.result(())
        after = [] if shortcut is not None else random_state([*data, *tracked])
        drawn = states if any(map(_differ, states, after)) else None
        splits = self._splitting.of_results(call, run) if results is None else results
        traces = self._types.traces(tracked)
        if splits is None or is_penalty(call, run, traces):
            if drawn is not None:
                restore_random_state([*data, *tracked], drawn)
            return NOT_GATED
        inputs = self._splitting.of_inputs(call, data) if inputs is None else inputs
        name = (self._names[-1] if self._names else "") or "model"
        operation = Operation(f"{name}: {call.name}", call, run, traces, splits, inputs, drawn, shortcut)
        plain = (
            isinstance(shortcut, Layered)
            and inputs[shortcut.x] is not None
            and all(isinstance(tensor, nn.Parameter) for tensor in tracked)
        )
        operation.whole = plain and not self._splitting.attending
        operation.slow = lambda: self.slow.add((name, call.name))
        self._router.arrived(run.outs[0].detach(), Place("first", self._router.layout))
        tokens = self._router.tokens(operation.roots)
        outs = Gated.apply(operation, self._router.deliver, len(tokens), *tokens, *data)  # type: ignore[no-untyped-call]  # torch
        return run.result(outs)

    def _write(self, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Write parameters into a tensor: do it to a copy, and copy the result over."""
        target = arguments[0]
        if not isinstance(target, Tensor) or named.get("out") is not None:
            raise UnsupportedLayerError(f"{self._where()} calls `{function.__name__}` with `out`; leave it out")
        if target.requires_grad or self._splitting.is_example(target):
            call, data = self._read(Elsewhere(function), (target.clone(), *arguments[1:]), named)
            written = self._gate(call, data)
            if written is not NOT_GATED:
                target.copy_(written)
                return None if function.__name__ == "__setitem__" else target
        call, data = self._read(function, arguments, named)
        alone = not any(tensor.requires_grad for tensor in data)
        result = self._natively(call, data)
        if alone and not target._is_view():  # noqa: SLF001 - as torch names it
            traces = self._types.traces(call.leaves[number] for number in call.tracked)
            self._follow(target, merge(traces, rearranged=False))
        return result


def _differ(one: Tensor, other: Tensor) -> bool:
    return not torch.equal(one, other)
