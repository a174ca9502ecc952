"""What became of the visits over the steps, as a stacked chart of characters."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise

from aqpolicy.report.live_data import Point
from aqpolicy.report.live_look import BANDS, EIGHTHS, Band, Look

Cell = tuple[str, str]
"""A character and its style."""

Heights = tuple[float, ...]
"""Where each band ends, in cells from the bottom; empty where nothing happened."""


def draw_bands(history: Sequence[Point], look: Look, width: int, height: int) -> list[str]:
    """Return the lines of a chart, from top to bottom; each column is an equal stretch of steps."""
    columns = [_heights(sums, height) for sums in _columns(history, width)]
    return [_line([_cell(ends, row, look) for ends in columns], look) for row in range(height - 1, -1, -1)]


def _columns(history: Sequence[Point], width: int) -> list[tuple[float, ...]]:
    """Return what each column adds to the sums, by interpolation between the points."""
    first, last = history[0].step, history[-1].step
    edges = [_at(history, first + (last - first) * column / width) for column in range(width + 1)]
    return [
        tuple(max(after - before, 0.0) for before, after in zip(left, right, strict=True))
        for left, right in pairwise(edges)
    ]


def _at(history: Sequence[Point], step: float) -> tuple[float, ...]:
    """Return the sums up to a step."""
    after = min(bisect_right(history, step, key=lambda point: point.step), len(history) - 1)
    right, left = history[after], history[max(after - 1, 0)]
    way = (step - left.step) / (right.step - left.step) if right.step > left.step else 1.0
    return tuple(low + (high - low) * way for low, high in zip(left.amounts, right.amounts, strict=True))


def _heights(sums: tuple[float, ...], height: int) -> Heights:
    ordered = [sums[band.effect] for band in BANDS]
    whole = sum(ordered)
    return tuple(end / whole * height for end in accumulate(ordered)) if whole else ()


def _cell(ends: Heights, row: int, look: Look) -> Cell:
    """Return the cell of a column between `row` and the row above."""
    if not ends:
        return " ", ""
    if not (look.color and look.blocks):
        band = _band_at(ends, row + 0.5)
        return look.mark(band), band.style
    lower = _band_at(ends, row)
    inside = min(max(ends[BANDS.index(lower)] - row, 0.0), 1.0)
    eighths = round(inside * 8)
    upper = _band_at(ends, row + (inside + 1) / 2)
    if eighths == 8 or lower is upper:
        return "█", lower.style
    return EIGHTHS[eighths], f"{lower.style};{_behind(upper)}"


def _band_at(ends: Heights, place: float) -> Band:
    return BANDS[min(bisect_right(ends, place), len(BANDS) - 1)]


def _behind(band: Band) -> str:
    """Return the style of a band as the background."""
    return str(int(band.style) + 10)


def _line(cells: Sequence[Cell], look: Look) -> str:
    """Return cells as text, each run of one style painted once."""
    runs = groupby(cells, key=lambda cell: cell[1])
    return "".join(look.paint("".join(letter for letter, _ in run), style) for style, run in runs)
