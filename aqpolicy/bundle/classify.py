"""From one observation's values to its row, fast: what `Tables.row_of` says, for a caller who asks all the time.

It reads no names and checks no types: values come in the order of the tables'
attributes, as names and integer millionths, which is all that a manifest decodes to.
Whoever has other values asks `Tables.row_of`: here a number that equals a remembered
one (`True` equals 1) would pass for it, and to tell them apart would cost a third of
the speed. The row's number is the provenance
of the decision: the row says which rules decided. Whole batches at once are
`aqpolicy.gate.accounts.classify`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import and_, getitem
from typing import Final

from aqpolicy.bundle.tables import ERROR_ROW, AttributeTable, Tables

REMEMBERED: Final = 65_536
"""How many numbers of one attribute are remembered with their intervals."""


class Classifier:
    """Finds the row of one observation after the other."""

    __slots__ = ("_maps", "_rows")

    def __init__(self, tables: Tables) -> None:
        """Prepare one map per attribute, from values to bit vectors."""
        self._maps = tuple(_map(table) for table in tables.attributes)
        self._rows = tables.row_of_vector

    def __call__(self, values: Sequence[str | int | None]) -> int:
        """Return the row number; `ERROR_ROW` where the values cannot be decided.

        Args:
            values: One value per attribute of the tables, in their order; None where it is not known.
        """
        try:
            return self._rows[reduce(and_, map(getitem, self._maps, values))]  # no loop of ours is as fast
        except KeyError:
            return ERROR_ROW


class _Numbers(dict[object, int]):
    """Bit vectors by number, found among the intervals and remembered, up to a bound."""

    __slots__ = ("_table",)

    def __init__(self, table: AttributeTable) -> None:
        super().__init__()
        self._table = table

    def __missing__(self, value: object) -> int:
        table = self._table
        interval = table.interval_of(value)
        if interval is None:
            raise KeyError(value)
        if len(self) < REMEMBERED:
            self[value] = table.vectors[interval]
        return table.vectors[interval]


def _map(table: AttributeTable) -> Mapping[object, int]:
    if table.kind == "category":
        return dict(zip(table.values, table.vectors, strict=True))
    return _Numbers(table)
