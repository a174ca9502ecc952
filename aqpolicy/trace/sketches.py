"""How a run lays out the sketches of its log: read without torch, for audits."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from aqpolicy.errors import CorruptLogError, TraceError
from aqpolicy.trace.run import Run

SKETCH: Final = "sketch"
"""What `record` says where the log holds sketches."""

_FLOAT: Final = struct.Struct("<f")


@dataclass(frozen=True, slots=True)
class SketchShape:
    """How the log lays out a sketch: per group a float32 scale and `width` signed bytes."""

    sizes: tuple[int, ...]
    k: int
    seed: int

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
        TraceError: The run recorded none.
        CorruptLogError: The first entry describes none that could be.
    """
    facts = run.genesis
    if facts.get("record") != SKETCH:
        raise TraceError('the run recorded no sketches; train with `record="sketch"` to trace behaviours')
    sizes, k, seed = facts.get("sizes"), facts.get("sketch_k"), facts.get("sketch_seed")
    if isinstance(sizes, list) and isinstance(k, int) and isinstance(seed, int):
        whole = all(type(size) is int and size >= 0 for size in sizes)
        if whole and k > 0 and len(sizes) == len(run.tables.groups):
            return SketchShape(tuple(sizes), k, seed)
    raise CorruptLogError("the first entry describes no sketch", "entry 0")
