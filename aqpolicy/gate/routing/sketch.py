"""Small linear images of gradients: what each example was admitted to write, in a few hundred bytes.

A sketch is linear, so sums of sketches are sketches of sums, and inner products
of sketches estimate inner products without bias. Groups with at most `k`
numbers are kept as they are. Otherwise a sketch is the sum of an image per
parameter (`aqpolicy.gate.routing.images`), which needs no example's own gradient.
Signs come from SHAKE-256 of the seed, so the same plan is made anywhere, by any
version.

Source: count-sketch (Charikar, Chen, Farach-Colton 2002).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Final

import torch
from torch import Tensor

from aqpolicy.errors import CorruptLogError
from aqpolicy.gate.routing.groups import Group
from aqpolicy.gate.routing.images import Image, images_of
from aqpolicy.gate.routing.sketching import SketchMaker
from aqpolicy.lineage.record import SKETCH_KIND

DEFAULT_WIDTH: Final = 256
_LEVELS: Final = 127
"""Largest magnitude of a quantised number."""

Shapes = tuple[tuple[int, ...], ...]
"""The shapes of a group's trained parameters, in the group's order."""


@dataclass(frozen=True)
class SketchPlan:
    """How the gradients of each group are sketched; `k` is a power of two."""

    shapes: tuple[Shapes, ...]
    k: int = DEFAULT_WIDTH
    seed: int = 0
    _made: dict[int, tuple[Image, ...]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Trained numbers of each group."""
        return tuple(sum(prod(shape) for shape in shapes) for shapes in self.shapes)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Width of each group's sketch."""
        return tuple(min(self.k, size) for size in self.sizes)

    def images(self, group: int) -> tuple[Image, ...]:
        """Return the images of a group's parameters, whose sum is the sketch."""
        known = self._made.get(group)
        if known is None:
            name = f"aqpolicy sketch {SKETCH_KIND} {self.k} {self.seed} {group}"
            known = self._made[group] = images_of(self.shapes[group], self.k, name)
        return known

    def maker(self, group: Group) -> SketchMaker:
        """Return what records a group."""
        return SketchMaker(self.images(group.index))

    def empty(self, group: int, examples: int) -> Tensor:
        """Return the sketches of a group that no example reached."""
        return torch.zeros(examples, self.widths[group], device="cpu")

    def sketch(self, group: int, flat: Tensor) -> Tensor:
        """Return the sketches of flat gradients.

        Shapes:
            flat (..., numel) -> (..., width).
        """
        if self.sizes[group] == self.widths[group]:
            return flat
        rows = flat.reshape(-1, self.sizes[group])
        parts = torch.split(rows, [prod(shape) for shape in self.shapes[group]], dim=1)
        total = rows.new_zeros(len(rows), self.widths[group])
        for image, part, shape in zip(self.images(group), parts, self.shapes[group], strict=True):
            total += image.of(part.view(-1, *shape))
        return total.view(*flat.shape[:-1], -1)

    def encode(self, found: Sequence[Tensor], world: int = 1) -> list[bytes]:
        """Return one record per example: per group a float32 scale and a signed byte per number.

        Args:
            found: One tensor per group.
            world: Number of ranks; what is averaged over them is each rank's part times theirs.

        Shapes:
            found: per group (b, width).
        """
        if world > 1:
            found = [one / world for one in found]
        parts: dict[int, Tensor] = {}
        for width in {*self.widths}:  # all groups of one width together
            alike = [number for number, own in enumerate(self.widths) if own == width]
            coded = _coded(torch.stack([found[number].detach() for number in alike], dim=1))
            parts |= zip(alike, coded.unbind(1), strict=True)
        joined = torch.cat([parts[number] for number in range(len(found))], dim=1)
        data, length = joined.numpy().tobytes(), joined.shape[1]
        return [data[start : start + length] for start in range(0, len(data), length)]

    def decode(self, record: bytes) -> list[Tensor]:
        """Return the sketches of one record, float32, one per group.

        Raises:
            CorruptLogError: The record has another length than the plan says, or a scale that is not finite.
        """
        if len(record) != sum(self.widths) + 4 * len(self.widths):
            raise CorruptLogError(f"a sketch of {len(record)} bytes does not fit the run's sketch plan")
        sketches, at = [], 0
        for width in self.widths:
            (scale,) = struct.unpack_from("<f", record, at)
            if not 0.0 <= scale < float("inf"):
                raise CorruptLogError("a sketch has a scale that is no finite number")
            levels = struct.unpack_from(f"{width}b", record, at + 4)
            sketches.append(torch.tensor(levels, dtype=torch.float32, device="cpu") * scale)
            at += 4 + width
        return sketches


def _coded(sketches: Tensor) -> Tensor:
    """Return the bytes of sketches, (b, groups, width) -> (b, groups, 4 + width).

    A scale is that of the largest magnitude; 0 for a group without trained numbers.
    """
    values = sketches.to(device="cpu", dtype=torch.float32)
    largest = values.abs().amax(2, keepdim=True) if values.shape[2] else values.new_zeros(*values.shape[:2], 1)
    scale = largest / _LEVELS
    levels = (values / scale).nan_to_num_(0.0).round_().clamp_(-_LEVELS, _LEVELS)
    return torch.cat([scale.view(torch.uint8), levels.to(torch.int8).view(torch.uint8)], dim=2)
