"""Put the intervals of a run's calibration card on a trace of it: what retrainings showed of such estimates."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from aqpolicy.errors import InputError
from aqpolicy.rerun.card import Card
from aqpolicy.trace.result import Trace
from aqpolicy.trace.text import plain

FILE: Final = "calibration.json"
CARD: Final = "annotator"
"""Kind of group that the card is of: one annotator left out."""

_NUMBERS: Final = ("groups", "slope", "band", "coverage", "level")
_MOST: Final = 1e100
_LARGEST: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Interval:
    """What leaving out one annotator would change of the behaviour, as far as the card knows."""

    name: str
    estimate: float
    middle: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A trace's annotators with their intervals."""

    slope: float
    coverage: float
    level: float
    groups: int
    annotators: tuple[Interval, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return asdict(self)

    def lines(self, top: int) -> Iterator[str]:
        """Yield it as lines of text."""
        yield (
            f"calibrated by {self.groups} trainings without one annotator ({FILE}, unsigned): estimates times "
            f"{self.slope:.3g}; intervals meant for {self.level:.0%}, holding {self.coverage:.0%} of the others"
        )
        for one in self.annotators[:top]:
            yield f"  {plain(one.name):24} {one.middle:+10.4g}   {one.low:+.4g} to {one.high:+.4g}"


def calibrated(found: Trace, folder: Path) -> Calibrated | str | None:
    """Return a trace's annotators with intervals, why its card cannot be used, or None where there is no card.

    Trust:
        The card in the folder is unsigned, and read as numbers only.

    Raises:
        InputError: The file is no calibration card.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    facts = _read(path)
    if (facts.get("run"), facts.get("model")) != (found.run, found.model):
        return f"`{path}` is of another run or model, and not used"
    if found.level == 0 or facts.get("damp") != found.damp:
        return f"`{path}` is of estimates with --damp {facts.get('damp')}, and not used"
    card = _card(path, facts)
    if card is None:
        return f"`{path}` has no card of annotators; calibrate with at least three"
    estimates = {entry.name: entry.score for entry in found.annotators}
    scale = math.sqrt(sum((card.slope * value) ** 2 for value in estimates.values()) / max(1, len(estimates)))
    intervals = [
        Interval(name, value, card.slope * value, *card.interval(value, scale)) for name, value in estimates.items()
    ]
    intervals.sort(key=lambda one: -abs(one.middle))
    return Calibrated(card.slope, card.coverage, card.level, card.groups, tuple(intervals))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            facts = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"`{path}` is no calibration card; make it again (aqpolicy calibrate)") from error
    if not isinstance(facts, dict) or facts.get("format") != "aqpolicy calibration 1":
        raise InputError(f"`{path}` is no calibration card of this version; make it again (aqpolicy calibrate)")
    return facts


def _card(path: Path, facts: Mapping[str, Any]) -> Card | None:
    cards = facts.get("cards")
    held = cards.get(CARD) if isinstance(cards, dict) else None
    if held is None:
        return None
    numbers: list[Any] = [held.get(name) if isinstance(held, dict) else None for name in _NUMBERS]
    if not all(isinstance(number, float | int) and -_MOST < number < _MOST for number in numbers):
        raise InputError(f"`{path}` is no calibration card; make it again (aqpolicy calibrate)")
    groups, slope, band, coverage, level = map(float, numbers)
    return Card(0, round(groups), slope, None, band, coverage, (), level)
