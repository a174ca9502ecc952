"""What a report shows, as plain data; every text in it is untrusted and is escaped when it is rendered.

A part that is None or empty is left out of the page. Masses are l2 norms of
gradients summed over visits, nats are nats: plain floats, for reading only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Literal

from aqpolicy.diagnostics import Diagnostic

Origin = Literal["real", "planted", "assigned", "measured", ""]
"""Where something comes from: the data set, our own doing, our own naming, or this run."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One step of the story, in a sentence or two."""

    title: str
    text: str
    origin: Origin = ""


@dataclass(frozen=True, slots=True)
class PolicyPart:
    """A policy with what its checker said."""

    title: str
    text: str
    findings: tuple[Diagnostic, ...]
    verdict: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Gradient mass by depth group and class of observation.

    Shapes:
        admitted and denied (groups, classes).
    """

    title: str
    note: str
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    admitted: Sequence[Sequence[float]]
    denied: Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class BurnDown:
    """What is left of a budget after each step of a run."""

    name: str
    caption: str
    limit: float
    left: tuple[tuple[int, float], ...]
    refused: int = 0
    """Visits that the limit per update lowered."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A mean and its spread over seeds, with the single values."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return sum(self.values) / len(self.values)

    @property
    def spread(self) -> float:
        """Sample standard deviation; 0 where there is one value only."""
        if len(self.values) < 2:
            return 0.0
        return sqrt(sum((value - self.mean) ** 2 for value in self.values) / (len(self.values) - 1))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Arms of an experiment side by side; each row has one `Measured` or text per metric."""

    caption: str
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Measured | str, ...]], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar per depth group and arm."""

    title: str
    note: str
    unit: str
    groups: tuple[str, ...]
    arms: tuple[tuple[str, tuple[Measured, ...]], ...]


@dataclass(frozen=True, slots=True)
class Why:
    """One node of a "why?" path: a behaviour, a depth group, an update, an example, an annotator, an observation."""

    rank: str
    title: str
    detail: str = ""
    weight: float | None = None
    """Signed share of its parent's total, for the bar; None where there is none."""
    facts: tuple[tuple[str, str], ...] = ()
    flag: str = ""
    """A word that must not be missed, such as `planted`."""
    children: tuple[Why, ...] = ()


@dataclass(frozen=True, slots=True)
class TraceView:
    """The paths of one behaviour, its error statement, and a ranking of annotators."""

    title: str
    summary: str
    root: Why
    statement: tuple[tuple[str, str], ...] = ()
    ranking: Table | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A plain table; the first cell of a row is its heading. `marked` rows stand out."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: tuple[int, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class LogPart:
    """The log's signed head and what verification found."""

    checkpoint: str
    facts: tuple[tuple[str, str], ...]
    tampering: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on the page."""

    title: str
    subtitle: str
    chapters: tuple[Chapter, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    policies: tuple[PolicyPart, ...] = ()
    heat_maps: tuple[HeatMap, ...] = ()
    budgets: tuple[BurnDown, ...] = ()
    comparison: Comparison | None = None
    displacement: tuple[Bars, ...] = ()
    traces: tuple[TraceView, ...] = ()
    footprint: Table | None = None
    log: LogPart | None = None
    limits: tuple[str, ...] = field(default=())
