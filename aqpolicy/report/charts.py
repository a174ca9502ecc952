"""Line and bar charts as inline SVG; each has its numbers in text beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aqpolicy.report.data import Bars, BurnDown
from aqpolicy.report.markup import measured, number, text

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 460, 190, 58, 14, 26
_SHADES = "abc"
_MOST_POINTS = 400


def render_burn_down(budget: BurnDown) -> str:
    """Return what is left of a budget, step by step."""
    points = budget.left[:: max(1, len(budget.left) // _MOST_POINTS)]
    if points and points[-1] != budget.left[-1]:
        points = (*points, budget.left[-1])
    last_step = max((step for step, _ in points), default=0) or 1
    top = max([budget.limit, *(left for _, left in points)]) or 1.0

    def place(step: float, left: float) -> str:
        x = _LEFT + step / last_step * (_WIDTH - _LEFT - 10)
        return f"{x:.1f},{_TOP + (1 - left / top) * (_HEIGHT - _TOP - _BOTTOM):.1f}"

    line = " ".join(place(step, left) for step, left in points)
    floor = _HEIGHT - _BOTTOM
    area = f"{place(points[0][0], 0)} {line} {place(points[-1][0], 0)}" if points else ""
    least = min((left for _, left in budget.left), default=budget.limit)
    refused = f"; {budget.refused} updates lowered by its limit per update" if budget.refused else ""
    said = f"{budget.caption}; at least {number(least)} of {number(budget.limit)} nat left{refused}"
    return (
        f"<figure><figcaption><b>{text(budget.name)}</b><br><small>{text(said)}</small></figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{text(f"budget {budget.name}: {said}")}">'
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{floor}" y2="{floor}"/>'
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{_TOP}" y2="{_TOP}"/>'
        f'<text class="dim" x="{_LEFT - 6}" y="{_TOP + 4}" text-anchor="end">{number(top)}</text>'
        f'<text class="dim" x="{_LEFT - 6}" y="{floor + 4}" text-anchor="end">0 nat</text>'
        f'<text class="dim" x="{_LEFT}" y="{_HEIGHT - 8}">step 0</text>'
        f'<text class="dim" x="{_WIDTH - 10}" y="{_HEIGHT - 8}" text-anchor="end">step {last_step}</text>'
        f'<polygon class="area" points="{area}"/><polyline class="line" points="{line}"/></svg></figure>'
    )


def render_bars(bars: Bars) -> str:
    """Return one bar per group and arm, with the spread over seeds as a line."""
    top = max((each.mean + each.spread for _, values in bars.arms for each in values), default=0.0) or 1.0
    height = 16
    block = height * len(bars.arms) + 14
    total = block * len(bars.groups) + 4
    inner = "".join(
        f'<text x="0" y="{at * block + block / 2:.0f}">{text(group)}</text>'
        + "".join(
            _bar(at * block + 2 + number_of_arm * height, values[at].mean / top, values[at].spread / top, number_of_arm)
            + _bar_label(at * block + 2 + number_of_arm * height, values[at].mean / top + values[at].spread / top)
            + f"{text(measured(values[at]))}</text>"
            for number_of_arm, (_, values) in enumerate(bars.arms)
        )
        for at, group in enumerate(bars.groups)
    )
    summary = "; ".join(
        f"{name}: {', '.join(f'{group} {measured(value)}' for group, value in zip(bars.groups, values, strict=True))}"
        for name, values in bars.arms
    )
    return (
        f"<figure><figcaption><b>{text(bars.title)}</b><br>"
        f"<small>{text(bars.note)} ({text(bars.unit)})</small></figcaption>"
        f"{_key(name for name, _ in bars.arms)}"
        f'<svg viewBox="0 0 {_WIDTH} {total}" width="{_WIDTH}" height="{total}" role="img" '
        f'aria-label="{text(f"{bars.title}. {summary}")}">{inner}</svg></figure>'
    )


def render_signed(title: str, names: Sequence[str], values: Sequence[float]) -> str:
    """Return one bar per name, to the right of the middle where it is positive and to the left where it is not."""
    top = max(map(abs, values), default=0.0) or 1.0
    line, left, room = 20, 120, (_WIDTH - 120 - 84) / 2
    inner = "".join(
        f'<text x="0" y="{at * line + 14}">{text(name)}</text>'
        f'<rect class="{"up" if value >= 0 else "down"}" x="{left + room + min(value, 0) / top * room:.1f}" '
        f'y="{at * line + 4}" width="{max(abs(value) / top * room, 0.5):.1f}" height="12" rx="2"/>'
        f'<text class="dim" x="{_WIDTH - 78}" y="{at * line + 14}">{text(f"{value:+.3g}")}</text>'
        for at, (name, value) in enumerate(zip(names, values, strict=True))
    )
    summary = "; ".join(f"{name} {value:+.3g}" for name, value in zip(names, values, strict=True))
    height = line * len(names) + 4
    middle = f'<line class="axis" x1="{left + room}" x2="{left + room}" y1="0" y2="{height}"/>'
    return (
        f"<figure><figcaption><b>{text(title)}</b></figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" '
        f'aria-label="{text(f"{title}. {summary}")}">{middle}{inner}</svg></figure>'
    )


def _bar(y: float, length: float, spread: float, arm: int) -> str:
    start, room = 82, _WIDTH - 82 - 112
    end = start + length * room
    error = (
        f'<line class="err" x1="{end - spread * room:.1f}" x2="{end + spread * room:.1f}" y1="{y + 6}" y2="{y + 6}"/>'
        if spread
        else ""
    )
    shade = _SHADES[arm % len(_SHADES)]
    return (
        f'<rect class="{shade}" x="{start}" y="{y}" width="{max(length * room, 0.5):.1f}" height="12" rx="2"/>{error}'
    )


def _bar_label(y: float, length: float) -> str:
    return f'<text class="dim" x="{82 + length * (_WIDTH - 82 - 112) + 6:.1f}" y="{y + 10}">'


def _key(names: Iterable[str]) -> str:
    entries = "".join(
        f'<li><svg width="12" height="12" aria-hidden="true"><rect class="{_SHADES[at % len(_SHADES)]}" width="12" '
        f'height="12" rx="2"/></svg>{text(name)}</li>'
        for at, name in enumerate(names)
    )
    return f'<ul class="key">{entries}</ul>'
