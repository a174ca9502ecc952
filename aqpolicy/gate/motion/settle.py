"""Settle one step of the optimizer: judge what it did, scale or put back, measure again, until every budget has room.

Arithmetic over numbers per depth group, no tensors and no accounts: what room
there is comes from `meters`. Each round judges one measurement, and a group
takes the least that any budget leaves it. What is charged is what was measured
last, so no budget is ever overspent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from aqpolicy.bundle.tables import BudgetTable
from aqpolicy.units import MICRO

Meter = Literal["movement", "drift"]

MARGIN: Final = 1.0 - 1e-6
"""What a scaling leaves for rounding."""

MOVEMENT_HALVINGS: Final = 8
"""How often a movement that was scaled and still does not fit is halved."""

DRIFT_HALVINGS: Final = 4
"""How often the change of a drifting budget's groups is halved."""


class Change(Protocol):
    """What the optimizer did in one step, while it can still be taken back."""

    def movement(self) -> Sequence[float]:
        """Return the l2 norm of every group's present change since before the step."""

    def drift(self) -> Sequence[float]:
        """Return |S2 now - S2 before the step| of every group; asked only where a drift budget is concerned."""

    def apply(self, factors: Sequence[float]) -> None:
        """Put every group to where it was before the step plus factor times what the optimizer did.

        Factor 0 means bit by bit where it was, factor 1 bit by bit what the optimizer did. Factors never rise.
        """


@dataclass(frozen=True, slots=True)
class Ruling:
    """What became of a step of the optimizer.

    Shapes:
        factors, movement, drift (g); movement_charges, drift_charges (number of budgets).

    Units:
        movement: l2, drift: nats, as measured last; charges: millionths of them.
    """

    factors: tuple[float, ...]
    movement: tuple[float, ...]
    drift: tuple[float, ...] | None
    """None where it was not measured."""
    movement_charges: tuple[int, ...]
    drift_charges: tuple[int, ...]
    halted: str = ""
    """The budget that halts the run; all factors are 0 then."""


def charge_of(amount: float) -> int:
    """Return an amount in millionths, rounded up."""
    return math.ceil(amount * MICRO)


def moved_together(movement: Sequence[float], groups: Iterable[int]) -> float:
    """Return the l2 norm of the movement of several groups together."""
    return math.sqrt(sum(movement[group] ** 2 for group in groups))


def drifted_most(drift: Sequence[float], groups: Iterable[int]) -> float:
    """Return the largest drift of several groups."""
    return max((drift[group] for group in groups), default=0.0)


Rooms = Mapping[int, int]
"""Per concerned budget that has the meter, the least that is left of its limits."""


def settle(
    change: Change, budgets: Sequence[BudgetTable], movement_rooms: Rooms, drift_rooms: Rooms, groups: int
) -> Ruling:
    """Scale or put back a step until every concerned budget has room for it; on return it is applied as ruled."""
    step = _Step(change, budgets, groups)
    step.settle_movement(movement_rooms)
    if drift_rooms and not step.halted:
        step.measure_drift()
        step.settle_drift(drift_rooms)
        # Less movement can measure as more by rounding alone; then nothing of the step stands.
        if step.misfits("movement", movement_rooms):
            step.put_back()
    return Ruling(
        factors=tuple(step.factors),
        movement=tuple(step.movement),
        drift=None if step.drift is None else tuple(step.drift),
        movement_charges=step.charges("movement", movement_rooms),
        drift_charges=step.charges("drift", drift_rooms),
        halted=step.halted,
    )


class _Step:
    """One step while it is settled: its factors, and what was measured under them."""

    def __init__(self, change: Change, budgets: Sequence[BudgetTable], groups: int) -> None:
        self._change, self._budgets = change, budgets
        self.factors = [1.0] * groups
        self.movement = change.movement()
        self.drift: Sequence[float] | None = None
        self.halted = ""

    def settle_movement(self, rooms: Rooms) -> None:
        """Judge what was measured first; then halve what does not fit although it was scaled."""
        misfits = self.misfits("movement", rooms)
        if not misfits or self._halts(misfits):
            return
        self._lower({budget: self._fitting(budget, rooms[budget]) for budget in misfits})
        for _ in range(MOVEMENT_HALVINGS):
            misfits = self.misfits("movement", rooms)
            if not misfits:
                return
            self._lower(dict.fromkeys(misfits, 0.5))
        self._lower(dict.fromkeys(self.misfits("movement", rooms), 0.0))
        if self.misfits("movement", rooms):
            self.put_back()

    def settle_drift(self, rooms: Rooms) -> None:
        """Halve, put the budget's groups back, put every group back: until the drift fits."""
        tried = dict.fromkeys(rooms, 0)
        while misfits := self.misfits("drift", rooms):
            if self._halts(misfits):
                return
            halvings = {
                budget: DRIFT_HALVINGS if self._budgets[budget].on_exhaust == "attenuate" else 0 for budget in misfits
            }
            if any(tried[budget] > halvings[budget] for budget in misfits):
                # Its groups are back already: groups before them move their output too.
                self.put_back()
                return
            self._lower({budget: 0.5 if tried[budget] < halvings[budget] else 0.0 for budget in misfits})
            for budget in misfits:
                tried[budget] += 1

    def misfits(self, meter: Meter, rooms: Rooms) -> list[int]:
        """Return the budgets that have no room for what was measured last; there is none for what is not finite."""
        amounts = ((budget, room, self._amount(meter, budget)) for budget, room in rooms.items())
        return [budget for budget, room, amount in amounts if not math.isfinite(amount) or charge_of(amount) > room]

    def charges(self, meter: Meter, rooms: Rooms) -> tuple[int, ...]:
        """Return what every budget is charged."""
        return tuple(
            charge_of(self._amount(meter, budget)) if budget in rooms else 0 for budget in range(len(self._budgets))
        )

    def measure_drift(self) -> None:
        """Measure how far the representations went."""
        self.drift = self._change.drift()

    def put_back(self) -> None:
        """Take the whole step back: nothing moved, so nothing drifted."""
        groups = len(self.factors)
        self.factors = [0.0] * groups
        self._change.apply(self.factors)
        self.movement = [0.0] * groups
        self.drift = None if self.drift is None else [0.0] * groups

    def _halts(self, misfits: Sequence[int]) -> bool:
        """Take the step back where a budget without room halts the run."""
        names = [self._budgets[budget].name for budget in misfits if self._budgets[budget].on_exhaust == "halt"]
        if names:
            self.halted, self.drift = names[0], None
            self.put_back()
        return bool(names)

    def _fitting(self, budget: int, room: int) -> float:
        """Return the factor under which a budget's movement fits; 0 where the budget does not attenuate."""
        amount = self._amount("movement", budget)
        if self._budgets[budget].on_exhaust != "attenuate" or not math.isfinite(amount):
            return 0.0
        return room / MICRO / amount * MARGIN

    def _lower(self, scales: Mapping[int, float]) -> None:
        """Scale every group by the least that a budget leaves it, and measure what is measured."""
        for group, factor in enumerate(self.factors):
            left = [scale for budget, scale in scales.items() if group in self._budgets[budget].groups]
            self.factors[group] = factor * min(left, default=1.0)
        self._change.apply(self.factors)
        self.movement = self._change.movement()
        if self.drift is not None:
            self.measure_drift()

    def _amount(self, meter: Meter, budget: int) -> float:
        groups = self._budgets[budget].groups
        if meter == "movement":
            return moved_together(self.movement, groups)
        return 0.0 if self.drift is None else drifted_most(self.drift, groups)
