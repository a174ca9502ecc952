"""The index of the log made for a whole step at once: the same bytes as `lineage.runs.RunBuilder` makes.

That is what this is tested against. Only who trains, or has numpy anyway, imports this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aqpolicy.lineage.leaf import HEAD_BYTES
from aqpolicy.lineage.record import KEY_BYTES, Layout
from aqpolicy.lineage.runs import Numbers, RunBuilder, words
from aqpolicy.lineage.tops import Tops


class FastRunBuilder(RunBuilder):
    """The runs of the steps since the last seal, while they go by."""

    def tops(self, layout: Layout) -> Tops:
        """Return what keeps the largest masses."""
        return FastTops(layout)

    def examples(self, heads: bytes) -> tuple[Numbers, Numbers, Numbers]:
        """Return the columns of run `example`."""
        prefixes, places = _ordered(np.asarray(words(heads, "key")))
        keys = np.frombuffer(heads, np.uint8).reshape(-1, HEAD_BYTES)[:, :KEY_BYTES][places]
        again = np.flatnonzero(prefixes[1:] == prefixes[:-1])
        other = (keys[again] != keys[again + 1]).any(axis=1)
        shared = np.unique(prefixes[again[other]])
        return prefixes.tobytes(), places.tobytes(), shared.tobytes()


class FastTops(Tops):
    """The largest masses so far."""

    def _look(self, rows: Sequence[bytes], places: Sequence[int]) -> None:
        masses = self._masses(rows)
        floors = np.array(self._least, masses.dtype)
        if not floors.all():  # nothing is too small yet; all but the largest of these are
            cut = len(places) - min(self._kept, len(places))
            floors = np.maximum(np.partition(masses, cut, axis=0)[cut], floors)
        for number in np.flatnonzero(masses >= floors).tolist():
            row, group = divmod(number, self._width)
            self._keep(group, masses.item(row, group), places[row])

    def _masses(self, rows: Sequence[bytes]) -> npt.NDArray[np.floating[Any]]:
        """Return the masses of rows, where they lie if rows are of one length."""
        shape, start = (len(rows), self._width), self._norms.start
        if len(set(map(len, rows))) > 1:
            rows, start = [row[self._norms] for row in rows], 0
        strides = (len(rows[0]), self._number.size)
        return np.ndarray(shape, self._number.format, b"".join(rows), start, strides)


def _ordered(numbers: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Return numbers in order, and where each one stood; equal ones in the order in which they stood."""
    both = numbers.astype(np.uint64) << np.uint64(32) | np.arange(len(numbers), dtype=np.uint64)
    both.sort()
    return (both >> np.uint64(32)).astype(np.uint32), both.astype(np.uint32)
