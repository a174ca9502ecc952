"""What each example would have written, kept as it is: both sides of its outer products, or its own gradient.

A gradient of a matrix is a sum of outer products, one per position. Where both
sides together hold fewer numbers than their product they are recorded, rounded to
8 or 4 bits; otherwise the gradient itself is. What was admitted of it is one more
number, the factor: so what was denied can be priced too.

Layout: docs/formats/factors.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from aqpolicy.gate.routing.arrival import Arrival, Total
from aqpolicy.gate.routing.groups import Group
from aqpolicy.gate.routing.layers import Use
from aqpolicy.gate.routing.layers.outer import OuterRule
from aqpolicy.gate.routing.layers.rule import add_up, joined, widened
from aqpolicy.gate.routing.sharing import Sharing
from aqpolicy.lineage.record import LARGEST_SCALE

NOTHING, OUTER, ALONG_ROWS, ALONG_COLUMNS, WHOLE = range(5)
"""How the gradient of a parameter is recorded: not at all, as outer products, as the sum of the rows or columns of the
outer products of an earlier parameter (a bias beside its weight), or as it is."""

BITS: Final = (8, 4)
"""How many bits a number may have."""

_GOLDEN: Final = -1640531527
"""2^32 over the golden ratio, as a signed number: multiplied by it, low bits of a number reach its high ones."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The gradients of one parameter, of the examples of a part.

    Shapes:
        rows (b, t, r) and columns (b, t, c) where they are outer products; values (b, n) where they are whole.
    """

    kind: int
    rows: Tensor | None = None
    columns: Tensor | None = None
    values: Tensor | None = None
    beside: int = 0
    """Position of the parameter whose outer products a sum belongs to."""
    turned: bool = False
    """Whether the rows are inputs, so that the gradient of the output is in the columns."""

    def over(self, scale: float) -> Piece:
        """Return the gradients divided by a number."""
        if scale == 1:
            return self
        if self.values is not None:
            return replace(self, values=self.values / scale)
        if self.rows is None or self.columns is None:
            return self
        return replace(self, columns=self.columns / scale) if self.turned else replace(self, rows=self.rows / scale)


@dataclass(frozen=True, slots=True)
class Factored:
    """What the examples of a part would have written into one group, and how much of it they did.

    Shapes:
        factors (b,); pieces: one per trained parameter.
    """

    factors: Tensor
    pieces: tuple[Piece, ...]

    def over(self, world: int) -> Factored:
        """Return the gradients divided by a number: what is averaged over ranks is each rank's part times theirs."""
        return Factored(self.factors, tuple(piece.over(world) for piece in self.pieces))


@dataclass(frozen=True, slots=True)
class FactorPlan:
    """How the gradients of a run are recorded as factors.

    Shapes:
        counts: trained parameters per group.
    """

    counts: tuple[int, ...]
    bits: int = 8

    def maker(self, group: Group) -> FactorMaker:  # noqa: ARG002 - all groups alike
        """Return what records a group."""
        return FactorMaker()

    def empty(self, group: int, examples: int) -> Factored:
        """Return the record of a group that no example reached."""
        return Factored(torch.zeros(examples, device="cpu"), tuple(Piece(NOTHING) for _ in range(self.counts[group])))

    def encode(self, found: Sequence[Factored], world: int = 1) -> list[bytes]:
        """Return one record per example.

        Args:
            found: One per group.
            world: Number of ranks.
        """
        parts = [part for one in found for part in self._coded(one.over(world))]
        whole = torch.cat([part.reshape(len(part), -1) for part in parts], dim=1)
        data, length = whole.numpy().tobytes(), whole.shape[1]
        return [data[start : start + length] for start in range(0, len(data), length)]

    def _coded(self, found: Factored) -> list[Tensor]:
        factors = found.factors.detach().to("cpu", torch.float32).contiguous()
        parts = [factors.view(torch.uint8).view(len(factors), 4)]
        for piece in found.pieces:
            if piece.kind == OUTER and piece.rows is not None and piece.columns is not None:
                positions = piece.rows.shape[1]
                head = struct.pack("<BH", OUTER, positions)
                parts += [_head(head, factors), self._levels(piece.rows), self._levels(piece.columns)]
            elif piece.kind == WHOLE and piece.values is not None:
                parts += [_head(bytes([WHOLE]), factors), self._levels(piece.values.unsqueeze(1))]
            elif piece.kind in {ALONG_ROWS, ALONG_COLUMNS}:
                parts.append(_head(struct.pack("<BH", piece.kind, piece.beside), factors))
            else:
                parts.append(_head(bytes([NOTHING]), factors))
        return parts

    def _levels(self, values: Tensor) -> Tensor:
        """Return scales and levels of numbers that are rounded position by position, (b, t, n) -> (b, bytes).

        What is not finite, or near it, becomes 0: such an example is admitted nowhere.
        """
        values = values.detach().to("cpu", torch.float32).contiguous()
        most = 2 ** (self.bits - 1) - 1
        largest = values.abs().amax(2, keepdim=True) if values.shape[2] else values.new_zeros(*values.shape[:2], 1)
        largest = torch.where(largest <= most * LARGEST_SCALE, largest, 0.0)
        scales = largest / most
        # A number beyond all scales would be rounded to one, were it not finite.
        levels = (values / scales).nan_to_num_(0.0, 0.0, 0.0)
        levels = levels.round_() if self.bits == BITS[0] else levels.add_(_chance(values)).floor_()
        levels = levels.clamp_(-most, most).to(torch.int8)
        levels = torch.where(scales > 0, levels, 0).flatten(1)
        if self.bits == BITS[1]:
            levels = torch.nn.functional.pad(levels, (0, levels.shape[1] % 2)).view(torch.uint8)
            levels = (levels[:, 0::2] & 15) | (levels[:, 1::2] << 4)
        packed = scales.squeeze(2).contiguous().view(torch.uint8).view(len(values), -1)
        return torch.cat([packed, levels.view(torch.uint8)], dim=1)


