"""Read factors: what each example would have written into each parameter, and how much of it was admitted.

Untrusted bytes: whatever does not have the one layout of docs/formats/factors.md is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np
import numpy.typing as npt

from aqpolicy.errors import CorruptLogError, TraceError
from aqpolicy.lineage.record import FACTOR_KIND, LARGEST_SCALE
from aqpolicy.trace.run import FACTORS, Run
from aqpolicy.trace.sketches import Shapes, trained_shapes

Numbers = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

NOTHING, OUTER, ALONG_ROWS, ALONG_COLUMNS, WHOLE = range(5)
_FLOAT: Final = 4


@dataclass(frozen=True, slots=True)
class Written:
    """The gradients of one parameter, of some visits whose records are laid out alike.

    Shapes:
        rows (b, t, r) and columns (b, t, c) of outer products, whose sum over t is the gradient; values (b, n); along:
        of a vector, the outer products whose rows or columns it adds up.
    """

    kind: int
    size: int
    rows: Numbers | None = None
    columns: Numbers | None = None
    values: Numbers | None = None

    def dense(self, count: int) -> Numbers:
        """Return the gradients themselves, (b, n)."""
        if self.rows is not None and self.columns is not None:
            products: Numbers = np.matmul(self.rows.transpose(0, 2, 1), self.columns)
            return products.reshape(count, -1)
        return np.zeros((count, self.size), np.float32) if self.values is None else self.values


@dataclass(frozen=True, slots=True)
class Layer:
    """What some visits would have written into one group.

    Shapes:
        factors (b,): what was admitted of it.
    """

    factors: Numbers
    written: tuple[Written, ...]


@dataclass(frozen=True, slots=True)
class FactorShape:
    """How a run's factors are laid out.

    Shapes:
        shapes: per group, those of its trained parameters.
    """

    shapes: tuple[Shapes, ...]
    bits: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Trained numbers of each group."""
        return tuple(sum(prod(shape) for shape in shapes) for shapes in self.shapes)

    def read(self, records: Sequence[bytes]) -> tuple[Layer, ...]:
        """Return what the records of some visits say, all laid out as the first is.

        Raises:
            CorruptLogError: One has another layout, or it is none.
        """
        if not records or len({*map(len, records)}) != 1:
            raise CorruptLogError("the factors of a step are laid out differently")
        table = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), -1)
        reader = _Reader(table, self.bits)
        layers = tuple(reader.layer(shapes) for shapes in self.shapes)
        reader.end()
        return layers

    def together(self, records: Sequence[bytes]) -> list[tuple[list[int], tuple[Layer, ...]]]:
        """Return the positions of records that are laid out alike, with what they say."""
        if len({*map(len, records)}) == 1:
            with suppress(CorruptLogError):  # mostly all are laid out as the first is; if not, each says how it is
                return [(list(range(len(records))), self.read(records))]
        alike: dict[bytes, list[int]] = {}
        for number, record in enumerate(records):
            alike.setdefault(self._plan(record), []).append(number)
        return [(numbers, self.read([records[number] for number in numbers])) for numbers in alike.values()]

    def _plan(self, record: bytes) -> bytes:
        """Return the heads of a record one after the other; what they begin is not looked at."""
        table = np.frombuffer(record, np.uint8).reshape(1, -1)
        reader = _Reader(table, self.bits, skip=True)
        for shapes in self.shapes:
            reader.layer(shapes)
        return b"".join(reader.heads)

    def norms(self, record: bytes) -> tuple[tuple[float, float], ...]:
        """Return per group what was admitted, and the l2 norm of what would have been written.

        Raises:
            CorruptLogError: The record has no valid layout.
        """
        found = []
        for layer in self.read([record]):
            squares = sum(float(np.square(one.dense(1).astype(np.float64)).sum()) for one in layer.written)
            found.append((float(layer.factors[0]), squares**0.5))
        return tuple(found)


