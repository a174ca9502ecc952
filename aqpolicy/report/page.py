"""One self-contained page: no request leaves it, and nothing in it runs that is not named by digest.

It renders what it is given and judges nothing. Every text is escaped.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

from aqpolicy.report.charts import render_bars, render_burn_down
from aqpolicy.report.data import Chapter, Comparison, LogPart, Report, Table
from aqpolicy.report.heatmap import render_heat_map
from aqpolicy.report.markup import facts, measured, table, text
from aqpolicy.report.policy import render_policy
from aqpolicy.report.style import SCRIPT, STYLE
from aqpolicy.report.why import render_trace

Section = tuple[str, str, str]
"""Anchor, heading and body."""


def content_security_policy() -> str:
    """Return the policy of the page: nothing but its own style and script."""
    return (
        f"default-src 'none'; style-src {_source_hash(STYLE)}; script-src {_source_hash(SCRIPT)}; "
        "base-uri 'none'; form-action 'none'"
    )


def render_report(data: Report) -> str:
    """Return the whole page."""
    sections = [section for section in _sections(data) if section[2]]
    links = "".join(f'<li><a href="#{anchor}">{text(heading)}</a></li>' for anchor, heading, _ in sections)
    body = "".join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-h"><h2 id="{anchor}-h">{text(heading)}</h2>{inner}</section>'
        for anchor, heading, inner in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{content_security_policy()}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><meta name="generator" content="aqpolicy">'
        f"<title>{text(data.title)}</title><style>{STYLE}</style></head>\n<body>"
        '<a class="skip" href="#main">Skip to the content</a>'
        f'<header><h1>{text(data.title)}</h1><p class="lead">{text(data.subtitle)}</p></header>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main id="main" tabindex="-1">{body}</main>\n'
        "<footer>Made by aqpolicy. Supporting evidence from one run's signed record; "
        "this page is not signed, the files it was made from are.</footer>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _sections(data: Report) -> list[Section]:
    comparison = _comparison(data.comparison) if data.comparison is not None else ""
    moved = f'<div class="figures">{"".join(render_bars(bars) for bars in data.displacement)}</div>'
    burned = f'<div class="figures">{"".join(render_burn_down(budget) for budget in data.budgets)}</div>'
    return [
        ("summary", "What happened", _story(data.chapters) + facts(data.facts)),
        ("comparison", "Side by side", comparison),
        ("displacement", "What moved the weights", moved if data.displacement else ""),
        (
            "policy",
            "Policy",
            "".join(render_policy(part, opened=at == 0) for at, part in enumerate(data.policies)),
        ),
        ("mass", "What was let in, and where", "".join(render_heat_map(heat) for heat in data.heat_maps)),
        ("budgets", "Budgets", burned if data.budgets else ""),
        (
            "why",
            "Why?",
            "".join(render_trace(view, f"trace-{at}") for at, view in enumerate(data.traces)),
        ),
        ("footprint", "Footprint", table(data.footprint) if data.footprint is not None else ""),
        ("log", "Log", _log(data.log) if data.log is not None else ""),
        ("limits", "Limits of these claims", _limits(data.limits)),
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


def _source_hash(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
