"""Where the examples are in each tensor of an operation, and which tensors hold none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from aqpolicy.gate.routing.layout import Layout
from aqpolicy.gate.routing.operations.call import Call, Run
from aqpolicy.gate.routing.operations.names import RECURRENT
from aqpolicy.gate.routing.operations.split import Split, find_split, second_split


class Splitting:
    """Finds splits in one part.

    A wrong guess costs time or stops the step, and never exactness: what is taken
    for a constant is followed by autograd, and cutting by example is checked.
    """

    def __init__(self, buffers: Callable[[], Iterable[Tensor]]) -> None:
        self._buffers = buffers
        self._layout = Layout(0)
        self._constants: set[int] | None = None
        self._batches: list[int | None] = []

    def open(self, layout: Layout) -> None:
        """Start a part."""
        self._layout, self._constants, self._batches = layout, None, []

    @contextmanager
    def attention(self, batch: int | None) -> Iterator[None]:
        """Know that attention runs: its batch is second."""
        self._batches.append(batch)
        try:
            yield
        finally:
            self._batches.pop()

    @property
    def attending(self) -> bool:
        """Whether attention runs."""
        return bool(self._batches)

    def find(self, tensor: Tensor) -> Split | None:
        """Return the split of a tensor that has examples somewhere."""
        if self._batches:
            batch = self._batches[-1]
            return None if batch is None else second_split(self._layout, tensor, batch)
        return find_split(self._layout, tensor)

    def is_example(self, tensor: Tensor) -> bool:
        """Return whether a tensor without a gradient is most likely one of the examples.

        A list of numbers, and what may be flattened positions or a table of distances,
        is left open: computing with it as with a constant is exact as well.
        """
        if tensor.dim() < 2 or self._is_constant(tensor):
            return False
        split = self.find(tensor)
        if split is None or self._batches or split.packed is not None:
            return split is not None
        if not tensor.is_floating_point():
            return split.axis == 0 and split.each == 1
        return split.each == 1

    def is_constant_input(self, x: Tensor) -> bool:
        """Return whether what goes into a layer may be the same for every example, as far as one can see.

        That is so for indices of no certain kind, for what has no examples anywhere, and
        for an identity matrix, which asks a layer for its weight.
        """
        if not x.is_floating_point():
            shared = x.dim() > 1 and x.shape[0] == 1 and x.shape[1] != self._layout.examples
            return not shared and not self.is_example(x)
        if self.find(x) is None:
            return x.dim() == 0 or x.shape[0] != 1
        return x.dim() == 2 and x.shape[0] == x.shape[1] and torch.equal(x, torch.eye(len(x)).to(x))

    def of_inputs(self, call: Call, data: Sequence[Tensor]) -> tuple[Split | None, ...]:
        """Return the split of each tensor that goes into an operation; None for constants."""
        if call.name in RECURRENT:
            return (self._sequence(call, data[0]), *(self._second(tensor) for tensor in data[1:]))
        return tuple(self.find(t) if t.requires_grad or self.is_example(t) else None for t in data)

    def of_results(self, call: Call, run: Run) -> tuple[Split, ...] | None:
        """Return the split of each result that has a gradient; None where one has no examples."""
        if call.name in RECURRENT:
            found = [
                self._sequence(call, out) if number == 0 else self._second(out)
                for number, out in zip(run.differentiable, run.outs, strict=True)
            ]
        else:
            found = [self.find(out) for out in run.outs]
        splits = tuple(split for split in found if split is not None)
        return splits if len(splits) == len(found) else None

    def of_spread(self, tensor: Tensor, wide: Tensor) -> Split | None:
        """Return the split of a tensor of parameters that was spread over the examples; None where it was not."""
        examples, more = self._layout.examples, wide.dim() - tensor.dim()
        if self._layout.segments is not None or examples == 1:
            return None
        for axis in (0, 1) if wide.dim() > 2 else (0,):
            if wide.shape[axis] == examples and (axis < more or tensor.shape[axis - more] == 1):
                return Split(examples, axis)
        return None

    def _sequence(self, call: Call, tensor: Tensor) -> Split | None:
        return self._along(tensor, 0 if call.leaves[-1] is True else 1)  # `batch_first` is the last argument

    def _second(self, tensor: Tensor) -> Split | None:
        return self._along(tensor, 1)

    def _along(self, tensor: Tensor, axis: int) -> Split | None:
        examples = self._layout.examples
        if tensor.dim() < 3 or tensor.shape[axis] % examples:
            return None
        return Split(examples, axis, tensor.shape[axis] // examples)

    def _is_constant(self, tensor: Tensor) -> bool:
        if isinstance(tensor, nn.Parameter):
            return True
        if self._constants is None:
            self._constants = {id(buffer) for buffer in self._buffers()}
        base = tensor._base if tensor._is_view() else tensor  # noqa: SLF001 - torch has no other name for it
        return id(base) in self._constants
