"""A ring of buckets, and what lies along it: the signs and buckets of one side of a matrix, folding and turning."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Side:
    """Rows or columns of a matrix: the bucket and the sign of each."""

    size: int
    width: int
    stride: int
    """From one bucket to the next."""
    signs: Signs

    def folded(self, values: Tensor) -> Tensor:
        """Add up what shares a bucket, (..., size) -> (..., width), or (..., size) where nothing does."""
        return _folded(values, self.signs.like(values), self.width)

    def placed(self, values: Tensor) -> Tensor:
        """Return what is in the buckets, (..., size) -> (..., width), or fewer where the last ones are empty."""
        if self.stride == 1:
            return self.folded(values)
        ring = values.new_zeros(*values.shape[:-1], self.width)
        ring[..., : self.size * self.stride : self.stride] = self.folded(values)
        return ring

    def spectra(self, values: Tensor) -> Tensor:
        """Return the Fourier transforms of images, (..., size) -> (..., width // 2 + 1)."""
        spectra: Tensor = torch.fft.rfft(self.placed(values), n=self.width)
        return spectra

    def of_index(self, index: Tensor, waves: Tensor) -> Tensor:
        """Return the transforms of the images of single numbers of 1, given by their positions.

        Shapes:
            index (...), waves: as `waves` returns them -> (..., width // 2 + 1).
        """
        places = (index * self.stride).remainder_(self.width)
        found = functional.embedding(places, torch.view_as_real(waves).flatten(1))
        found = found.mul_(functional.embedding(index, self.signs.like(found).unsqueeze(1)))
        return torch.view_as_complex(found.view(*index.shape, -1, 2))

    def waves(self, like: Tensor) -> Tensor:
        """Return the transforms of all buckets, (width, width // 2 + 1)."""
        return _waves(self.width, like.dtype, like.device)


@dataclass(frozen=True, slots=True)
class Signs:
    """Signs drawn from the name of what they are for, the same on any machine."""

    name: str
    count: int
    _made: dict[tuple[torch.dtype, torch.device], Tensor] = field(default_factory=dict, compare=False, repr=False)

    def like(self, tensor: Tensor) -> Tensor:
        """Return them in the precision and on the device of a tensor."""
        key = tensor.dtype, tensor.device
        known = self._made.get(key)
        if known is None:
            drawn = hashlib.shake_256(self.name.encode()).digest(-(-self.count // 8))
            bits = torch.frombuffer(bytearray(drawn), dtype=torch.uint8).unsqueeze(1) >> torch.arange(8, device="cpu")
            signs = (bits & 1).flatten()[: self.count].to(torch.int8) * 2 - 1
            known = self._made[key] = signs.to(tensor.device, tensor.dtype)
        return known


def turned(matrices: Tensor, signs: Tensor, stride: int, width: int) -> Tensor:
    """Return the sum of the rows, folded, each turned by `stride` more than the one before.

    With room behind every row, a view whose rows are that much shorter has the rows turned already.

    Shapes:
        matrices (b, n, m), signs (m) or (n, m) -> (b, width).
    """
    count, number, size = matrices.shape
    filled = min(size, width)
    length = filled + stride * (number - 1)
    room = matrices.new_empty(count, number, length)
    room[..., filled:].zero_()
    _folded(matrices, signs, width, room[..., :filled])
    return around(room.as_strided(room.shape, (number * length, length - stride, 1)).sum(1), width)


def around(values: Tensor, width: int, start: int = 0) -> Tensor:
    """Return numbers laid around the ring from a bucket on, (b, n) -> (b, width)."""
    rest = -(start + values.shape[1]) % width
    if start or rest:
        values = functional.pad(values, (start, rest))
    rounds = values.shape[1] // width
    return values if rounds == 1 else values.view(len(values), rounds, width).sum(1)


def _folded(values: Tensor, signs: Tensor, width: int, out: Tensor | None = None) -> Tensor:
    """Return signed numbers added up around a ring, (..., n) -> (..., width), or (..., n) where that is less."""
    size = values.shape[-1]
    if out is None:
        out = values[..., :width] * signs[..., :width]
    else:
        torch.mul(values[..., :width], signs[..., :width], out=out)
    for start in range(width, size, width):
        stop = min(size, start + width)
        out[..., : stop - start].addcmul_(values[..., start:stop], signs[..., start:stop])
    return out


@lru_cache(maxsize=32)
def _waves(width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    waves: Tensor = torch.fft.rfft(torch.eye(width, dtype=torch.float64, device="cpu"))
    return waves.to(device, dtype.to_complex())
