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

from aqpolicy.export.source import LoggedStep
from aqpolicy.lineage.leaf import LOWERED, NORM_CODES, ROW_FIELDS, WIDE, cut_tail, row_bytes
from aqpolicy.lineage.record import Layout

_NARROW: Final = "<u4"
"""Charges of rows that are not wide."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows by step, in a step by the key of the example, rows of one example as the log has them.

    Shapes:
        fixed, at, rank, position (n); norms (g, n), -1 and -2 as in the log; charges (budgets, n);
        lowered (exceptions, 4): row, depth group, reason, share.
    """

    steps: tuple[LoggedStep, ...]
    at: npt.NDArray[np.int64]
    """Which of the steps each row is of."""
    rank: npt.NDArray[np.uint32]
    position: npt.NDArray[np.uint32]
    fixed: npt.NDArray[Any]
    """Fields of `lineage.leaf.ROW_FIELDS` by their names."""
    norms: npt.NDArray[np.float32]
    charges: npt.NDArray[np.uint64]
    lowered: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.at)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return one of the fixed fields."""
        return np.ascontiguousarray(self.fixed[name])


@dataclass(slots=True)
class RowsBuilder:
    """Takes the leaves of steps, rank by rank."""

    layout: Layout
    steps: list[LoggedStep] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    _ranks: list[tuple[int, int, int]] = field(default_factory=list)
    """Number of rows, step, rank."""

    def add(self, step: LoggedStep, ranks: Sequence[Sequence[bytes]]) -> None:
        """Take the rows of all ranks of a step."""
        for rank, leaves in enumerate(ranks):
            self._ranks.append((len(leaves), len(self.steps), rank))
            self.leaves += leaves
        self.steps.append(step)

    def finish(self) -> Rows:
        """Return the rows in order."""
        table, charges, lowered = self._table()
        count, step, rank = np.array(self._ranks, np.int64).reshape(-1, 3).T
        at = np.repeat(step, count)
        position = np.arange(len(table)) - np.repeat(np.cumsum(count) - count, count)
        words = np.ascontiguousarray(table["key"]).view(">u8").reshape(-1, 2).astype(np.uint64)
        order = np.lexsort((words[:, 1], words[:, 0], at))
        moved_to = np.empty_like(order)
        moved_to[order] = np.arange(len(order))
        lowered[:, 0] = moved_to[lowered[:, 0]]
        ordered = table[order]
        return Rows(
            tuple(self.steps),
            at[order],
            np.repeat(rank, count)[order].astype(np.uint32),
            position[order].astype(np.uint32),
            ordered,
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
        charges, lowered = table["charges"].astype(np.uint64), list[tuple[int, int, int, int]]()
        for at in np.flatnonzero(table["flags"] & (WIDE | LOWERED)).tolist():
            charges[at], exceptions, _ = cut_tail(self.leaves[at], self.layout)
            lowered += [(at, *exception) for exception in exceptions]
        return table, charges, np.array(lowered, np.int64).reshape(-1, 4)


def _row_type(layout: Layout) -> np.dtype[Any]:
    fixed = [(name, f"V{code[:-1]}" if code.endswith("s") else f"<{code}") for name, code in ROW_FIELDS]
    norms, charges = (layout.groups,), (layout.budgets,)
    return np.dtype([*fixed, ("norms", f"<{NORM_CODES[layout.norms]}", norms), ("charges", _NARROW, charges)])