class FactorMaker:
    """Makes the records of one group."""

    def begin(self, sharing: Sharing, group: Group) -> Factoring:
        """Start with a part."""
        return Factoring(sharing, group)


class Factoring:
    """The factors of one group in one part of a step."""

    def __init__(self, sharing: Sharing, group: Group) -> None:
        """Decide, per parameter, how it is recorded."""
        self._group = group
        self._uses: dict[int, list[Arrival]] = {}
        for arrival in sharing.uses:
            for parameter in arrival.held:
                if parameter is not None:
                    self._uses.setdefault(id(parameter), []).append(arrival)
        dense = {id(arrival) for arrival in sharing.dense}
        self._made = {key for key, uses in self._uses.items() if all(id(one) in dense for one in uses)}
        self._made -= {key for key, uses in self._uses.items() if len(uses) == 1 and _apart(uses[0].use)}
        self._runs: dict[int, list[Tensor]] = {key: [] for key in self._made}

    def take(self, own: Total) -> None:
        """Keep the gradients that were made for the next run of examples."""
        for key, runs in self._runs.items():
            runs.append(own[key].flatten(1))

    def finish(self, factors: Tensor, scale: float) -> Factored:
        """Return what each example would have contributed, and its factor.

        Args:
            factors: One per example.
            scale: What the loss was multiplied by.

        Shapes:
            factors (b,).
        """
        pieces: list[Piece] = []
        matrices: dict[int, tuple[int, bool]] = {}  # by use: position of its weight, and whether rows are outputs
        for number, parameter in enumerate(self._group.parameters):
            pieces.append(self._piece(number, id(parameter), matrices).over(scale))
        return Factored(factors, tuple(pieces))

    def _piece(self, number: int, key: int, matrices: dict[int, tuple[int, bool]]) -> Piece:
        uses = self._uses.get(key)
        if uses is None:
            return Piece(NOTHING)
        only = uses[0]
        if len(uses) == 1 and _apart(only.use):
            rule = only.use.rule
            assert isinstance(rule, OuterRule)  # noqa: S101 - for mypy
            if key == id(only.held[0]):
                matrices[id(only)] = number, not rule.rows_are_inputs
                return Piece(OUTER, *rule.sides(only.use), turned=rule.rows_are_inputs)
            place = matrices.get(id(only))
            if place is not None and not rule.shift_apart:
                return Piece(ALONG_ROWS if place[1] else ALONG_COLUMNS, beside=place[0])
        if key in self._made:
            return Piece(WHOLE, values=joined(self._runs[key]))
        return Piece(WHOLE, values=add_up([_own(arrival, key) for arrival in uses]))


def _apart(use: Use) -> bool:
    """Return whether both sides of a use's outer products are recorded."""
    if type(use) is not Use or not isinstance(use.rule, OuterRule) or not use.wanted[0]:
        return False
    extent = use.rule.extent(use)
    return extent is not None and extent.fewer_in_factors and extent.length < 2**16


def _own(arrival: Arrival, key: int) -> Tensor:
    """Return every example's own gradient of a parameter in one use, (b, n)."""
    keep = tuple(wanted is not None and id(wanted) == key for wanted in arrival.held)
    gradients = arrival.use.rule.per_sample(replace(arrival.use, wanted=keep))
    return next(
        widened(gradient).flatten(1)
        for gradient, wanted in zip(gradients, keep, strict=True)
        if wanted and gradient is not None
    )


def _chance(values: Tensor) -> Tensor:
    """Return a number from 0 to below 1 for each number, drawn from its own bits: the same for the same number.

    Rounded to the nearest of few levels, the many small numbers beside a large one would all become 0, and their sum
    over a run be lost. Rounded up by chance in proportion, they are kept on average.
    """
    drawn = (values.view(torch.int32) * _GOLDEN) >> 8 & 0xFFFFFF
    return drawn.to(torch.float32).div_(2.0**24)


def _head(head: bytes, like: Tensor) -> Tensor:
    """Return the same bytes for every example."""
    return torch.frombuffer(bytearray(head), dtype=torch.uint8).expand(len(like), len(head))
