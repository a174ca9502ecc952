"""What the steps of a run add up to: spent budgets, and the order in which examples were seen.

Writer and verifier both add up the rows and books alone, so a STEP entry commits to
all steps before it, and a step that is left out or exchanged shows in every later one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from aqpolicy.lineage.block import Step
from aqpolicy.trust import sha256


class Tally:
    """The state of a run after some steps."""

    def __init__(self, budgets: int) -> None:
        """Start before the first step."""
        self._budgets = budgets
        self._epoch, self._run = [0] * budgets, [0] * budgets
        self._movement, self._drift = [0] * budgets, [0] * budgets
        self._epoch_number = 0
        self.data_cursor = bytes(32)

    def add(self, step: Step) -> None:
        """Add one step."""
        if step.epoch != self._epoch_number:
            self._epoch_number, self._epoch = step.epoch, [0] * self._budgets
        charged = step.charged(self._budgets)
        _add(self._epoch, charged)
        _add(self._run, charged)
        _add(self._movement, step.book.movement_charges)
        _add(self._drift, step.book.drift_charges)
        self.data_cursor = sha256(self.data_cursor + step.keys)

    @property
    def budget_state(self) -> bytes:
        """Digest of the epoch's number and of what each budget was charged: in it and in the run, by every meter."""
        sums = (*self._epoch, *self._run, *self._movement, *self._drift)
        return sha256(b"AQS2" + struct.pack(f"<I{len(sums)}Q", self._epoch_number, *sums))


def _add(sums: list[int], charges: Sequence[int]) -> None:
    for number, charge in enumerate(charges):
        sums[number] += charge
