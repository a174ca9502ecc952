"""Movement and drift budgets: what every one has spent in its open windows.

Arithmetic, no tensors. A step is settled first (`settle`), then recorded, and
booked at last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from aqpolicy.bundle.tables import Tables
from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.motion.settle import Change, Meter, Rooms, Ruling, settle

METERS: Final[tuple[Meter, ...]] = ("movement", "drift")


@dataclass(frozen=True, slots=True)
class Account:
    """One limit and what was spent of it in the open window, in millionths of the meter's unit.

    A window of one step is over when the step is booked; nothing of it is kept.
    """

    budget: int
    meter: Meter
    window: str
    limit: int
    spent: int = 0

    @property
    def room(self) -> int:
        """What is left."""
        return self.limit - self.spent


class Meters:
    """The movement and drift budgets of one run."""

    def __init__(self, tables: Tables) -> None:
        """Start with nothing spent."""
        self._budgets, self._groups = tables.budgets, len(tables.groups)
        self.accounts = tuple(
            Account(number, meter, window, limit)
            for number, budget in enumerate(tables.budgets)
            for meter in METERS
            for name, window, limit in budget.meters
            if name == meter
        )
        """Every limit with what was spent of it."""

    @property
    def active(self) -> bool:
        """Whether the policy has such a budget at all."""
        return bool(self.accounts)

    @property
    def drifting_groups(self) -> frozenset[int]:
        """The groups that some drift budget covers."""
        covered = (self._budgets[account.budget].groups for account in self.accounts if account.meter == "drift")
        return frozenset(group for groups in covered for group in groups)

    def watches(self, meter: Meter, concerned: Sequence[bool]) -> bool:
        """Return whether a meter must be read in a step that concerns these budgets."""
        return any(account.meter == meter and concerned[account.budget] for account in self.accounts)

    def settle(self, change: Change, concerned: Sequence[bool]) -> Ruling:
        """Scale or put back what the optimizer did until every concerned budget has room for it. Books nothing.

        Args:
            change: The optimizer's step; on return it is applied as ruled.
            concerned: Per budget, whether an update that was admitted in this step is charged to it.
        """
        movement, drift = self._rooms("movement", concerned), self._rooms("drift", concerned)
        return settle(change, self._budgets, movement, drift, self._groups)

    def book(self, ruling: Ruling) -> None:
        """Charge what a step took, once it is recorded."""
        charges = {"movement": ruling.movement_charges, "drift": ruling.drift_charges}
        self.accounts = tuple(
            account
            if account.window == "step"
            else replace(account, spent=account.spent + charges[account.meter][account.budget])
            for account in self.accounts
        )

    def start_epoch(self) -> None:
        """Give back what was spent per epoch."""
        self._give_back("epoch")

    def start_phase(self) -> None:
        """Give back what was spent per phase."""
        self._give_back("phase")

    def state_dict(self) -> dict[str, Any]:
        """Return what was spent, and of which limits."""
        return {"limits": self._limits(), "spent": [account.spent for account in self.accounts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            IllegalTrainingSetupError: It is of other budgets, or has spent more than there is.
        """
        spent = state.get("spent")
        if state.get("limits") != self._limits() or not isinstance(spent, list) or len(spent) != len(self.accounts):
            raise IllegalTrainingSetupError("the saved state is of other movement and drift budgets; attach anew")
        pairs = list(zip(self.accounts, spent, strict=True))
        if not all(type(one) is int and 0 <= one <= account.limit for account, one in pairs):
            raise IllegalTrainingSetupError("the saved state overspends a movement or drift budget; attach anew")
        self.accounts = tuple(replace(account, spent=one) for account, one in pairs)

    def _limits(self) -> list[list[str | int]]:
        return [[self._budgets[of.budget].name, of.meter, of.window, of.limit] for of in self.accounts]

    def _give_back(self, window: str) -> None:
        self.accounts = tuple(replace(of, spent=0) if of.window == window else of for of in self.accounts)

    def _rooms(self, meter: Meter, concerned: Sequence[bool]) -> Rooms:
        """Return what every concerned budget has left of its tightest limit."""
        rooms: dict[int, int] = {}
        for account in self.accounts:
            if account.meter == meter and concerned[account.budget]:
                rooms[account.budget] = min(rooms.get(account.budget, account.room), account.room)
        return rooms
