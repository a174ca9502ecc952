"""From columns of values to rows of the mask tables, for whole batches at once.

The AND of the tables' bit vectors is unrolled into a state machine: a state is
what the attributes before have left of all conjuncts, and each attribute takes
every example from state to state by one look-up. Everything is in integers and
exact; what cannot be decided gets the error row. Single observations are
`aqpolicy.bundle.Classifier`'s.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

import torch
from torch import Tensor

from aqpolicy.bundle import ERROR_ROW, AttributeTable, Tables
from aqpolicy.errors import BundleError, InternalError

LARGEST_MACHINE: Final = 2**23
"""How many transitions one attribute may have."""

BLOCK: Final = 2**15
"""Examples that are classified at a time, so that intermediate columns stay in the cache."""

CELLS: Final = 11
"""Binary digits of the number of cells into which the range of an attribute is cut."""

_NEVER: Final = 2**62
"""A cut that no value reaches."""

_EVERYTHING: Final = -1
"""The state before the first attribute: no conjunct is ruled out."""

_LOST: Final = None
"""The state of an example that cannot be decided."""


class BatchClassifier:
    """Finds the rows of many observations."""

    def __init__(self, tables: Tables) -> None:
        """Build the machine.

        Raises:
            BundleError: The machine would have more than `LARGEST_MACHINE` transitions for one attribute.
        """
        self._classes = [_Classes(table) for table in tables.attributes]
        self._transitions = _machine(tables)

    def __call__(self, columns: Sequence[Tensor]) -> Tensor:
        """Return the row number of every example.

        Args:
            columns: Per attribute of the tables, in their order, the examples' values: for a category its
                position among the values, for a number its millionths; -1 for a category that is not known.

        Shapes:
            columns (n,) each, of int64; the result (n,) of int32.

        Raises:
            InternalError: There is not one column per attribute.
        """
        if len(columns) != len(self._classes):
            raise InternalError(f"{len(columns)} columns are given for {len(self._classes)} attributes")
        return self.begin(columns, len(columns[0]))

    def begin(self, columns: Sequence[Tensor], examples: int) -> Tensor:
        """Return where the first attributes lead every example; `advance` goes on from there.

        Shapes:
            columns (n,) each, of int64, no more than there are attributes; the result (n,) of int32.
        """
        if not columns:
            return torch.zeros(examples, dtype=torch.int32, device="cpu")
        blocks = zip(*(torch.split(column, BLOCK) for column in columns), strict=True)
        return torch.cat([self._block(block) for block in blocks])

    def advance(self, position: int, state: Tensor, values: Tensor | int) -> Tensor:
        """Return where one attribute more leads every example; after the last, that is the row.

        Args:
            position: Which attribute.
            state: Where the attributes before it led.
            values: As a column of `__call__`; one number where all examples have the same value.
        """
        classes = self._classes[position]
        step = classes.of(values) if isinstance(values, int) else classes(values)
        return self._transitions[position].index_select(0, state + step)

    def _block(self, columns: Sequence[Tensor]) -> Tensor:
        state = torch.zeros(len(columns[0]), dtype=torch.int32, device="cpu")
        for position, column in enumerate(columns):
            state = self.advance(position, state, column)
        return state


class _Classes:
    """Tells which interval of one attribute a value lies in: from 1 on, and 0 where it lies in none.

    The range is cut into cells whose width is a power of two. A cell knows the
    class of its first value and the few cuts inside it, so that a value needs one
    shift and a comparison or two, however many intervals there are.
    """

    def __init__(self, table: AttributeTable) -> None:
        starts, high = (range(len(table.values)), len(table.values) - 1) if table.values else (table.breaks, table.high)
        self._below, self._above, self._step = starts[0] - 1, high + 1, table.step
        self._shift = max((self._above - self._below).bit_length() - CELLS, 0)
        cuts, width = (*starts, self._above), 1 << self._shift
        edges = range(self._below, self._above + 1, width)
        first = [bisect_right(cuts, edge) for edge in edges]
        inside = [cuts[at : bisect_left(cuts, edge + width)] for at, edge in zip(first, edges, strict=True)]
        self._first = torch.tensor(first, dtype=torch.int32, device="cpu")
        self._cuts = [torch.tensor(level, device="cpu") for level in zip_longest(*inside, fillvalue=_NEVER)]
        self._starts = cuts

    def __call__(self, column: Tensor) -> Tensor:
        """Return the class of every value."""
        value = column.clamp(self._below, self._above)
        cell = value.sub(self._below).bitwise_right_shift_(self._shift)
        found = self._first.index_select(0, cell)
        for cuts in self._cuts:
            found += value >= cuts.index_select(0, cell)
        return found if self._step == 1 else found.masked_fill_(column.remainder(self._step) != 0, 0)

    def of(self, value: int) -> int:
        """Return the class of one value."""
        return 0 if value % self._step else bisect_right(self._starts, value)


def _machine(tables: Tables) -> list[Tensor]:
    """Return per attribute where state and class lead; states come multiplied by the classes of the next attribute."""
    widths = [len(table.vectors) + 2 for table in tables.attributes]
    states: list[int | None] = [_EVERYTHING]
    layers = []
    for table, width in zip(tables.attributes, widths, strict=True):
        if len(states) * width > LARGEST_MACHINE:
            raise BundleError(f"the policy tells too many kinds of observation apart at attribute `{table.name}`")
        classes = (_LOST, *table.vectors, _LOST)  # below all intervals, the intervals, above them
        known: dict[int | None, int] = {_LOST: 0}
        met = (_meet(state, vector) for state in states for vector in classes)
        layers.append(
            torch.tensor([known.setdefault(state, len(known)) for state in met], dtype=torch.int32, device="cpu")
        )
        states = list(known)
    rows = [ERROR_ROW if state is None else tables.row_of_vector.get(state, ERROR_ROW) for state in states]
    inner = [layer * width for layer, width in zip(layers, widths[1:], strict=False)]
    return [*inner, torch.tensor(rows, dtype=torch.int32, device="cpu")[layers[-1]]]


def _meet(state: int | None, vector: int | None) -> int | None:
    return _LOST if state is None or vector is None else state & vector
