"""Small linear images of gradients: what each example was admitted to write, in a few hundred bytes.

A sketch is linear, so sums of sketches are sketches of sums, and inner products
of sketches estimate inner products without bias. Groups with at most `k`
numbers are kept as they are. Signs and buckets come from SHAKE-256 of the seed,
so the same plan is made anywhere, by any version.

Source: count-sketch (Charikar, Chen, Farach-Colton 2002), with a random
permutation cut into equal buckets in place of independent hashing, which bounds
every bucket's load.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from aqpolicy.errors import CorruptLogError

DEFAULT_WIDTH: Final = 256
_LEVELS: Final = 127
"""Largest magnitude of a quantised number."""


@dataclass(frozen=True)
class SketchPlan:
    """How the gradients of each group are sketched; `sizes` counts the trained numbers of each group."""

    sizes: tuple[int, ...]
    k: int = DEFAULT_WIDTH
    seed: int = 0
    _made: dict[tuple[int, str], tuple[Tensor, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Width of each group's sketch."""
        return tuple(min(self.k, size) for size in self.sizes)

    def sketch(self, group: int, flat: Tensor) -> Tensor:
        """Return the sketches of flat gradients.

        Shapes:
            flat (..., numel) -> (..., width).
        """
        size, width = self.sizes[group], self.widths[group]
        if size == width:
            return flat
        order, signs = self._hashed(group, flat.device)
        mixed = flat.index_select(-1, order) * signs.to(flat.dtype)
        short = -size % width
        padded = torch.nn.functional.pad(mixed, (0, short)) if short else mixed
        # Buckets are runs of the permuted numbers: a sum over the last axis is many times faster than over another.
        return padded.reshape(*flat.shape[:-1], width, -1).sum(-1)

    def encode(self, sketches: Sequence[Tensor]) -> list[bytes]:
        """Return one record per example: per group a float32 scale and a signed byte per number.

        Shapes:
            sketches: per group (b, width).
        """
        parts = []
        for sketch in sketches:
            values = sketch.detach().to(device="cpu", dtype=torch.float32)
            scale = _largest(values) / _LEVELS
            levels = torch.where(scale > 0, values / scale, torch.zeros_like(values)).round().clamp(-_LEVELS, _LEVELS)
            parts += [scale.contiguous().view(torch.uint8), levels.to(torch.int8).view(torch.uint8)]
        joined = torch.cat(parts, dim=1).contiguous()
        data, width = joined.numpy().tobytes(), joined.shape[1]
        return [data[start : start + width] for start in range(0, len(data), width)]

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
            sketches.append(torch.tensor(levels, dtype=torch.float32) * scale)
            at += 4 + width
        return sketches

    def _hashed(self, group: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the permutation and the signs of a group."""
        known = self._made.get((group, str(device)))
        if known is None:
            size = self.sizes[group]
            name = f"aqpolicy sketch {self.seed} {group} {size}".encode()
            stream = torch.frombuffer(bytearray(hashlib.shake_256(name).digest(8 * size)), dtype=torch.int64)
            order = torch.argsort(stream >> 1, stable=True)
            signs = (stream[order] & 1) * 2 - 1
            known = self._made[group, str(device)] = (order.to(device), signs.to(device, torch.float32))
        return known


def _largest(values: Tensor) -> Tensor:
    """Return the largest magnitude of each row, shape (b, 1); 0 for a group without trained numbers."""
    return values.abs().amax(1, keepdim=True) if values.shape[1] else values.new_zeros(values.shape[0], 1)
