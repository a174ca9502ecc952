"""Movement and drift budgets derived again from what the log measured, for the auditor.

What the optimizer did is in the log as it was measured; everything that follows
from it is computed here: which budget had to act, the largest factor that it
leaves, and the charges. A factor may be smaller only where a budget says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from aqpolicy.bundle.tables import BudgetTable, Tables
from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage import Book
from aqpolicy.units import MICRO

MARGIN: Final = 1 - 1e-6
"""What a movement that is cut to the room of its budget leaves for rounding."""

NEAR: Final = 1e-9
"""Relative room for the last bits of a factor."""


@dataclass(slots=True)
class _Account:
    """What one budget has been charged by one meter, by window."""

    limits: tuple[tuple[str, int], ...]
    spent: dict[str, int] = field(default_factory=lambda: {"step": 0, "epoch": 0, "phase": 0, "run": 0})

    @property
    def room(self) -> int:
        return min(limit - self.spent[window] for window, limit in self.limits)

    def charge(self, amount: int) -> None:
        for window in ("epoch", "phase", "run"):
            self.spent[window] += amount


@dataclass(slots=True)
class Metering:
    """All movement and drift budgets of a run."""

    tables: Tables
    movement: dict[int, _Account] = field(init=False)
    """By number of the budget, where it meters movement."""
    drift: dict[int, _Account] = field(init=False)
    halted: str = ""
    """The budget that has stopped the run, where the log shows it."""

    def __post_init__(self) -> None:
        """Start with nothing spent."""
        self.movement, self.drift = self._accounts("movement"), self._accounts("drift")

    def start(self, window: str) -> None:
        """Give every budget its window per epoch or per phase back."""
        for account in (*self.movement.values(), *self.drift.values()):
            account.spent[window] = 0

    def check(self, book: Book, concerned: Sequence[bool]) -> None:
        """Compare a step's factors and charges with what they must be, and book the charges.

        Raises:
            CorruptLogError: They are not; without a place.
        """
        self._check_measures(book)
        moving = {number: account for number, account in self.movement.items() if concerned[number]}
        drifting = {number: account for number, account in self.drift.items() if concerned[number]}
        self._check_factors(book, moving, drifting)
        self._charge("movement", moving, [_together(book.movement, one) for one in self.tables.budgets], book)
        # What was put back as a whole went nowhere, measured or not.
        drift = book.drift if any(book.factors) else [max(one, 0.0) for one in book.drift]
        self._charge("drift", drifting, [_most(drift, one) for one in self.tables.budgets], book)

    def _accounts(self, meter: str) -> dict[int, _Account]:
        found = {}
        for number, budget in enumerate(self.tables.budgets):
            limits = tuple((window, limit) for name, window, limit in budget.meters if name == meter)
            if limits:
                found[number] = _Account(limits)
        return found

    def _check_measures(self, book: Book) -> None:
        """Check that measures and factors fit together in every group."""
        columns = zip(self.tables.groups, book.movement, book.proposed, book.factors, strict=True)
        for name, moved, proposed, factor in columns:
            if min(moved, proposed) < 0:
                raise CorruptLogError(f"how far group `{name}` moved is no number")
            if factor in (0, 1) and moved != factor * proposed:
                raise CorruptLogError(f"group `{name}` moved by {moved:.6g} of {proposed:.6g} under factor {factor:g}")

    def _check_factors(self, book: Book, moving: dict[int, _Account], drifting: dict[int, _Account]) -> None:
        budgets = self.tables.budgets
        misfits = {
            number: account.room
            for number, account in moving.items()
            if math.ceil(_together(book.proposed, budgets[number]) * MICRO) > account.room
        }
        halting = [number for number in misfits if budgets[number].on_exhaust == "halt"]
        if halting:
            self.halted = budgets[halting[0]].name
        back = not any(book.factors) and bool(drifting)  # a drift budget may put the whole step back
        for group, (name, factor) in enumerate(zip(self.tables.groups, book.factors, strict=True)):
            most = 0.0 if halting else 1.0
            for number, room in misfits.items():
                if group in budgets[number].groups:
                    most = min(most, _factor(budgets[number], _together(book.proposed, budgets[number]), room))
            if factor > most * (1 + NEAR):
                raise CorruptLogError(f"group `{name}` has factor {factor:.6g}, its budgets leave {most:.6g}")
            asking = [budgets[number] for number in (*misfits, *drifting) if group in budgets[number].groups]
            if factor < most * (1 - NEAR) and not back and not _may_be(factor, most, asking):
                raise CorruptLogError(
                    f"group `{name}` has factor {factor:.6g}, no budget asks for less than {most:.6g}"
                )

    def _charge(self, meter: str, accounts: dict[int, _Account], amounts: Sequence[float], book: Book) -> None:
        """Compare charges with what was measured in the end, and book them."""
        logged = book.movement_charges if meter == "movement" else book.drift_charges
        for number, budget in enumerate(self.tables.budgets):
            if number in accounts and amounts[number] < 0:
                raise CorruptLogError(f"the {meter} that budget `{budget.name}` counts was not measured")
            charge = math.ceil(amounts[number] * MICRO) if number in accounts else 0
            if logged[number] != charge:
                raise CorruptLogError(
                    f"the {meter} charged to budget `{budget.name}` is {logged[number]} in the log and {charge} when "
                    "derived again"
                )
            if number in accounts:
                if charge > accounts[number].room:
                    raise CorruptLogError(f"the {meter} of budget `{budget.name}` is overspent")
                accounts[number].charge(charge)


def _together(movement: Sequence[float], budget: BudgetTable) -> float:
    """Return how far the groups of a budget move together: the root of the exactly rounded sum of squares."""
    return math.sqrt(math.fsum(movement[group] * movement[group] for group in budget.groups))


def _most(drift: Sequence[float], budget: BudgetTable) -> float:
    """Return the largest drift of a budget's groups, negative where one was not measured."""
    drifts = [drift[group] for group in budget.groups]
    return max(drifts) if min(drifts) >= 0 else min(drifts)


def _factor(budget: BudgetTable, moved: float, room: int) -> float:
    """Return what a budget that has not enough room leaves of a movement."""
    return room / (moved * MICRO) * MARGIN if budget.on_exhaust == "attenuate" else 0.0


def _may_be(factor: float, most: float, asking: Sequence[BudgetTable]) -> bool:
    """Return whether budgets may have asked for less than the most: for nothing, or for the most halved some times."""
    if not factor:
        return bool(asking)
    halvings = math.log2(most / factor)
    return any(one.on_exhaust == "attenuate" for one in asking) and abs(halvings - round(halvings)) < 10 * NEAR
