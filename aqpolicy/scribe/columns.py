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

from aqpolicy.errors import LineageError
from aqpolicy.lineage.leaf import (
    EXCEPTION_FIELDS,
    LARGEST_NORMS,
    LOWERED,
    NORM_CODES,
    ROW_FIELDS,
    SKETCHED,
    WIDE,
    decode_row,
    sketch_bytes,
)
from aqpolicy.lineage.record import NOT_FINITE, NOT_MEASURED, Book, Layout, Row
from aqpolicy.lineage.visits import Visits, whole

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]

_TYPES: Final = {"4s": "V4", "16s": "V16", "Q": "<u8", "I": "<u4", "H": "<u2", "B": "u1", "f": "<f4", "e": "<f2"}
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

    def tails(self, visits: int) -> tuple[list[bytes], Integers]:
        """Return the bytes of every visit's exceptions, their number before them, and how many these are."""
        table = np.empty(len(self.visit), _EXCEPTION)
        table["group"], table["reason"], table["share"] = self.group, self.reason, self.share
        data, counts = table.tobytes(), np.bincount(self.visit, minlength=visits)
        if counts.max() >> 16:
            raise LineageError("a row of the log cannot be written: it has too many exceptions")
        numbers = counts.astype("<u2").tobytes()
        ends = pairwise(accumulate((counts * _EXCEPTION.itemsize).tolist(), initial=0))
        tails = [
            numbers[2 * at : 2 * at + 2] + data[start:end] if end > start else b""
            for at, (start, end) in enumerate(ends)
        ]
        return tails, counts


@dataclass(frozen=True, slots=True)
class StepColumns:
    """A step as the log takes it (`lineage.block.Step`).

    Shapes:
        index, route, effect, cause, reason, surprisal, entropy: (b), with -1 for no index, surprisal or entropy;
        norms (b, g), charges (b, budgets); keys: 16 bytes per visit, one after the other; sketches: one per visit.
    """

    step: int
    epoch: int
    phase: str
    stage: str
    today: int
    time_ns: int
    book: Book
    keys: bytes
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
    visits: Visits = ()
    """Rows per part, and in it per rank; where it is left out, there is one of each."""

    def __post_init__(self) -> None:
        """Fill in what was left out."""
        if not self.visits:
            object.__setattr__(self, "visits", whole(len(self.index)))

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
        """Return the leaf of every row, in the order of the visits."""
        if (self.norms.shape[1], self.charges.shape[1]) != (layout.groups, layout.budgets):
            raise LineageError("a row of the log has another shape than the run")
        is_wide = bool(self.charges.size) and bool((self.charges >> 32).any())
        table = self._table(layout, wide=is_wide)
        tails = self._tails(table)
        data, width = table.tobytes(), table.itemsize
        heads = [data[start : start + width] for start in range(0, len(data), width)]
        if is_wide:  # few rows are: those that are not are made again, narrow
            narrow = self._table(layout, wide=False)
            narrow["flags"] = table["flags"] & np.uint8(0xFF ^ WIDE)
            wide = np.any(self.charges >> 32, axis=1).tolist()
            heads = [
                head if one else narrow[at].tobytes() for at, (head, one) in enumerate(zip(heads, wide, strict=True))
            ]
        return heads if tails is None else [head + tail for head, tail in zip(heads, tails, strict=True)]

    def _table(self, layout: Layout, *, wide: bool) -> npt.NDArray[Any]:
        """Return the part of all rows that is before exceptions and sketch."""
        table = np.zeros(len(self.index), _row_type(layout.groups, layout.budgets, layout.norms, wide))
        table["key"] = np.frombuffer(self.keys, "V16")
        # -1 wraps to the largest number of its place, which is the mark that the format has for it.
        table["index"] = self.index
        table["route"], table["effect"], table["cause"] = self.route, self.effect, self.cause
        table["reason"], table["surprisal"], table["entropy"] = self.reason, self.surprisal, self.entropy
        table["norms"], table["charges"] = written_norms(self.norms, LARGEST_NORMS[layout.norms]), self.charges
        table["flags"] = WIDE if wide else 0
        return table

    def _tails(self, table: npt.NDArray[Any]) -> list[bytes] | None:
        """Return what follows the fixed part of every row, and say so in the rows' flags."""
        tails: list[bytes] | None = None
        if self.exceptions is not None:
            tails, counts = self.exceptions.tails(len(table))
            table["flags"] |= np.where(counts > 0, LOWERED, 0).astype(np.uint8)
        if self.sketches is None:
            return tails
        sketches = [sketch_bytes(sketch) for sketch in self.sketches]
        table["flags"] |= np.array([SKETCHED if sketch else 0 for sketch in sketches], np.uint8)
        return [a + b for a, b in zip(tails, sketches, strict=True)] if tails else sketches


def written_norms(norms: Floats, largest: float) -> npt.NDArray[np.float32]:
    """Return norms, rounded to float32, as the log has them: -1 where they are no finite number up to the largest."""
    with np.errstate(over="ignore"):  # what is too large for a float32 becomes infinite
        rounded = np.array(norms, np.float32, order="C")
    # As whole numbers, all that are negative or not finite lie behind the largest; mostly there are none.
    if rounded.view(np.uint32).max(initial=0) <= np.float32(largest).view(np.uint32):
        return rounded
    rounded[~((rounded >= 0) & (rounded <= largest) | (rounded == NOT_MEASURED))] = NOT_FINITE
    return rounded + np.float32(0)  # -0 is 0


@cache
def _row_type(groups: int, budgets: int, norms: str, wide: bool) -> np.dtype[Any]:
    fixed = [(name, _TYPES[code]) for name, code in ROW_FIELDS]
    charges = _TYPES["Q" if wide else "I"]
    return np.dtype([*fixed, ("norms", _TYPES[NORM_CODES[norms]], (groups,)), ("charges", charges, (budgets,))])