class _Reader:
    """Reads a table of records column by column."""

    def __init__(self, table: Bytes, bits: int, *, skip: bool = False) -> None:
        self._table, self._bits, self._skip, self._at = table, bits, skip, 0
        self.heads: list[bytes] = []

    def layer(self, shapes: Shapes) -> Layer:
        """Read a group."""
        factors = self._floats(1)[:, 0]
        if not bool(((factors >= 0) & (factors < np.inf)).all()):
            raise CorruptLogError("a factor is no finite number")
        written: list[Written] = []
        for shape in shapes:
            written.append(self._parameter(shape, written))
        return Layer(factors, tuple(written))

    def end(self) -> None:
        """Refuse what is left."""
        if self._at != self._table.shape[1]:
            raise CorruptLogError("the factors of a visit do not end where they should")

    def _parameter(self, shape: tuple[int, ...], before: Sequence[Written]) -> Written:
        size = prod(shape)
        kind = self._head(1)[0]
        if kind == NOTHING:
            return Written(kind, size)
        if kind == WHOLE:
            return Written(kind, size, values=self._numbers(1, size)[:, 0])
        if kind == OUTER:
            (positions,) = struct.unpack("<H", self._head(2))
            rows, columns = (shape[0], prod(shape[1:])) if len(shape) > 1 else (0, 0)
            if not positions or not rows:
                raise CorruptLogError("a parameter that is no matrix, or an outer product without positions")
            return Written(kind, size, self._numbers(positions, rows), self._numbers(positions, columns))
        if kind not in {ALONG_ROWS, ALONG_COLUMNS}:
            raise CorruptLogError("a gradient is recorded in no known way")
        (beside,) = struct.unpack("<H", self._head(2))
        matrix = before[beside] if beside < len(before) else None
        side = None if matrix is None else (matrix.rows if kind == ALONG_ROWS else matrix.columns)
        if side is None or side.shape[2] != size:
            raise CorruptLogError("a sum of outer products that are not there")
        return Written(kind, size, values=side.sum(1))

    def _head(self, length: int) -> bytes:
        """Read bytes that all records share."""
        part = self._cut(length)
        if bool((part != part[0]).any()):
            raise CorruptLogError("the factors of a step are laid out differently")
        self.heads.append(part[0].tobytes())
        return self.heads[-1]

    def _numbers(self, positions: int, size: int) -> Numbers:
        """Read scales and levels, (b, t, n)."""
        scales = self._floats(positions)
        if not bool(((scales >= 0) & (scales <= LARGEST_SCALE)).all()):  # no comparison holds for what is no number
            raise CorruptLogError("a factor has a scale that none may have")
        count = positions * size
        part = self._cut(count if self._bits == 8 else (count + 1) // 2)
        if self._skip:
            return np.broadcast_to(np.float32(0), (len(part), positions, size))
        levels = part.view(np.int8)
        if self._bits != 8:
            low, high = (part << 4).view(np.int8) >> 4, part.view(np.int8) >> 4
            levels = np.stack([low, high], axis=2).reshape(len(part), -1)[:, :count]
        return levels.reshape(-1, positions, size).astype(np.float32) * scales[:, :, None]

    def _floats(self, count: int) -> Numbers:
        return np.ascontiguousarray(self._cut(_FLOAT * count)).view("<f4").astype(np.float32)

    def _cut(self, length: int) -> Bytes:
        part = self._table[:, self._at : self._at + length]
        if part.shape[1] != length:
            raise CorruptLogError("the factors of a visit are cut short")
        self._at += length
        return np.ascontiguousarray(part)


def factor_shape(run: Run) -> FactorShape:
    """Return how a run's factors are laid out.

    Raises:
        TraceError: The run recorded none, or of a kind that this version does not know.
        CorruptLogError: The first entry describes none that could be.
    """
    facts = run.genesis
    if facts.get("record") != FACTORS:
        raise TraceError('the run recorded no factors; train with `record="factors"`')
    if facts.get("factor_kind") != FACTOR_KIND:
        raise TraceError(
            f"the run's factors are of kind `{facts.get('factor_kind')}`, this version reads `{FACTOR_KIND}`; "
            "use the version that the run was trained with"
        )
    shapes, bits = trained_shapes(facts.get("trained"), run.bundle.parameters), facts.get("factor_bits")
    if shapes is not None and bits in {8, 4}:
        found = FactorShape(shapes, bits)
        if list(found.sizes) == facts.get("sizes"):
            return found
    raise CorruptLogError("the first entry describes no factors", "entry 0")
