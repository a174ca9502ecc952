"""What budgets of movement and drift mean: how far a step may go, and what it is charged.

Here a step is a function: it says how far the groups move, and where their
representations are, when the change of each group is scaled by a factor. The gate
measures the same on the model itself. A factor is 1 where a group moves as the
optimizer moved it, and 0 where it is put back.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal

from aqpolicy.bundle.tables import BudgetTable
from aqpolicy.units import MICRO

Meter = Literal["movement", "drift"]

Factors = tuple[float, ...]

Measure = Callable[[Factors], Sequence[float]]
"""Per group, how far it moves, or the entropy of its representation, under these factors."""

MARGIN: Final = 1 - 1e-6
"""What an attenuated factor leaves for rounding."""

HALVINGS: Final[Mapping[Meter, int]] = MappingProxyType({"movement": 8, "drift": 4})
"""How often a change that still does not fit is halved before its groups are put back."""


@dataclass(frozen=True, slots=True)
class Metered:
    """What one budget has been charged by one meter, in millionths; the window per step is always fresh."""

    epoch: int = 0
    phase: int = 0
    run: int = 0


@dataclass(frozen=True, slots=True)
class MeterLedger:
    """What all budgets have been charged, per meter one entry per budget."""

    movement: tuple[Metered, ...]
    drift: tuple[Metered, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """How a step ends; where `halted` names a budget, every factor is 0 and nothing is charged.

    Shapes:
        factors (g), movement (g), drift (g), empty where it is not measured; charges (number of budgets).
    """

    factors: Factors
    movement: tuple[float, ...]
    drift: tuple[float, ...]
    movement_charges: tuple[int, ...]
    drift_charges: tuple[int, ...]
    halted: str = ""


def nothing_metered(budgets: Sequence[BudgetTable]) -> MeterLedger:
    """Return the ledger of a run that has not begun."""
    none = tuple(Metered() for _ in budgets)
    return MeterLedger(none, none)


def renew(ledger: MeterLedger, window: Literal["epoch", "phase"]) -> MeterLedger:
    """Return the ledger with fresh windows per epoch, or per phase."""
    fresh = {window: 0}
    return MeterLedger(
        tuple(replace(spent, **fresh) for spent in ledger.movement),
        tuple(replace(spent, **fresh) for spent in ledger.drift),
    )


def booked(ledger: MeterLedger, settled: Settled) -> MeterLedger:
    """Return the ledger after a step."""
    return MeterLedger(
        tuple(map(_after, ledger.movement, settled.movement_charges)),
        tuple(map(_after, ledger.drift, settled.drift_charges)),
    )


def room_of(budget: BudgetTable, meter: Meter, spent: Metered) -> int | None:
    """Return the least that the meter's windows leave for a step; None where the budget does not meter it."""
    was = {"step": 0, "epoch": spent.epoch, "phase": spent.phase, "run": spent.run}
    return min((limit - was[window] for name, window, limit in budget.meters if name == meter), default=None)


def micro_up(amount: float) -> int:
    """Return an amount in millionths, rounded up."""
    return math.ceil(amount * MICRO)


def moved(budget: BudgetTable, movement: Sequence[float]) -> float:
    """Return how far the groups of a budget move together, in the l2 norm."""
    return math.sqrt(sum(movement[g] ** 2 for g in budget.groups))


def drifted(budget: BudgetTable, drift: Sequence[float]) -> float:
    """Return the largest drift of a budget's groups."""
    return max((drift[g] for g in budget.groups), default=0.0)


def settle(  # noqa: PLR0917 - what is known of one step
    budgets: Sequence[BudgetTable],
    ledger: MeterLedger,
    concerned: Sequence[bool],
    groups: int,
    movement: Measure,
    drift: Measure | None = None,
) -> Settled:
    """Return how far a step may go.

    Args:
        budgets: The budgets.
        ledger: What was charged before.
        concerned: Per budget, whether this step admits an update that it charges, in a group of it.
        groups: How many depth groups there are.
        movement: How far each group moves.
        drift: How far each group's entropy is from that before the step; left out where no budget meters it.

    Shapes:
        concerned (number of budgets).
    """
    room = _rooms(budgets, "movement", ledger.movement, concerned)
    depth = _rooms(budgets, "drift", ledger.drift, concerned)
    factors, halted = judge_movement(budgets, room, movement((1.0,) * groups))
    if not halted:
        factors = _refit(budgets, room, factors, movement)
    if not halted and drift is not None:
        factors, halted = _settle_drift(budgets, depth, factors, drift)
    far = tuple(movement(factors))
    if halted or _beyond(room, [moved(budget, far) for budget in budgets]):
        # Less of a step can measure as more by rounding alone; then nothing of it stands.
        factors, far = (0.0,) * groups, (0.0,) * groups
    if halted:
        nothing = (0,) * len(budgets)
        return Settled(factors, far, (), nothing, nothing, halted)
    deep = () if drift is None else tuple(drift(factors))
    return Settled(
        factors=factors,
        movement=far,
        drift=deep,
        movement_charges=_charges(room, [moved(budget, far) for budget in budgets]),
        drift_charges=_charges(depth, [drifted(budget, deep) if deep else 0.0 for budget in budgets]),
    )


