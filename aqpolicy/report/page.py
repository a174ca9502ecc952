"""One self-contained page: no request leaves it, and nothing in it runs that is not named by digest.

It renders what it is given and judges nothing. Every text is escaped.
"""

from __future__ import annotations

from aqpolicy.report.charts import render_bars, render_burn_down
from aqpolicy.report.data import Chapter, Comparison, LogPart, Report, Table
from aqpolicy.report.frame import Section, render_page, security_policy
from aqpolicy.report.heatmap import render_heat_map
from aqpolicy.report.markup import facts, measured, table, text
from aqpolicy.report.policy import render_policy
from aqpolicy.report.style import SCRIPT, STYLE
from aqpolicy.report.why import render_trace

_FOOTER = (
    "Made by aqpolicy. Supporting evidence from one run's signed record; "
    "this page is not signed, the files it was made from are."
)


def content_security_policy() -> str:
    """Return the policy of the page: nothing but its own style and script."""
    return security_policy(STYLE, SCRIPT)


def render_report(data: Report) -> str:
    """Return the whole page."""
    return render_page(data.title, data.subtitle, _sections(data), _FOOTER, style=STYLE, script=SCRIPT)


def _sections(data: Report) -> list[Section]:
    comparison = _comparison(data.comparison) if data.comparison is not None else ""
    moved = f'<div class="figures">{"".join(render_bars(bars) for bars in data.displacement)}</div>'
    burned = f'<div class="figures">{"".join(render_burn_down(budget) for budget in data.budgets)}</div>'
    return [
        Section("summary", "What happened", _story(data.chapters) + facts(data.facts)),
        Section("comparison", "Side by side", comparison),
        Section("displacement", "What moved the weights", moved if data.displacement else ""),
        Section(
            "policy", "Policy", "".join(render_policy(one, opened=at == 0) for at, one in enumerate(data.policies))
        ),
        Section("mass", "What was let in, and where", "".join(map(render_heat_map, data.heat_maps))),
        Section("budgets", "Budgets", burned if data.budgets else ""),
        Section("why", "Why?", "".join(render_trace(view, f"trace-{at}") for at, view in enumerate(data.traces))),
        Section("footprint", "Footprint", table(data.footprint) if data.footprint is not None else ""),
        Section("log", "Log", _log(data.log) if data.log is not None else ""),
        Section("limits", "Limits of these claims", _limits(data.limits)),
    ]


def _story(chapters: tuple[Chapter, ...]) -> str:
    items = "".join(
        f"<li><b>{text(chapter.title)}</b>{_origin(chapter)}<br>{text(chapter.text)}</li>" for chapter in chapters
    )
    return f'<ol class="story">{items}</ol>' if items else ""


def _origin(chapter: Chapter) -> str:
    return f' <span class="tag {text(chapter.origin)}">{text(chapter.origin)}</span>' if chapter.origin else ""


def _comparison(data: Comparison) -> str:
    rows = tuple((name, *(measured(value) for value in values)) for name, values in data.rows)
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in data.notes)
    return table(Table(data.caption, ("", *data.metrics), rows)) + notes


def _log(log: LogPart) -> str:
    tampering = f"<h3>One byte of a copy was flipped</h3><p>{text(log.tampering)}</p>" if log.tampering else ""
    return (
        f'{facts(log.facts)}<h3>Signed checkpoint</h3><pre class="card wrap" tabindex="0">{text(log.checkpoint)}</pre>'
        f"{tampering}"
    )


def _limits(limits: tuple[str, ...]) -> str:
    return f"<ul>{''.join(f'<li>{text(limit)}</li>' for limit in limits)}</ul>" if limits else ""
