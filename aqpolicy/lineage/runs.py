"""The index of the log: sorted runs over the steps since the last seal, made from their blocks alone.

Every seal of the log commits to the digests of its runs, so whoever has the blocks can make
them again (`rebuild`) and see that nothing was left out. A row is named by its *place*:
its number in the order of the entries, in a step by rank, in a rank as the block has it.

| run | answers |
| --- | --- |
| `step` | place -> entry, step, attempt, rank, row; and which bundle and manifest were in force |
| `example` | example key -> places |
| `route` | row of the mask table -> steps, and visits in each |
| `group` | depth group -> steps in which it moved, and the visits with the largest mass (`tops`) |

Layout: docs/formats/lineage-index.md.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any, Final

from aqpolicy.errors import LineageError
from aqpolicy.lineage.book import BOOK_HEAD
from aqpolicy.lineage.entry import StepEntry
from aqpolicy.lineage.leaf import HEAD_BYTES
from aqpolicy.lineage.record import KEY_BYTES, Layout
from aqpolicy.lineage.runs_codec import BYTES, F32, U32, U64, column, encode_run
from aqpolicy.lineage.tops import ROW_OFFSETS, Tops

STEP_RUN: Final = "step"
EXAMPLE_RUN: Final = "example"
ROUTE_RUN: Final = "route"
GROUP_RUN: Final = "group"
RUNS: Final = (STEP_RUN, EXAMPLE_RUN, ROUTE_RUN, GROUP_RUN)

Numbers = Iterable[int] | bytes
"""A column of a run, as numbers or as the machine has them."""


class RunBuilder:
    """The runs of the steps since the last seal, while they go by."""

    def __init__(self) -> None:
        """Start after a seal."""
        self._grounds: dict[bytes, int] = {}
        self._entries: list[tuple[int, int, int, int]] = []
        self._parts, self._firsts = [0], [0]
        self._heads: list[bytes] = []
        self._routes: dict[int, list[tuple[int, int]]] = {}
        self._moved: list[tuple[bool, ...]] = []
        self._tops: Tops | None = None

    def add(self, index: int, entry: StepEntry, leaves: Sequence[Sequence[bytes]], layout: Layout) -> None:
        """Add one step.

        Args:
            index: Place of its entry in the log.
            entry: Its entry.
            leaves: Per rank the leaves of its rows; after those of rank 0 the book.
            layout: Of the run.

        Raises:
            LineageError: There are more rows than a run can number.
        """
        tops = self._tops = self._tops or self.tops(layout)
        used: Counter[int] = Counter()
        for rank, own in zip(entry.ranks, leaves, strict=True):
            rows = own[: rank.rows]
            heads = heads_of(rows)
            used.update(words(heads, "route").tolist())
            tops.add(rows, heads, self._firsts[-1])
            self._heads.append(heads)
            self._firsts.append(self._firsts[-1] + len(rows))
        if self._firsts[-1] >= 1 << 32:
            raise LineageError("there are more rows between two seals than an index can number; seal more often")
        for route, visits in used.items():
            self._routes.setdefault(route, []).append((len(self._entries), visits))
        ground = self._grounds.setdefault(entry.bundle + entry.manifest_root, len(self._grounds))
        self._entries.append((index, entry.step, entry.attempt, ground))
        self._parts.append(len(self._firsts) - 1)
        self._moved.append(tuple(map(bool, movement_of(leaves[0][entry.ranks[0].rows], layout))))

    def finish(self) -> dict[str, bytes]:
        """Return the bytes of every run by name."""
        heads = b"".join(self._heads)
        return {
            STEP_RUN: self._step_run(),
            EXAMPLE_RUN: encode_run(EXAMPLE_RUN, zip((U32, U32, U32), self.examples(heads), strict=True)),
            ROUTE_RUN: self._route_run(),
            GROUP_RUN: self._group_run(),
        }

    def tops(self, layout: Layout) -> Tops:
        """Return what keeps the largest masses."""
        return Tops(layout)

    def examples(self, heads: bytes) -> tuple[Numbers, Numbers, Numbers]:
        """Return the columns of run `example`: prefixes, places, and the prefixes that several keys have."""
        prefixes = words(heads, "key").tolist()
        keys = [heads[at : at + KEY_BYTES] for at in range(0, len(heads), HEAD_BYTES)]
        last = dict(zip(prefixes, keys, strict=True))
        shared = sorted({prefix for prefix, key in zip(prefixes, keys, strict=True) if last[prefix] != key})
        return *_ordered(prefixes), shared

    def _step_run(self) -> bytes:
        indexes, steps, attempts, grounds = zip(*self._entries, strict=True) if self._entries else ((),) * 4
        columns = ((U64, indexes), (U64, steps), (U32, attempts), (U32, grounds))
        return encode_run(
            STEP_RUN, (*columns, (U32, self._parts), (U32, self._firsts), (BYTES, b"".join(self._grounds)))
        )

    def _route_run(self) -> bytes:
        routes = sorted(self._routes)
        pairs = [pair for route in routes for pair in self._routes[route]]
        firsts = accumulate((len(self._routes[route]) for route in routes), initial=0)
        positions, visits = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        return encode_run(ROUTE_RUN, ((U32, routes), (U32, firsts), (U32, positions), (U32, visits)))

    def _group_run(self) -> bytes:
        moved = [_bits(column) for column in zip(*self._moved, strict=True)]
        kept = [self._tops.largest(group) for group in range(len(moved))] if self._tops else []
        flat = [item for items in kept for item in items]
        firsts = accumulate(map(len, kept), initial=0)
        masses, places = [mass for mass, _ in flat], [place for _, place in flat]
        return encode_run(GROUP_RUN, ((BYTES, b"".join(moved)), (U32, firsts), (F32, masses), (U32, places)))


def rebuild(
    steps: Iterable[tuple[int, StepEntry, Sequence[Sequence[bytes]]]],
    layout: Layout,
    builder: Callable[[], RunBuilder] = RunBuilder,
) -> dict[str, bytes]:
    """Return the runs that a seal over these steps has to have, by name.

    Args:
        steps: Per step since the seal before, superseded ones included: place of its entry, entry, leaves by rank.
        layout: Of the run.
        builder: What makes them; `scribe.index` has a faster one.
    """
    made = builder()
    for index, entry, leaves in steps:
        made.add(index, entry, leaves, layout)
    return made.finish()


def movement_of(book: bytes, layout: Layout) -> tuple[float, ...]:
    """Return how far every depth group moved, from the leaf of a book."""
    return struct.unpack_from(f"<{layout.groups}d", book, BOOK_HEAD.size)


def heads_of(rows: Sequence[bytes]) -> bytes:
    """Return what of rows the index looks at."""
    return b"".join([row[:HEAD_BYTES] for row in rows])


def prefix_of(key: bytes) -> int:
    """Return what run `example` holds of an example key: its first four bytes, as a number."""
    return int.from_bytes(key[:4], "little")


def words(heads: bytes, field: str) -> Any:
    """Return a field of four bytes, or the first four bytes of a field, of all rows, where it lies."""
    start = ROW_OFFSETS[field] // 4
    return column(U32, heads)[start :: HEAD_BYTES // 4]


def _ordered(numbers: list[int]) -> tuple[list[int], list[int]]:
    """Return numbers in order, and where each one stood; equal ones in the order in which they stood."""
    places = sorted(range(len(numbers)), key=numbers.__getitem__)
    return list(map(numbers.__getitem__, places)), places


def _bits(flags: Sequence[bool]) -> bytes:
    """Return flags as bits, the first one lowest in the first byte."""
    number = sum(1 << position for position, flag in enumerate(flags) if flag)
    return number.to_bytes((len(flags) + 7) // 8, "little")
