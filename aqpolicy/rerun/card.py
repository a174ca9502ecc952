"""A calibration card: what training again showed of the trace's estimates. Numbers only; nothing is read or trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aqpolicy.errors import InputError
from aqpolicy.trace.ranking import spearman

LEVEL: Final = 0.9
"""Part of the truths that a band is to hold."""

Table = Sequence[Sequence[float]]
"""One line per behaviour, one number per group of examples."""


@dataclass(frozen=True, slots=True)
class Card:
    """How estimates of what groups of examples change relate to what their absence changed."""

    behaviours: int
    groups: int
    slope: float
    """What an estimate is to be multiplied by; least squares through 0."""
    spearman: float | None
    """Rank correlation over the groups, the mean over behaviours; None where all of either are alike."""
    band: float
    """`LEVEL` of the truths lie so near to slope times estimate, in units of `scale`."""
    coverage: float
    """Part of the truths that slope and band of all other groups hold."""
    scales: tuple[float, ...]
    """Per behaviour, the root mean square of slope times estimate: what a band of this behaviour is measured in."""
    level: float = LEVEL

    def interval(self, estimate: float, scale: float) -> tuple[float, float]:
        """Return where the truth lies that belongs to an estimate, as far as the card knows.

        Args:
            estimate: The trace's.
            scale: Root mean square of slope times estimate over all that the behaviour is estimated for.
        """
        middle, room = self.slope * estimate, self.band * scale
        return middle - room, middle + room


def card(estimates: Table, truths: Table, level: float = LEVEL) -> Card:
    """Compare estimates with truths.

    Args:
        estimates: What the trace said that each group of examples adds to each behaviour.
        truths: What each behaviour lost when the group was absent.
        level: Part of the truths that the band is to hold.

    Raises:
        InputError: They are not of one shape, or too few, or not finite.
    """
    _check(estimates, truths)
    groups = list(range(len(estimates[0])))
    slope, scales, band = _fit(estimates, truths, groups, level)
    held = [
        abs(truths[line][group] - others[0] * estimates[line][group]) <= others[2] * others[1][line]
        for group in groups
        for others in [_fit(estimates, truths, [one for one in groups if one != group], level)]
        for line in range(len(estimates))
    ]
    ranked = [found for pair in zip(estimates, truths, strict=True) if (found := spearman(*pair)) is not None]
    return Card(
        behaviours=len(estimates),
        groups=len(groups),
        slope=slope,
        spearman=sum(ranked) / len(ranked) if ranked else None,
        band=band,
        coverage=sum(held) / len(held),
        scales=tuple(scales),
        level=level,
    )


def _fit(estimates: Table, truths: Table, groups: Sequence[int], level: float) -> tuple[float, list[float], float]:
    """Return slope, scale per behaviour, and band in scales, of some of the groups."""
    pairs = [[(said[at], true[at]) for at in groups] for said, true in zip(estimates, truths, strict=True)]
    weight = sum(said * said for line in pairs for said, _ in line)
    slope = sum(said * true for line in pairs for said, true in line) / weight if weight else 0.0
    scales = [math.sqrt(sum((slope * said) ** 2 for said, _ in line) / len(line)) for line in pairs]
    # A behaviour of which nothing is estimated is measured by itself, or its residuals would be endless.
    whole = [
        scale or math.sqrt(sum(true * true for _, true in line) / len(line))
        for scale, line in zip(scales, pairs, strict=True)
    ]
    residuals = sorted(
        abs(true - slope * said) / scale
        for line, scale in zip(pairs, whole, strict=True)
        if scale
        for said, true in line
    )
    if not residuals:
        return slope, whole, 0.0
    return slope, whole, residuals[min(math.ceil(level * (len(residuals) + 1)), len(residuals)) - 1]


def _check(estimates: Table, truths: Table) -> None:
    shapes = {tuple(map(len, table)) for table in (estimates, truths)}
    lines = next(iter(shapes))
    if len(shapes) != 1 or len(set(lines)) != 1 or lines[0] < 3:
        raise InputError("a card needs one estimate and one truth for each behaviour and group, and three groups")
    if not all(math.isfinite(value) for table in (estimates, truths) for line in table for value in line):
        raise InputError("a card needs finite numbers")
