"""Governed parameters, and tensors computed from them alone, as types that report each operation on them.

A parameter changes its class for the length of a part; it stays the same object
under the same names. So whatever the model does with it is seen, wherever that
happens, and an operation that uses no parameter costs nothing.

What is computed from parameters alone (a view, a normalised weight, a table of
positions) is computed by autograd itself, down to an alias of each parameter.
Gradients are taken at the alias, so nothing arrives at the parameter. A loss that
reaches a parameter on that road goes through the alias and arrives there ungated,
and the gate stops the step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aqpolicy.errors import InternalError

Handler = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""What a tracked tensor reports a torch function call to; it returns the function's result."""

BATCHED_FAILS = (RuntimeError, NotImplementedError, ValueError, TypeError, IndexError, AssertionError, Warning)
"""What torch raises, or warns of, where an operation cannot be computed for many examples at once."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Rows of a table at indices that are the same for every example."""

    index: Tensor
    padding: int | None

    @property
    def counts(self) -> bool:
        """Whether the indices are those of positions in a row."""
        index = self.index.flatten()
        return len(index) > 1 and bool((index.diff() == 1).all())


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a derived tensor comes from."""

    roots: tuple[nn.Parameter, ...]
    aliases: tuple[Tensor, ...]
    """Per root, the tensor at which its gradient is taken."""
    rearranged: bool = False
    """It is a part of one root in another order, so that gradients keep their norm."""
    lookup: Lookup | None = None
    """It is rows of the one root."""
    indexed: bool = False
    """A table was looked up on the way, by indices that may be those of the examples."""


class _Alias(torch.autograd.Function):
    """The parameter under another name, so that a gradient can be taken before it arrives at the parameter."""

    @staticmethod
    def forward(_: Any, parameter: Tensor) -> Tensor:
        """Return the same numbers."""
        return parameter.detach()

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        """Hand an ungated gradient on; the gate's check at the parameter refuses it."""
        return gradients[0]


class Types:
    """The two classes of tracked tensors of one interceptor."""

    def __init__(self, handler: Handler) -> None:
        """Make the classes."""
        report = classmethod(
            lambda _, function, __, arguments=(), named=None: handler(function, arguments, named or {})
        )

        class Governed(nn.Parameter):
            """A governed parameter during a part."""

            __torch_function__ = report

            def __deepcopy__(self, memo: dict[int, Any]) -> nn.Parameter:
                """Return a plain parameter."""
                copied = nn.Parameter(self.data.clone(memory_format=torch.preserve_format), self.requires_grad)
                memo[id(self)] = copied
                return copied

        class Derived(Tensor):
            """A tensor computed from governed parameters alone."""

            __torch_function__ = report
            derivation: Trace

        self.governed: Any = Governed
        self.derived: Any = Derived
        self._aliases: dict[int, Tensor] = {}

    def watch(self, parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        """Change the class of parameters and return those that were plain; a leak check sees to the others."""
        plain = [parameter for parameter in parameters if type(parameter) is nn.Parameter]
        for parameter in plain:
            parameter.__class__ = self.governed
        return plain

    def forget(self, watched: Iterable[nn.Parameter]) -> None:
        """Give parameters their class back."""
        for parameter in watched:
            parameter.__class__ = nn.Parameter
        self._aliases.clear()

    def is_tracked(self, value: object) -> bool:
        """Return whether a value is a governed parameter or derived from them alone."""
        return type(value) is self.governed or type(value) is self.derived

    def alias(self, parameter: nn.Parameter) -> Tensor:
        """Return the alias of a parameter in this part."""
        found = self._aliases.get(id(parameter))
        if found is None:
            with torch.enable_grad():
                found = _Alias.apply(parameter)  # type: ignore[no-untyped-call]  # torch
            self._aliases[id(parameter)] = found
        return found

    def trace(self, tensor: Any) -> Trace:
        """Return where a tracked tensor comes from."""
        if type(tensor) is self.derived:
            found: Trace = tensor.derivation
            return found
        return Trace((tensor,), (self.alias(tensor),), rearranged=True)

    def traces(self, tensors: Iterable[Any]) -> tuple[Trace, ...]:
        """Return where tracked tensors come from."""
        return tuple(self.trace(tensor) for tensor in tensors)

    def mark(self, tensor: Tensor, trace: Trace) -> None:
        """Make a result a derived tensor."""
        marked: Any = tensor
        marked.__class__ = self.derived
        marked.derivation = trace


def merge(traces: Sequence[Trace], *, rearranged: bool, lookup: Lookup | None = None) -> Trace:
    """Return the trace of what was computed from several tracked tensors."""
    pairs = {id(root): (root, alias) for t in traces for root, alias in zip(t.roots, t.aliases, strict=True)}
    roots, aliases = zip(*pairs.values(), strict=True)
    kept = rearranged and len(traces) == 1 and traces[0].rearranged
    indexed = any(trace.indexed for trace in traces) or (lookup is not None and not lookup.counts)
    return Trace(roots, aliases, rearranged=kept, lookup=lookup, indexed=indexed)


def carry(tensor: Tensor, trace: Trace, gradient: Tensor) -> list[Tensor | None]:
    """Return, per root, the gradient that a gradient of a tracked tensor means for it."""
    if isinstance(tensor, nn.Parameter):
        return [gradient]
    with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - nothing is to be seen here
        found = torch.autograd.grad(
            tensor, trace.aliases, gradient.to(tensor.dtype), retain_graph=True, allow_unused=True
        )
    return list(found)


def carry_each(tensor: Tensor, trace: Trace, gradients: Tensor) -> list[Tensor | None]:
    """Return the same for every example.

    Shapes:
        gradients (k, *tensor) -> each (k, *root).
    """
    if isinstance(tensor, nn.Parameter):
        return [gradients]
    if len(gradients) == 0:
        raise InternalError("gradients of no example were asked for")
    gradients = gradients.to(tensor.dtype)
    with torch._C.DisableTorchFunctionSubclass(), warnings.catch_warnings():  # noqa: SLF001 - as above
        warnings.simplefilter("error")
        try:
            return list(
                torch.autograd.grad(
                    tensor, trace.aliases, gradients, retain_graph=True, allow_unused=True, is_grads_batched=True
                )
            )
        except BATCHED_FAILS:
            rows = [carry(tensor, trace, gradient) for gradient in gradients]
    columns = zip(*rows, strict=True)
    return [None if column[0] is None else torch.stack(column) for column in columns]
