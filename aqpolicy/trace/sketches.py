"""How a run lays out the sketches of its log: read without torch, for audits."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from aqpolicy.errors import CorruptLogError, TraceError
from aqpolicy.lineage.record import SKETCH_KIND
from aqpolicy.trace.run import Run

SKETCH: Final = "sketch"
"""What `record` says where the log holds sketches."""

Shapes = tuple[tuple[int, ...], ...]
"""The shapes of a group's trained parameters."""

_FLOAT: Final = struct.Struct("<f")
_HEX: Final = re.compile("[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class SketchShape:
    """How the log lays out a sketch: per group a float32 scale and `width` signed bytes."""

    shapes: tuple[Shapes, ...]
    k: int
    seed: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Trained numbers of each group."""
        return tuple(sum(prod(shape) for shape in shapes) for shapes in self.shapes)

    @property
    def loads(self) -> tuple[int, ...]:
        """Per group, how many numbers one number of a sketch adds up at most."""
        pairs = zip(self.shapes, self.sizes, strict=True)
        return tuple(sum(_load(s, self.k) for s in shapes) if size > self.k else min(1, size) for shapes, size in pairs)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers per group."""
        return tuple(min(self.k, size) for size in self.sizes)

    @property
    def length(self) -> int:
        """Bytes of one visit's sketches."""
        return sum(self.widths) + _FLOAT.size * len(self.sizes)

    def scale(self, record: bytes, group: int) -> float:
        """Return what one level of a group's sketch stands for."""
        scale: float = _FLOAT.unpack_from(record, sum(self.widths[:group]) + _FLOAT.size * group)[0]
        return scale

    def norms(self, record: bytes) -> tuple[float, ...]:
        """Return the l2 norm of every group's sketch.

        Raises:
            CorruptLogError: The record has another length, or a scale that is not finite.
        """
        if len(record) != self.length:
            raise CorruptLogError(f"a sketch of {len(record)} bytes does not fit the run's sketch plan")
        norms, at = [], 0
        for width in self.widths:
            levels = memoryview(record)[at + _FLOAT.size : at + _FLOAT.size + width].cast("b")
            scale = _FLOAT.unpack_from(record, at)[0]
            if not 0.0 <= scale < float("inf"):
                raise CorruptLogError("a sketch has a scale that is no finite number")
            norms.append(scale * sum(level * level for level in levels) ** 0.5)
            at += _FLOAT.size + width
        return tuple(norms)


def sketch_shape(run: Run) -> SketchShape:
    """Return how a run's sketches are laid out.

    Raises:
        TraceError: The run recorded none, or of a kind that this version does not know.
        CorruptLogError: The first entry describes none that could be.
    """
    facts = run.genesis
    if facts.get("record") != SKETCH:
        raise TraceError('the run recorded no sketches; train with `record="sketch"` to trace behaviours')
    kind, k, seed = facts.get("sketch_kind"), facts.get("sketch_k"), facts.get("sketch_seed")
    if kind != SKETCH_KIND:
        raise TraceError(
            f"the run's sketches are of kind `{kind}`, this version reads `{SKETCH_KIND}`; "
            "use the version that the run was trained with"
        )
    shapes = trained_shapes(facts.get("trained"), run.bundle.parameters)
    if shapes is not None and type(k) is int and type(seed) is int and k > 0 and k & (k - 1) == 0:
        found = SketchShape(shapes, k, seed)
        if list(found.sizes) == facts.get("sizes"):
            return found
    raise CorruptLogError("the first entry describes no sketch", "entry 0")


def trained_shapes(texts: object, bound: Sequence[Sequence[tuple[str, tuple[int, ...]]]]) -> tuple[Shapes, ...] | None:
    """Return the shapes of the parameters whose bits are set, None where the bits are not the bundle's."""
    if not isinstance(texts, list) or len(texts) != len(bound):
        return None
    found = []
    for text, members in zip(texts, bound, strict=True):
        if not isinstance(text, str) or len(text) > len(members) // 4 + 1 or not _HEX.fullmatch(text):
            return None
        bits = int(text, 16)
        if bits >> len(members):
            return None
        found.append(tuple(tuple(shape) for number, (_, shape) in enumerate(members) if bits >> number & 1))
    return tuple(found)


def _load(shape: tuple[int, ...], k: int) -> int:
    """Return how many numbers of a parameter share a bucket at most: of a matrix, one per row and turn, or column."""
    rows, columns = (shape[0], prod(shape[1:])) if len(shape) > 1 else (prod(shape), 1)
    return min(rows * -(-columns // k), columns * -(-rows // k))
