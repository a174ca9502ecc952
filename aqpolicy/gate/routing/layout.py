"""How the examples of a part lie in the tensors of a model: which rows and positions belong to which example.

Models put examples on the first axis, on the second (`batch_first=False`), flatten
them with their positions into one axis, or pack several into one row. A place says
which of these a tensor is and turns it example-major, which is all that a rule
needs. That rows of different examples do not touch is not believed: the gate's
probe looks at it (`aqpolicy.gate.routing.router`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from aqpolicy.errors import IllegalTrainingSetupError

Kind = Literal["first", "flat", "second", "shared", "packed"]

NO_EXAMPLE = -1
"""What `segments` holds at a position that belongs to no example."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the examples are in one tensor.

    first: (b, ...); flat: (b * n, ...), example by example; second: (n, b, ...);
    shared: (1, ...), the same for every example; packed: (rows, positions, ...) or
    (rows * positions, ...), by segments.
    """

    kind: Kind
    layout: Layout

    def major(self, tensor: Tensor) -> Tensor:
        """Return the same numbers with the examples first; positions that an example does not have are 0."""
        examples = self.layout.examples
        if self.kind == "first":
            return tensor
        if self.kind == "flat":
            return tensor.reshape(examples, tensor.shape[0] // examples, *tensor.shape[1:])
        if self.kind == "second":
            return tensor.transpose(0, 1)
        if self.kind == "shared":
            return tensor.expand(examples, *tensor.shape[1:])
        index, held = self.layout.positions
        flat = tensor.reshape(-1, *tensor.shape[2:]) if self._in_rows(tensor) else tensor
        found = flat.index_select(0, index.reshape(-1)).view(*index.shape, *flat.shape[1:])
        return found.masked_fill(~held.view(*held.shape, *[1] * (found.dim() - 2)), 0)

    def factors(self, factors: Tensor, like: Tensor) -> Tensor:
        """Return one factor per example in the shape and type in which it multiplies `like`.

        Shapes:
            factors (b,).
        """
        factors = factors.to(like.dtype)
        if self.kind == "first":
            return factors.view(-1, *[1] * (like.dim() - 1))
        if self.kind == "flat":
            each = factors.repeat_interleave(like.shape[0] // self.layout.examples)
            return each.view(-1, *[1] * (like.dim() - 1))
        if self.kind == "second":
            return factors.view(1, -1, *[1] * (like.dim() - 2))
        if self.kind == "shared":
            raise IllegalTrainingSetupError("a tensor that all examples share has no factor per example; expand it")
        segments = self.layout.owners
        each = torch.where(segments >= 0, factors[segments.clamp_min(0)], 0.0)
        rest = like.dim() - (2 if self._in_rows(like) else 1)
        return (each if self._in_rows(like) else each.reshape(-1)).view(
            *(each.shape if self._in_rows(like) else (-1,)), *[1] * rest
        )

    def _in_rows(self, tensor: Tensor) -> bool:
        return tensor.dim() > 1 and tuple(tensor.shape[:2]) == tuple(self.layout.owners.shape)


class Layout:
    """The examples of one part: how many, and, where rows are packed, which position is whose."""

    def __init__(self, examples: int, segments: Tensor | None = None) -> None:
        """Keep the segments.

        Args:
            examples: Number of examples.
            segments: For packed rows, which example of the part each position belongs to, `NO_EXAMPLE` for none.

        Shapes:
            segments (rows, positions).

        Raises:
            IllegalTrainingSetupError: `segments` names an example that the part does not have.
        """
        self.examples, self.segments = examples, segments
        if segments is not None and (
            segments.dim() != 2
            or segments.is_floating_point()
            or not segments.numel()
            or int(segments.min()) < NO_EXAMPLE
            or int(segments.max()) >= examples
        ):
            raise IllegalTrainingSetupError(
                f"segments are whole numbers of shape (rows, positions) from {NO_EXAMPLE} to {examples - 1}"
            )

    @property
    def owners(self) -> Tensor:
        """The segments."""
        if self.segments is None:
            raise IllegalTrainingSetupError("this part was not opened with segments")
        return self.segments

    @cached_property
    def positions(self) -> tuple[Tensor, Tensor]:
        """Return where the positions of each example are among all, and which of these are there at all.

        Shapes:
            both (b, most positions of an example).
        """
        owner = self.owners.reshape(-1)
        counts = torch.bincount(owner[owner >= 0], minlength=self.examples)
        order = torch.argsort(torch.where(owner >= 0, owner, self.examples), stable=True)
        most = max(int(counts.max()), 1)
        starts = counts.cumsum(0) - counts
        within = torch.arange(most, device=owner.device)
        held = within < counts.unsqueeze(1)
        return order[(starts.unsqueeze(1) + within).clamp_max(len(order) - 1)], held

    def place(self, tensor: Tensor, *, positionwise: bool) -> Place | None:
        """Return where the examples are in a tensor, or None where they are nowhere to be found.

        Args:
            tensor: A layer's input, or the gradient of its output.
            positionwise: Whether the layer treats all axes before the last ones alike.
        """
        kind = self._kind(tensor, positionwise=positionwise)
        return None if kind is None else Place(kind, self)

    def _kind(self, tensor: Tensor, *, positionwise: bool) -> Kind | None:
        if tensor.dim() == 0:
            return None
        first, whole = tensor.shape[0], not tensor.is_floating_point()
        deep = tensor.dim() + whole  # indices have no axis of features
        if self.segments is not None and positionwise:
            rows, length = self.segments.shape
            if deep > 2 and tuple(tensor.shape[:2]) == (rows, length):
                return "packed"
            if first == rows * length and first != self.examples:
                return "packed"
        if first == self.examples:
            return "first"
        if not positionwise:
            return None
        if deep > 2 and tensor.shape[1] == self.examples:
            return "second"
        if first == 1:
            return "shared"
        return "flat" if first % self.examples == 0 else None

    def ambiguous(self, tensor: Tensor) -> bool:
        """Return whether a tensor could have its examples first or second, so that only the probe can tell."""
        deep = tensor.dim() + (not tensor.is_floating_point())
        return deep > 2 and self.examples > 1 and tensor.shape[0] == tensor.shape[1] == self.examples


def per_example_sum(values: Tensor, segments: Tensor, examples: int) -> Tensor:
    """Return the sum of what each example's positions have, such as its loss from the losses of its tokens.

    Args:
        values: One number per position.
        segments: Which example each position belongs to, `NO_EXAMPLE` for none.
        examples: How many examples there are.

    Shapes:
        values and segments (rows, positions) -> (examples,).
    """
    owner = segments.reshape(-1)
    counted = torch.where(owner >= 0, values.reshape(-1), torch.zeros((), dtype=values.dtype, device=values.device))
    return values.new_zeros(examples).index_add(0, owner.clamp_min(0), counted)
