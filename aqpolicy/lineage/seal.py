"""Seals: after some steps the log commits to an index over them (`runs`).

A log that was opened again has steps of which this process saw nothing; they are
read from their blocks when their seal is due, not before, so that opening is quick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage.block import cut_block
from aqpolicy.lineage.entry import STEP, StepEntry, decode_entry, decode_step
from aqpolicy.lineage.record import Layout
from aqpolicy.lineage.runs import RunBuilder
from aqpolicy.lineage.store import BLOCK, ENTRY, Store, block_key, entry_key
from aqpolicy.trust import digest_text, root_of, sha256

MakeBuilder = Callable[[], RunBuilder]


class Sealer:
    """The steps since the last seal."""

    def __init__(self, layout: Layout, make: MakeBuilder, *, start: int = 0, steps: int = 0) -> None:
        """Start after a seal.

        Args:
            layout: Of the run.
            make: What makes an empty builder of runs.
            start: Index of the first entry behind the seal.
            steps: How many of the entries that are in the store already are steps.
        """
        self._layout, self._make = layout, make
        self._unread = start if steps else None
        self._begin(start)
        self.steps = steps

    def _begin(self, start: int) -> None:
        self.start, self.steps = start, 0
        self._builder = self._make()
        self._covered: list[StepEntry] = []

    @property
    def lacks(self) -> bool:
        """Whether steps have to be read from the store before they can be sealed."""
        return self._unread is not None

    def add(self, index: int, entry: StepEntry, leaves: Sequence[Sequence[bytes]]) -> None:
        """Take a step that was appended.

        Args:
            index: Place of its entry in the log.
            entry: Its entry.
            leaves: By rank.
        """
        self.steps += 1
        if not self.lacks:
            self._take(index, entry, leaves)

    def _take(self, index: int, entry: StepEntry, leaves: Sequence[Sequence[bytes]]) -> None:
        self._builder.add(index, entry, leaves, self._layout)
        self._covered.append(entry)

    def read(self, store: Store) -> None:
        """Read all steps since the last seal from a store that has them all.

        Raises:
            CorruptLogError: Their rows are not what their entries say.
        """
        for key, data in store.items(ENTRY, entry_key(self.start)):
            kind, payload = decode_entry(data)
            if kind == STEP:
                entry = decode_step(payload)
                leaves = [_leaves(store, entry, rank, self._layout) for rank in range(len(entry.ranks))]
                self._take(int.from_bytes(key, "big"), entry, leaves)
        self._unread = None

    def seal(self, index: int) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what a seal says, and its runs by name; then start again behind it.

        Args:
            index: Place of the seal in the log.
        """
        runs = dict(sorted(self._builder.finish().items()))
        first, last = self._covered[0], self._covered[-1]
        facts = {
            "from_step": first.step,
            "to_step": last.step + 1,
            "attempt": last.attempt,
            "blocks": sum(len(entry.ranks) for entry in self._covered),
            "runs": {name: digest_text(sha256(data)) for name, data in runs.items()},
        }
        self._begin(index + 1)
        return facts, runs


def _leaves(store: Store, entry: StepEntry, rank: int, layout: Layout) -> tuple[bytes, ...]:
    data = store.get(BLOCK, block_key(entry.attempt, entry.step, rank))
    block = None if data is None else cut_block(data, layout)
    if block is None or root_of(block.recomputed()) != entry.ranks[rank].inner_root:
        raise CorruptLogError("the rows are not those of the signed entry", f"step {entry.step}")
    return block.leaves