def judge_movement(
    budgets: Sequence[BudgetTable], rooms: Sequence[int | None], movement: Sequence[float]
) -> tuple[Factors, str]:
    """Return the factor of every group, the least that any budget leaves it, and the budget that halts the run.

    Shapes:
        rooms (number of budgets), None where a budget has no say; movement (g).
    """
    factors, halted = [1.0] * len(movement), ""
    for budget, room in zip(budgets, rooms, strict=True):
        far = moved(budget, movement)
        if room is None or _fits(far, room):
            continue
        if budget.on_exhaust == "halt":
            halted = halted or budget.name
        shrunk = room / MICRO / far * MARGIN if budget.on_exhaust == "attenuate" and math.isfinite(far) else 0.0
        for g in budget.groups:
            factors[g] = min(factors[g], shrunk)
    return tuple(factors), halted


def _refit(budgets: Sequence[BudgetTable], rooms: Sequence[int | None], factors: Factors, movement: Measure) -> Factors:
    """Halve the factors of what still does not fit, and put it back in the end."""
    for attempt in range(HALVINGS["movement"] + 1):
        far = movement(factors)
        misfits = _beyond(rooms, [moved(budget, far) for budget in budgets])
        covered = {g for b in misfits for g in budgets[b].groups}
        scale = 0.5 if attempt < HALVINGS["movement"] else 0.0
        factors = tuple(factor * scale if g in covered else factor for g, factor in enumerate(factors))
    return factors


def _settle_drift(
    budgets: Sequence[BudgetTable], rooms: Sequence[int | None], factors: Factors, drift: Measure
) -> tuple[Factors, str]:
    """Lower factors until the drift fits every budget; return them, and the budget that halts the run."""
    lowered = Counter[int]()
    while True:
        deep = drift(factors)
        misfits = _beyond(rooms, [drifted(budget, deep) for budget in budgets])
        if not misfits:
            return factors, ""
        halts = [budgets[b].name for b in misfits if budgets[b].on_exhaust == "halt"]
        if halts:
            return factors, halts[0]
        most = {b: HALVINGS["drift"] if budgets[b].on_exhaust == "attenuate" else 0 for b in misfits}
        if any(lowered[b] > most[b] for b in misfits):
            # Its groups are put back already: groups before them move their output too.
            return (0.0,) * len(factors), ""
        left = list(factors)
        for b in misfits:
            for g in budgets[b].groups:
                left[g] = min(left[g], factors[g] * (0.5 if lowered[b] < most[b] else 0.0))
            lowered[b] += 1
        factors = tuple(left)


def _beyond(rooms: Sequence[int | None], amounts: Sequence[float]) -> list[int]:
    """Return the budgets that have no room for these amounts."""
    pairs = enumerate(zip(rooms, amounts, strict=True))
    return [b for b, (room, amount) in pairs if room is not None and not _fits(amount, room)]


def _rooms(
    budgets: Sequence[BudgetTable], meter: Meter, spent: Sequence[Metered], concerned: Sequence[bool]
) -> tuple[int | None, ...]:
    triples = zip(budgets, spent, concerned, strict=True)
    return tuple(room_of(budget, meter, was) if asked else None for budget, was, asked in triples)


def _charges(rooms: Sequence[int | None], amounts: Sequence[float]) -> tuple[int, ...]:
    pairs = zip(rooms, amounts, strict=True)
    return tuple(0 if room is None else micro_up(amount) for room, amount in pairs)


def _fits(amount: float, room: int) -> bool:
    """Say whether an amount fits into millionths; what is not finite never does."""
    return math.isfinite(amount) and micro_up(amount) <= room


def _after(spent: Metered, charge: int) -> Metered:
    return Metered(spent.epoch + charge, spent.phase + charge, spent.run + charge)
