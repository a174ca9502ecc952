"""Operations whose per-example gradients have a short form.

A shortcut only answers what each example's own gradients are. The operation itself
and its summed gradient are always torch's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Protocol

from torch import Tensor
from torch.nn import functional

from aqpolicy.gate.routing.layers import Rule, Use
from aqpolicy.gate.routing.layers.embedding import EmbeddingRule
from aqpolicy.gate.routing.layers.linear import LinearRule, TransposedLinearRule
from aqpolicy.gate.routing.operations.arguments import arguments_of, padding_of
from aqpolicy.gate.routing.operations.call import Call
from aqpolicy.gate.routing.operations.contributions import NORMS, POINTWISE, Affine, Pointwise

if TYPE_CHECKING:
    from aqpolicy.gate.routing.operations.operation import Operation

Parts = list[Tensor | None]

PRODUCTS: Final = frozenset({"linear", "matmul", "mm", "addmm"})
LINEAR, TRANSPOSED, TABLE = LinearRule(), TransposedLinearRule(), EmbeddingRule()


class Shortcut(Protocol):
    """A short way to each example's own gradients of the tracked tensors of a call."""

    def use(self, operation: Operation, es: Sequence[Tensor], keep: Tensor | None) -> Use | None:
        """Return the operation as a layer's use, or None where it is none."""

    def layer(self, operation: Operation, e: Tensor) -> tuple[tuple[Any, ...], Use] | None:
        """Return the layer's parameters and its use as autograd would see it, or None where it is none."""

    def each(self, operation: Operation, es: Sequence[Tensor], keep: Tensor | None) -> Parts | None:
        """Return the gradients of every example that is kept; None where the short form does not fit."""

    def rows(self, operation: Operation, es: Sequence[Tensor], keep: Tensor) -> Parts | None:
        """Return the gradients summed over the examples that are kept; None where the short form does not fit."""


@dataclass(frozen=True, slots=True)
class Layered:
    """An operation that a layer's rule computes."""

    rule: Rule
    options: Any
    x: int
    """Which of the call's tensors is the input."""
    order: tuple[int | None, ...]
    """Per parameter of the rule, which of the call's tracked tensors it is."""

    def use(self, operation: Operation, es: Sequence[Tensor], keep: Tensor | None) -> Use | None:
        """Return the use with its examples first."""
        split = operation.inputs[self.x]
        if split is None:
            return None
        use = self._native(operation, es[0])
        return replace(use, x=split.parts(use.x, keep), e=operation.splits[0].parts(use.e, keep))

    def layer(self, operation: Operation, e: Tensor) -> tuple[tuple[Any, ...], Use] | None:
        """Return the use, and the parameters as the rule counts them."""
        tracked = operation.tracked
        return tuple(None if number is None else tracked[number] for number in self.order), self._native(operation, e)

    def _native(self, operation: Operation, e: Tensor) -> Use:
        x, tracked = operation.run.data[self.x].detach(), operation.run.tracked
        x = x.to(e.dtype) if x.is_floating_point() else x
        weights = tuple(None if number is None else tracked[number].detach() for number in self.order)
        wanted = tuple(weight is not None for weight in weights)
        return Use(self.rule, self.options, wanted, weights, x, (), e)

    def each(self, operation: Operation, es: Sequence[Tensor], keep: Tensor | None) -> Parts | None:
        """Ask the rule."""
        use = self.use(operation, es, keep)
        return None if use is None else self._ordered(use.rule.per_sample(use), operation)

    def rows(self, operation: Operation, es: Sequence[Tensor], keep: Tensor) -> Parts | None:
        """Ask the rule."""
        use = self.use(operation, es, keep)
        return None if use is None else self._ordered(use.rule.gradients(use), operation)

    def _ordered(self, found: Sequence[Tensor | None], operation: Operation) -> Parts:
        known = {number: gradient for number, gradient in zip(self.order, found, strict=True) if number is not None}
        return [known.get(number) for number in range(len(operation.call.tracked))]


def find_shortcut(call: Call, data: Sequence[Tensor], tracked: Sequence[Tensor]) -> Shortcut | None:
    """Return the short way of a call, or None."""
    name = call.name
    if name in POINTWISE and not (name == "clone" and data):
        return Pointwise()
    if name in NORMS and call.function is getattr(functional, name):
        return _affine(call)
    if call.function is functional.embedding:
        return _table(call, data)
    return _product(call, data, tracked) if name in PRODUCTS else None


def _product(call: Call, data: Sequence[Tensor], tracked: Sequence[Tensor]) -> Shortcut | None:
    """Match x W' + b, x W and b + x W with a matrix W, where W or b or both are tracked."""
    arguments, added = arguments_of(call), call.name == "addmm"
    if {"beta", "alpha", "out"} & arguments.keys():
        return None
    names = ("input", "weight", "bias") if call.name == "linear" else (0 + added, 1 + added, 0 if added else None)
    x, weight, bias = (arguments.get(name) for name in names)
    at_data, at_tracked = _at(call.data), _at(call.tracked)
    if x not in at_data or data[at_data[x]].dim() < 2:
        return None
    order = (at_tracked.get(weight), at_tracked.get(bias))
    if any(n is not None and tracked[n].dim() != dim for n, dim in zip(order, (2, 1), strict=True)):
        return None
    if order[0] is None and (weight not in at_data or data[at_data[weight]].dim() != 2):
        return None
    return Layered(LINEAR if call.name == "linear" else TRANSPOSED, None, at_data[x], order)


def _table(call: Call, data: Sequence[Tensor]) -> Shortcut | None:
    """Match a lookup in a table."""
    arguments = arguments_of(call)
    if len(data) != 1 or len(call.tracked) != 1 or arguments.get("weight") != call.tracked[0]:
        return None
    return Layered(TABLE, SimpleNamespace(padding_idx=padding_of(call)), 0, (0,))


def _affine(call: Call) -> Shortcut | None:
    """Match a normalisation of the examples."""
    arguments, at = arguments_of(call), _at(call.tracked)
    places = [arguments.get(key) for key in ("weight", "bias")]
    tensors = {*call.data, *call.tracked}
    if arguments.get("input") != call.data[0] or tensors - {call.data[0], *places}:
        return None
    weight, bias = (at.get(place) for place in places)
    return Affine(weight, bias, tuple(place for place in places if place in tensors), NORMS[call.name])


def _at(numbers: Sequence[int]) -> dict[Any, int]:
    return {number: index for index, number in enumerate(numbers)}
