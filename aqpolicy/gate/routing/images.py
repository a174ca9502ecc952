"""How the gradient of one parameter goes into the sketch of its group: a fixed linear map onto a ring of buckets.

Every number of the gradient is added to one bucket, with a sign. Within a matrix
bucket and sign are those of its row and of its column put together: buckets add
up around the ring, signs multiply. So the image of an outer product is the
circular convolution of the images of its two sides, and is had from input and
output gradient without the product itself. Buckets follow from positions; the
signs are drawn, so that images keep inner products on average.

Source: TensorSketch (Pham, Pagh 2013), with buckets in turn instead of drawn ones, which makes hashing a sum of slices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from aqpolicy.gate.routing.sides import Side, Signs, around, turned

CACHED: Final = 2 * 1024 * 1024
"""Most memory that the folded side of a product takes at once on a CPU, so that it stays in its cache."""

ELSEWHERE: Final = 64 * 1024 * 1024
"""The same on an accelerator."""

TURNED: Final = 16 * 1024 * 1024
"""Most memory that turned rows take at once."""


class Image(ABC):
    """The part of one parameter in the sketch of its group."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Return the number of buckets."""

    @abstractmethod
    def of(self, gradients: Tensor) -> Tensor:
        """Return the images of gradients, (b, *parameter) -> (b, width)."""


@dataclass(frozen=True, slots=True)
class Line(Image):
    """The image of a vector, or of a matrix that the ring holds whole: bucket after bucket, in turn."""

    size: int
    buckets: int
    start: int
    """The bucket of the first number."""
    signs: Signs | None
    """None keeps the numbers as they are."""

    @property
    def width(self) -> int:
        """Return the number of buckets."""
        return self.buckets

    def of(self, gradients: Tensor) -> Tensor:
        """Add up what falls into the same bucket."""
        flat = gradients.reshape(len(gradients), self.size)
        if self.signs is not None:
            flat = flat * self.signs.like(flat)
        return around(flat, self.buckets, self.start)


@dataclass(frozen=True, slots=True)
class Product(Image):
    """The image of a matrix; axes beyond the second belong to its columns."""

    rows: Side
    columns: Side

    @property
    def width(self) -> int:
        """Return the number of buckets."""
        return self.rows.width

    def of(self, gradients: Tensor) -> Tensor:
        """Fold both sides as far as they share buckets, turn each row by its own, and add up."""
        matrices = gradients.reshape(len(gradients), self.rows.size, self.columns.size)
        rows, columns = self.rows, self.columns
        if columns.size < min(rows.size, self.width):  # as few turns as can be
            matrices, rows, columns = matrices.transpose(1, 2), columns, rows
        signs = columns.signs.like(matrices)
        if rows.size > self.width:
            matrices = rows.folded(matrices.transpose(1, 2)).transpose(1, 2)
        else:
            signs = rows.signs.like(matrices).unsqueeze(1) * signs
        step = max(1, TURNED // (2 * self.width * max(1, matrices.shape[1]) * matrices.itemsize))
        parts = [turned(part, signs, rows.stride, self.width) for part in torch.split(matrices, step)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def of_products(self, rows: Tensor, columns: Tensor, edge: Edge | None = None) -> Tensor:
        """Return the images of sums of outer products, without making these.

        Args:
            rows: One side, or indices where each is a single row.
            columns: The other side.
            edge: The image of a vector that one of the sides adds up to; it is included.

        Shapes:
            rows (b, t, number of rows) or (b, t), columns (b, t, number of columns) -> (b, width).
        """
        if not columns.numel():
            return columns.new_zeros(len(columns), self.width)
        room = CACHED if columns.device.type == "cpu" else ELSEWHERE
        step = max(1, room // (columns.shape[1] * self.width * columns.itemsize))
        parts = [
            self._spectrum(rows[start : start + step], columns[start : start + step], edge)
            for start in range(0, len(columns), step)
        ]
        return self._back(parts[0] if len(parts) == 1 else torch.cat(parts))

    def _spectrum(self, rows: Tensor, columns: Tensor, edge: Edge | None) -> Tensor:
        spectra = self.columns.spectra(columns)
        if rows.is_floating_point():
            others = self.rows.spectra(rows)
        else:
            others = self.rows.of_index(rows, self.rows.waves(columns))
        if edge is not None:
            (spectra if edge.side is self.rows else others).add_(edge.wave(columns))
        spectra.mul_(others)
        return spectra.squeeze(1) if spectra.shape[1] == 1 else spectra.sum(1)

    def _back(self, spectra: Tensor) -> Tensor:
        images: Tensor = torch.fft.irfft(spectra, n=self.width)
        return images


@dataclass(frozen=True, slots=True)
class Edge(Image):
    """The image of a vector as one more row or column of the matrix before it, mostly a bias beside its weight."""

    side: Side
    """What the vector lies along."""
    start: int
    """The bucket of the row or column that it makes."""
    sign: Signs

    @property
    def width(self) -> int:
        """Return the number of buckets."""
        return self.side.width

    def of(self, gradients: Tensor) -> Tensor:
        """Fold as the side is folded, and turn."""
        placed = self.side.placed(gradients)
        full = functional.pad(placed, (0, self.width - placed.shape[1]))
        return full.roll(self.start, 1).mul_(self.sign.like(full))

    def wave(self, like: Tensor) -> Tensor:
        """Return the transform of the one number by which the side is multiplied."""
        return self.side.waves(like)[self.start] * self.sign.like(like)


def images_of(shapes: Sequence[Sequence[int]], width: int, name: str) -> tuple[Image, ...]:
    """Return the images of a group's parameters.

    Args:
        shapes: The parameters' shapes.
        width: Buckets of the ring, a power of two; a group with no more numbers is kept as it is.
        name: What the signs are drawn from.
    """
    whole = sum(prod(shape) for shape in shapes) <= width
    ring = sum(prod(shape) for shape in shapes) if whole else width
    images: list[Image] = []
    taken = 0
    for number, shape in enumerate(shapes):
        size, called = prod(shape), f"{name} {number}"
        rows, columns = (shape[0], prod(shape[1:])) if len(shape) > 1 else (size, 1)
        if size > ring and min(rows, columns) > 1:
            images.append(_product(rows, columns, ring, called))
            continue
        edge = None if whole or len(shape) != 1 else _edge(images, size, called)
        if edge is not None:
            images.append(edge)
            continue
        images.append(Line(size, max(1, ring), taken % max(1, ring), None if whole else Signs(called, size)))
        taken += size
    return tuple(images)


def _product(rows: int, columns: int, width: int, name: str) -> Product:
    """Return the image of a matrix. Where neither side fills the ring, the steps of the shorter one are spread over it.

    Without that, a matrix of 64 by 64 would fill no more than 127 buckets.
    """
    strides = [1, 1]
    if max(rows, columns) < width:
        strides[rows > columns] = width // min(rows, columns)
    return Product(
        Side(rows, width, strides[0], Signs(f"{name} rows", rows)),
        Side(columns, width, strides[1], Signs(f"{name} columns", columns)),
    )


def _edge(before: Sequence[Image], size: int, name: str) -> Edge | None:
    """Return a vector's image beside the matrix just before it, None where it fits no side."""
    matrix = before[-1] if before else None
    if not isinstance(matrix, Product):
        return None
    for side, other in ((matrix.rows, matrix.columns), (matrix.columns, matrix.rows)):
        if side.size == size:
            return Edge(side, other.size * other.stride % side.width, Signs(f"{name} sign", 1))
    return None
