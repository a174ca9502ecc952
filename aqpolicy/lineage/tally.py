"""What the steps of a run add up to: spent budgets, and the order in which examples were seen.

Writer and verifier both add up the rows alone, so a STEP entry commits to all
steps before it, and a step that is left out or exchanged shows in every later one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from aqpolicy.lineage.record import Row
from aqpolicy.trust import sha256


class Tally:
    """The state of a run after some steps."""

    def __init__(self, budgets: int) -> None:
        """Start before the first step."""
        self._run, self._epoch = [0] * budgets, [0] * budgets
        self._epoch_number = 0
        self.data_cursor = bytes(32)

    def add(self, epoch: int, rows: Sequence[Row]) -> None:
        """Add the rows of one step."""
        if epoch != self._epoch_number:
            self._epoch_number, self._epoch = epoch, [0] * len(self._epoch)
        for number, charges in enumerate(zip(*(row.charges for row in rows), strict=True)):
            self._epoch[number] += sum(charges)
            self._run[number] += sum(charges)
        self.data_cursor = sha256(self.data_cursor + b"".join(row.example_key for row in rows))

    @property
    def budget_state(self) -> bytes:
        """Digest of the epoch's number and of what each budget was charged in it and in the run."""
        sums = struct.pack(f"<{2 * len(self._run)}Q", *self._epoch, *self._run)
        return sha256(b"AQS1" + struct.pack("<I", self._epoch_number) + sums)
