"""The "why?" paths: from a behaviour down to signed observations, as nested details that need no script."""

from __future__ import annotations

from aqpolicy.report.data import TraceView, Why
from aqpolicy.report.markup import facts, table, text

_BAR = 70


def render_trace(view: TraceView, name: str) -> str:
    """Return one trace; `name` is unique on the page."""
    buttons = "".join(
        f'<button type="button" data-for="{name}" data-act="{act}">{label}</button>'
        for act, label in (("path", "Open the strongest path"), ("open", "Open all"), ("close", "Close all"))
    )
    ranking = table(view.ranking) if view.ranking is not None else ""
    statement = (
        f"<details><summary>How far to believe these numbers</summary>{facts(view.statement)}</details>"
        if view.statement
        else ""
    )
    return (
        f'<article class="card"><h3>{text(view.title)}</h3><p>{text(view.summary)}</p>'
        f'<div class="buttons">{buttons}</div>'
        f'<div id="{name}">{_node(view.root, on_path=True, opened=True)}</div>{ranking}{statement}</article>'
    )


def _node(why: Why, *, on_path: bool, opened: bool) -> str:
    flag = f' <span class="tag planted">{text(why.flag)}</span>' if why.flag else ""
    detail = f'<p class="note">{text(why.detail)}</p>' if why.detail else ""
    # The first child is the strongest; only the path through it opens by itself, two ranks deep.
    children = "".join(
        _node(child, on_path=on_path and at == 0, opened=opened and at == 0 and why.rank == "behaviour")
        for at, child in enumerate(why.children)
    )
    return (
        f'<details class="why"{" data-path" if on_path else ""}{" open" if opened else ""}>'
        f'<summary>{_share(why.weight)}<span class="rank">{text(why.rank)}</span>{text(why.title)}{flag}</summary>'
        f'<div class="in">{detail}{facts(why.facts)}{children}</div></details>'
    )


def _share(weight: float | None) -> str:
    if weight is None:
        return ""
    width = min(abs(weight), 1.0) * _BAR
    shade = "b" if weight >= 0 else "a"
    percent = f"{weight:+.1%}".replace("-", "\u2212")
    return (
        f'<span class="share">{percent}<svg width="{_BAR}" height="9" aria-hidden="true">'
        f'<rect class="{shade}" width="{width:.1f}" height="9" rx="2"/></svg></span>'
    )
