"""The heat map: depth groups down, classes of observations across, gradient mass in the cells."""

from __future__ import annotations

from aqpolicy.report.data import HeatMap
from aqpolicy.report.markup import number, text

LEVELS = 10
"""Steps of the colour scale; the style sheet has one class for each and one for zero."""


def render_heat_map(heat: HeatMap) -> str:
    """Return a table that reads without its colours: share admitted, then admitted and denied mass."""
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in heat.classes)
    rows = "".join(
        f'<tr><th scope="row">{text(group)}</th>{"".join(map(_cell, admitted, denied))}</tr>'
        for group, admitted, denied in zip(heat.groups, heat.admitted, heat.denied, strict=True)
    )
    return (
        f"<h3>{text(heat.title)}</h3>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(heat.title)}"><table class="heat">'
        f"<caption>{text(heat.note)}</caption><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(admitted: float, denied: float) -> str:
    total = admitted + denied
    if not total:
        return '<td class="h0"><b>–</b><span>no visit</span></td>'
    share = admitted / total
    # A little is never shown as nothing, and not quite all never as all.
    level = round(share * LEVELS) if share in {0.0, 1.0} else min(max(round(share * LEVELS), 1), LEVELS - 1)
    percent = f"{share:.0%}" if share in {0.0, 1.0} or 0.01 <= share <= 0.99 else ("<1%" if share < 0.5 else ">99%")
    return f'<td class="h{level}"><b>{text(percent)}</b><span>{number(admitted)} in, {number(denied)} held</span></td>'
