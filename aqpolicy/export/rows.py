"""Rows of consecutive steps as numpy columns, in the order in which they are exported.

The rows come from leaves that were compared with their entries; nothing is checked
again here. It is tested against `lineage.leaf.decode_row`, one row after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aqpolicy.lineage.leaf import LOWERED, NORM_CODES, ROW_FIELDS, WIDE, cut_tail, row_bytes
from aqpolicy.lineage.record import Layout

_NARROW: Final = "<u4"
"""Charges of rows that are not wide."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows by step, in a step by the key of the example, rows of one example as the log has them.

    Shapes:
        fixed, step, log_index, epoch, rank, inner_index (n); norms (g, n), -1 and -2 as in the log;
        charges (budgets, n); lowered (exceptions, 3): row, depth group, share.
    """

    fixed: npt.NDArray[Any]
    """Fields of `lineage.leaf.ROW_FIELDS` by their names."""
    step: npt.NDArray[np.int64]
    log_index: npt.NDArray[np.int64]
    epoch: npt.NDArray[np.uint32]
    rank: npt.NDArray[np.uint32]
    inner_index: npt.NDArray[np.uint32]
    norms: npt.NDArray[np.float32]
    charges: npt.NDArray[np.uint64]
    lowered: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.step)

    @property
    def keys(self) -> npt.NDArray[np.void]:
        """The keys of the examples."""
        return np.ascontiguousarray(self.fixed["key"])


@dataclass(slots=True)
class RowsBuilder:
    """Takes the leaves of steps, rank by rank."""

    layout: Layout
    leaves: list[bytes] = field(default_factory=list)
    places: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    """Per rank of a step: number of its rows, place in the log, step, epoch, rank."""

    def add(self, leaves: Sequence[bytes], index: int, step: int, epoch: int, rank: int) -> None:
        """Take the rows of one rank of a step."""
        self.leaves += leaves
        self.places.append((len(leaves), index, step, epoch, rank))

    def finish(self) -> Rows:
        """Return the rows in order."""
        table, charges, lowered = self._table()
        count, index, step, epoch, rank = np.array(self.places, np.int64).reshape(-1, 5).T
        inner = np.arange(len(table)) - np.repeat(np.cumsum(count) - count, count)
        steps = np.repeat(step, count)
        words = np.ascontiguousarray(table["key"]).view(">u8").reshape(-1, 2).astype(np.uint64)
        order = np.lexsort((words[:, 1], words[:, 0], steps))
        if len(lowered):
            moved_to = np.empty_like(order)
            moved_to[order] = np.arange(len(order))
            lowered[:, 0] = moved_to[lowered[:, 0]]
        ordered = table[order]
        return Rows(
            ordered,
            steps[order],
            np.repeat(index, count)[order],
            np.repeat(epoch, count)[order].astype(np.uint32),
            np.repeat(rank, count)[order].astype(np.uint32),
            inner[order].astype(np.uint32),
            np.ascontiguousarray(ordered["norms"].T, np.float32),
            np.ascontiguousarray(charges[order].T),
            lowered,
        )

    def _table(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Return the fixed parts of all rows, their charges, and what lowered their shares."""
        width = row_bytes(self.layout)
        is_plain = set(map(len, self.leaves)) == {width}
        data = b"".join(self.leaves if is_plain else [leaf[:width] for leaf in self.leaves])
        table = np.frombuffer(data, _row_type(self.layout))
        charges, lowered = table["charges"].astype(np.uint64), list[tuple[int, int, int]]()
        for at in np.flatnonzero(table["flags"] & (WIDE | LOWERED)).tolist():
            charges[at], exceptions, _ = cut_tail(self.leaves[at], self.layout)
            lowered += [(at, group, share) for group, _, share in exceptions]
        return table, charges, np.array(lowered, np.int64).reshape(-1, 3)


def _row_type(layout: Layout) -> np.dtype[Any]:
    fixed = [(name, f"V{code[:-1]}" if code.endswith("s") else f"<{code}") for name, code in ROW_FIELDS]
    norms, charges = (layout.groups,), (layout.budgets,)
    return np.dtype([*fixed, ("norms", f"<{NORM_CODES[layout.norms]}", norms), ("charges", _NARROW, charges)])
