"""What the steps of a run add up to: spent budgets, and the order in which examples were seen.

Writer and verifier both add up the rows and books alone, so a STEP entry commits to
all steps before it, and a step that is left out or exchanged shows in every later one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import add
from typing import Final

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage.block import Step
from aqpolicy.lineage.record import Book
from aqpolicy.lineage.visits import Visits, visits_bytes
from aqpolicy.trust import sha256

_MAGIC: Final = b"AQS3"
_CURSOR_BYTES: Final = 32
_METERS: Final = 4


class Tally:
    """The state of a run after some steps."""

    def __init__(self, budgets: int) -> None:
        """Start before the first step."""
        self.budgets = budgets
        self._epoch_number = 0
        # Per budget what was charged in this epoch, in the run, for movement, for drift.
        self._sums = [[0] * budgets for _ in range(_METERS)]
        self.data_cursor = bytes(_CURSOR_BYTES)

    def add(self, step: Step) -> None:
        """Add one step; see `take`."""
        self.take(step.epoch, step.keys, step.visits, step.charged(self.budgets), step.book)

    def take(self, epoch: int, keys: bytes, visits: Visits, charged: Sequence[int], book: Book) -> None:
        """Add one step.

        Args:
            epoch: Its number.
            keys: Of its rows, in the order of the visits.
            visits: Rows per part, and in it per rank.
            charged: What its rows charge every budget.
            book: What it charges for movement and drift.

        Raises:
            CorruptLogError: More was charged than the log can say; nothing is added.
        """
        self.charge(epoch, charged, book.movement_charges, book.drift_charges)
        self.data_cursor = sha256(self.data_cursor + visits_bytes(visits) + keys)

    def charge(self, epoch: int, charged: Sequence[int], movement: Sequence[int], drift: Sequence[int]) -> None:
        """Add what one step charges every budget: by its rows, for movement, for drift; raises as `take` does."""
        in_epoch, *others = self._sums
        if epoch != self._epoch_number:
            in_epoch = [0] * self.budgets
        charges = (charged, charged, movement, drift)
        sums = [[*map(add, *pair)] for pair in zip((in_epoch, *others), charges, strict=True)]
        if any(number >> 64 for column in sums for number in column):
            raise CorruptLogError("what budgets were charged adds up to more than a log can hold")
        self._epoch_number, self._sums = epoch, sums

    @property
    def epoch(self) -> int:
        """Number of the epoch of the last step."""
        return self._epoch_number

    @property
    def _state(self) -> bytes:
        flat = [number for column in self._sums for number in column]
        return struct.pack(f"<I{len(flat)}Q", self._epoch_number, *flat)

    @property
    def budget_state(self) -> bytes:
        """Digest of the epoch's number and of what each budget was charged: in it and in the run, by every meter."""
        return sha256(_MAGIC + self._state)

    @property
    def digest(self) -> bytes:
        """Digest of all that is added up, as model entries name it."""
        return sha256(self.budget_state + self.data_cursor)

    def to_bytes(self) -> bytes:
        """Return all that is added up."""
        return self._state + self.data_cursor

    @classmethod
    def from_bytes(cls, data: bytes, budgets: int) -> Tally:
        """Read what `to_bytes` wrote.

        Raises:
            CorruptLogError: It has another length.
        """
        numbers = struct.Struct(f"<I{_METERS * budgets}Q")
        if len(data) != numbers.size + _CURSOR_BYTES:
            raise CorruptLogError("what the steps of the run add up to has another length")
        tally = cls(budgets)
        tally._epoch_number, *flat = numbers.unpack_from(data)
        tally._sums = [flat[meter * budgets : (meter + 1) * budgets] for meter in range(_METERS)]
        tally.data_cursor = data[numbers.size :]
        return tally
