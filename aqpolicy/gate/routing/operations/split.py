"""Which part of an operation's tensor belongs to which example, and how to take, mask and weigh that part.

A `Place` says where the examples of a layer's input are. An operation needs more:
its tensors must be cut to some examples and still have the shape that the
operation expects.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from aqpolicy.gate.routing.layout import Layout, Place


@dataclass(frozen=True, slots=True)
class Split:
    """The examples of one tensor.

    On axis 0 or 1 an example has `each` neighbours in a row. `inner` is axis 1
    before positions and examples were flattened into one axis, position by position.
    Packed rows have a place instead; they can be read by example, but not cut.
    """

    examples: int
    axis: int = 0
    each: int = 1
    inner: bool = False
    packed: Place | None = None

    def stack(self, tensor: Tensor) -> Tensor:
        """Return every example's own part, (b, *part)."""
        if self.packed is not None:
            return self.packed.major(tensor)
        if self.inner:
            positions = tensor.shape[0] // (self.examples * self.each)
            parts = tensor.reshape(positions, self.examples, self.each, *tensor.shape[1:]).transpose(0, 1)
            return parts.reshape(self.examples, positions * self.each, *tensor.shape[1:])
        head, tail = tensor.shape[: self.axis], tensor.shape[self.axis + 1 :]
        return tensor.reshape(*head, self.examples, self.each, *tail).movedim(self.axis, 0)

    def join(self, parts: Tensor) -> Tensor:
        """Return the tensor that has these parts, the inverse of `stack` for any number of examples."""
        count = parts.shape[0]
        if self.inner:
            rows = parts.reshape(count, -1, self.each, *parts.shape[2:]).transpose(0, 1)
            return rows.reshape(-1, *parts.shape[2:])
        moved = parts.movedim(0, self.axis)
        head, tail = moved.shape[: self.axis], moved.shape[self.axis + 2 :]
        return moved.reshape(*head, count * self.each, *tail)

    def parts(self, tensor: Tensor, keep: Tensor | None) -> Tensor:
        """Return the own part of every example that is kept; None keeps all."""
        parts = self.stack(tensor)
        return parts if keep is None else parts.index_select(0, keep)

    def take(self, tensor: Tensor, keep: Tensor) -> Tensor:
        """Return the tensor of some examples only."""
        return self.join(self.stack(tensor).index_select(0, keep))

    def factors(self, factors: Tensor, like: Tensor) -> Tensor:
        """Return one factor per example, (b,), in a shape that multiplies `like`."""
        if self.packed is not None:
            return self.packed.factors(factors, like)
        shape = [1] * like.dim()
        shape[0 if self.inner else self.axis] = -1
        each = factors.repeat_interleave(self.each)
        if self.inner:
            each = each.repeat(like.shape[0] // len(each))
        return each.view(shape)

    def only(self, tensor: Tensor, example: int) -> Tensor:
        """Return the tensor with everything but one example replaced by 0, whatever it was."""
        chosen = torch.zeros(self.examples, device=tensor.device)
        chosen[example] = 1
        return torch.where(self.factors(chosen, tensor) != 0, tensor, torch.zeros_like(tensor))


def find_split(layout: Layout, tensor: Tensor) -> Split | None:
    """Return where the examples are in a tensor, or None where they are nowhere to be found."""
    place = layout.place(tensor, positionwise=True)
    if place is None or place.kind == "shared":
        return None
    if place.kind == "packed":
        return Split(layout.examples, packed=place)
    axis = int(place.kind == "second")
    return Split(layout.examples, axis, tensor.shape[axis] // layout.examples)


def second_split(layout: Layout, tensor: Tensor, batch: int) -> Split | None:
    """Return the split inside attention, which has its batch second, also once positions and batch are flattened."""
    if batch % layout.examples:
        return None
    each = batch // layout.examples
    if tensor.dim() > 2 and tensor.shape[1] == batch:
        return Split(layout.examples, 1, each)
    if tensor.dim() == 2 and tensor.shape[0] % batch == 0:
        return Split(layout.examples, 0, each, inner=True)
    return None


def reduce_parts(parts: Tensor, shape: torch.Size, split: Split, keep: Tensor | None) -> Tensor | None:
    """Sum each example's part of a result to the shape of an operand that was broadcast into it.

    An operand that has the example axis itself gets its gradient at its own place.
    None where that is not possible.

    Shapes:
        parts (k, *part) of a result, shape of the operand -> (k, *shape).
    """
    part = parts.shape[1:]
    wide = (1,) * (len(part) - len(shape)) + tuple(shape)
    if len(wide) > len(part):
        return None
    own = [wide[d] != 1 and wide[d] != part[d] for d in range(len(part))]
    axes = [d + 1 for d in range(len(part)) if wide[d] == 1 and part[d] != 1]
    summed = parts.sum(axes, keepdim=True) if axes else parts
    if not any(own):
        if split.packed is not None and prod(wide[:1]) != 1:
            return None  # its positions were gathered, so they are not those of the operand
        return summed.reshape(-1, *shape)
    if split.packed is not None or split.inner or own.index(True) != split.axis or sum(own) > 1:
        return None
    if wide[split.axis] != split.examples * split.each:
        return None
    index = torch.arange(split.examples, device=parts.device) if keep is None else keep
    spread = summed.new_zeros(len(index), split.examples, *summed.shape[1:])
    spread[torch.arange(len(index), device=parts.device), index] = summed
    # (k, b, *part) to (k, *wide): the examples back in front of their neighbours on their axis.
    moved = spread.movedim(1, split.axis + 1)
    head, tail = moved.shape[: split.axis + 1], moved.shape[split.axis + 3 :]
    return moved.reshape(*head, split.examples * split.each, *tail).reshape(len(index), *shape)
