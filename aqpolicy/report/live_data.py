"""How a run stands, as plain data: what is drawn of it while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class Point:
    """The sums up to a step, per effect in the order of `bundle.tables.EFFECTS`."""

    step: int
    amounts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LiveGroup:
    """A depth group, and which part of its gradient mass was admitted; None where that is not measured."""

    name: str
    admitted: float | None


@dataclass(frozen=True, slots=True)
class LiveBudget:
    """A limit and what is spent of it, in the unit; None where that is not known."""

    name: str
    meter: str
    window: str
    unit: str
    spent: float | None
    limit: float
    on_exhaust: str

    @property
    def part(self) -> float:
        """The part of the limit that is spent, from 0 to 1."""
        return 0.0 if self.spent is None else min(self.spent / self.limit, 1.0) if self.limit else 1.0


@dataclass(frozen=True, slots=True)
class LiveWait:
    """An example that waits: why, and since when."""

    example: str
    why: str
    step: int
    epoch: int


@dataclass(frozen=True, slots=True)
class LiveRun:
    """How a run stands.

    Units:
        written: seconds since 1970; elapsed: seconds; rate: steps per second.
    """

    policy: str
    written: float
    elapsed: float
    ended: str
    """Empty while the run goes on."""
    step: int
    epoch: int
    phase: str
    stage: str
    today: date
    rate: float | None
    visits: tuple[int, ...]
    """Visits per effect, in the order of `bundle.tables.EFFECTS`."""
    by_mass: bool
    """Whether the history counts gradient mass; else it counts visits."""
    history: tuple[Point, ...]
    groups: tuple[LiveGroup, ...]
    budgets: tuple[LiveBudget, ...]
    waiting: int
    oldest: tuple[LiveWait, ...]
    slow: tuple[str, ...]
