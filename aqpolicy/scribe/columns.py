"""The rows of a step as columns, and their bytes for the log, made for the whole step at once.

The same bytes as `lineage.leaf.encode_row` makes of one row after the other; that
is what this is tested against. Numbers are not checked here: they are the gate's.
Only who trains imports this module: it needs numpy, which reading a log does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aqpolicy.lineage.leaf import EXCEPTION_FIELDS, LARGEST_NORM, ROW_FIELDS, ROW_MAGIC, decode_row
from aqpolicy.lineage.record import NOT_FINITE, NOT_MEASURED, Book, Layout, Row

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_TYPES: Final = {"4s": "V4", "16s": "V16", "Q": "<u8", "I": "<u4", "H": "<u2", "B": "u1"}
"""numpy's names of the codes of `struct`."""

_EXCEPTION: Final = np.dtype([(name, _TYPES[code]) for name, code in EXCEPTION_FIELDS])


@dataclass(frozen=True, slots=True)
class Exceptions:
    """Shares that are not the table's, by visit and in it by group.

    Shapes:
        visit, group, reason, share: (number of exceptions).
    """

    visit: Integers
    group: Integers
    reason: Integers
    share: Integers

    def tails(self, visits: int) -> list[bytes]:
        """Return the bytes of every visit's exceptions."""
        table = np.empty(len(self.visit), _EXCEPTION)
        table["group"], table["reason"], table["share"] = self.group, self.reason, self.share
        data = table.tobytes()
        ends = list(accumulate((np.bincount(self.visit, minlength=visits) * _EXCEPTION.itemsize).tolist(), initial=0))
        return [data[start:end] for start, end in pairwise(ends)]


@dataclass(frozen=True, slots=True)
class StepColumns:
    """A step as the log takes it (`lineage.block.Step`).

    Shapes:
        index, route, effect, cause, reason, surprisal, entropy: (b), with -1 for no index, surprisal or entropy;
        norms (b, g), charges (b, budgets); example_keys, sketches: one per visit.
    """

    step: int
    epoch: int
    phase: str
    stage: str
    today: int
    time_ns: int
    book: Book
    example_keys: tuple[bytes, ...]
    index: Integers
    route: Integers
    effect: Integers
    cause: Integers
    reason: Integers
    surprisal: Integers
    entropy: Integers
    norms: Floats
    charges: Integers
    exceptions: Exceptions | None
    sketches: Sequence[bytes] | None
    attempt: int = 0

    @property
    def keys(self) -> bytes:
        """All example keys, one after the other."""
        return b"".join(self.example_keys)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows one by one, for whoever looks at a few steps."""
        layout = Layout(self.norms.shape[1], self.charges.shape[1])
        return tuple(decode_row(leaf, layout) for leaf in self.leaves(layout))

    def charged(self, budgets: int) -> list[int]:
        """Return what every budget is charged by all rows."""
        sums: list[int] = self.charges.sum(0).tolist()
        return sums[:budgets]

    def leaves(self, layout: Layout) -> list[bytes]:
        """Return the leaf of every row."""
        count = len(self.example_keys)
        kind = _row_type(layout.groups, layout.budgets)
        table = np.zeros(count, kind)
        table["magic"] = np.void(ROW_MAGIC)
        table["key"] = np.frombuffer(self.keys, "V16")
        # -1 wraps to the largest number of its place, which is the mark that the format has for it.
        table["index"] = self.index
        table["route"], table["effect"], table["cause"] = self.route, self.effect, self.cause
        table["reason"], table["surprisal"], table["entropy"] = self.reason, self.surprisal, self.entropy
        table["norms"], table["charges"] = written_norms(self.norms), self.charges
        tails = self._tails(table)
        data, width = table.tobytes(), kind.itemsize
        heads = [data[start : start + width] for start in range(0, len(data), width)]
        return heads if tails is None else [head + tail for head, tail in zip(heads, tails, strict=True)]

    def _tails(self, table: npt.NDArray[Any]) -> list[bytes] | None:
        """Return what follows the fixed part of every row, and put its lengths into the table."""
        count = len(table)
        tails = None if self.exceptions is None else self.exceptions.tails(count)
        if self.exceptions is not None:
            table["exceptions"] = np.bincount(self.exceptions.visit, minlength=count)
        if self.sketches is None:
            return tails
        table["sketch"] = [len(sketch) for sketch in self.sketches]
        return [a + b for a, b in zip(tails, self.sketches, strict=True)] if tails else list(self.sketches)


def written_norms(norms: Floats) -> Floats:
    """Return norms as the log has them: -1 where they are no finite number of its precision."""
    written = np.where((norms >= 0) & (norms <= LARGEST_NORM) | (norms == NOT_MEASURED), norms, NOT_FINITE)
    return written + 0.0  # -0 is 0


@cache
def _row_type(groups: int, budgets: int) -> np.dtype[Any]:
    fixed = [(name, _TYPES[code]) for name, code in ROW_FIELDS]
    return np.dtype([*fixed, ("norms", "<f4", (groups,)), ("charges", "<u8", (budgets,))])
