"""Curves as inline SVG, and the one file that they stand in; the style is that of the reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log2, log10

from aqpolicy.report.markup import number, text
from aqpolicy.report.style import STYLE

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 230, 56, 14, 12, 40
MOST_TICKS = 5

_MORE = """
svg .curve{fill:none;stroke-width:2}svg .curve.a{stroke:var(--a)}svg .curve.b{stroke:var(--b)}
svg .curve.c{stroke:var(--c)}
main{max-width:90rem}.figures{max-width:66rem}th,td{white-space:nowrap;font-size:.85rem}
"""

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One curve."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """Curves over one axis, whose places grow by factors."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    floor: float = 0.0
    """Where the axis of heights begins at the latest."""


def page(title: str, lead: str, body: str) -> str:
    """Return one self-contained HTML page; the body is HTML already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}{_MORE}</style></head>\n<body>"
        f'<header><h1>{text(title)}</h1><p class="lead">{text(lead)}</p></header>\n<main>{body}</main></body></html>\n'
    )


def figure(chart: Chart) -> str:
    """Return a chart with its key; every point says its numbers."""
    said = "; ".join(f"{line.name}: {', '.join(_said(point) for point in line.points)}" for line in chart.lines)
    frame = _Frame(chart)
    inner = "".join([*frame.axes(), *(frame.curve(line, at) for at, line in enumerate(chart.lines))])
    return (
        f"<figure><figcaption><b>{text(chart.title)}</b></figcaption>{_key(chart)}"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{text(f"{chart.title}. {said}")}">{inner}</svg></figure>'
    )


class _Frame:
    """Where numbers lie on the paper."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        self._places = sorted({x for line in chart.lines for x, _ in line.points})
        heights = [y for line in chart.lines for _, y in line.points]
        self._ticks = _ticks(min(*heights, chart.floor), max(heights))

    def axes(self) -> Iterator[str]:
        """Return the lines, ticks and names of both axes."""
        for tick in self._ticks:
            y = self._y(tick)
            yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
            yield f'<text class="dim" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{number(tick)}</text>'
        for place in self._places:
            yield (
                f'<text class="dim" x="{self._x(place)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
                f"{place:g}</text>"
            )
        middle = (LEFT + WIDTH - RIGHT) / 2
        yield f'<text class="dim" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{text(self._chart.x)}</text>'

    def curve(self, line: Line, at: int) -> str:
        """Return a curve and its points."""
        shade = "abc"[at % 3]
        joined = " ".join(f"{self._x(x)},{self._y(y)}" for x, y in line.points)
        dots = "".join(
            f'<circle class="{shade}" cx="{self._x(x)}" cy="{self._y(y)}" r="3"><title>'
            f"{text(f'{line.name}, {_said((x, y))}')}</title></circle>"
            for x, y in line.points
        )
        return f'<polyline class="curve {shade}" points="{joined}"/>{dots}'

    def _x(self, place: float) -> float:
        """Return where a place lies: equal factors are equal distances, and 0 is as far from 1 as 1 from 2."""
        low, high = _log(self._places[0]), _log(self._places[-1])
        return round(LEFT + 10 + (_log(place) - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT - 20), 1)

    def _y(self, height: float) -> float:
        low, high = self._ticks[0], self._ticks[-1]
        return round(TOP + (high - height) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)


def _log(place: float) -> float:
    return log2(place) if place > 0 else -1.0


def _ticks(low: float, high: float) -> list[float]:
    """Return a few round numbers that enclose a range."""
    rough = ((high - low) or abs(high) or 1.0) / MOST_TICKS
    power = 10.0 ** (log10(rough) // 1)
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = (low // step), -(-high // step)
    return [step * at for at in range(int(first), int(last if last > first else first + 1) + 1)]


def _said(point: Point) -> str:
    return f"{point[0]:g}: {number(point[1])}"


def _key(chart: Chart) -> str:
    entries = "".join(
        f'<li><svg width="12" height="12" aria-hidden="true"><rect class="{"abc"[at % 3]}" width="12" height="12" '
        f'rx="2"/></svg>{text(line.name)}</li>'
        for at, line in enumerate(chart.lines)
    )
    return f'<ul class="key">{entries}<li>{text(chart.y)}</li></ul>'
