"""A policy's text with line numbers, and the checker's findings beside it."""

from __future__ import annotations

import re
from typing import Final

from aqpolicy.diagnostics import Diagnostic
from aqpolicy.report.data import PolicyPart
from aqpolicy.report.markup import facts, text

_TOKEN: Final = re.compile(r'(?P<em>#.*)|(?P<q>"[^"]*")|(?P<b>\b[a-z_]+\b)|(?P<rest>.)')
_KEYWORDS: Final = re.compile(
    r"policy|version|extends|taxonomy|attribute|depth|from|input|output|modules|define|profile|rule|when|admit|deny"
    r"|limit|share|norm|because|overrides|budget|for|on|surprisal|exposures|at|most|per|exhaust|otherwise|prove|never"
    r"|combine|grants|by|min"
)


_HIT: Final = ' class="hit"'


def render_policy(part: PolicyPart, *, opened: bool) -> str:
    """Return one policy, its verdict, findings and source."""
    hits = {label.span.line for finding in part.findings for label in finding.labels}
    tone = "error" if any(finding.severity == "error" for finding in part.findings) else "ok"
    note = f"<p>{text(part.note)}</p>" if part.note else ""
    found = "".join(_finding(finding) for finding in part.findings)
    return (
        f'<article class="card"><h3>{text(part.title)} <span class="tag {tone}">{text(part.verdict)}</span></h3>{note}'
        f"{found}<details{' open' if opened else ''}><summary>Source, {len(part.text.splitlines())} lines</summary>"
        f"{_source(part.text, hits)}</details></article>"
    )


def _finding(finding: Diagnostic) -> str:
    places = "; ".join(f"line {label.span.line}{f': {label.text}' if label.text else ''}" for label in finding.labels)
    more = "".join(f"<p>{text(note)}</p>" for note in finding.notes)
    advice = "".join(f"<p><b>What to do:</b> {text(line)}</p>" for line in finding.help)
    witness = ""
    if finding.witness:
        witness = f"<p>Witness, an observation that shows it:</p>{facts(finding.witness.items())}"
    return (
        f'<div class="finding {finding.severity}"><p><span class="tag {finding.severity}">{text(finding.severity)} '
        f"{text(finding.code)}</span> <b>{text(finding.message)}</b></p>"
        f'<p class="note">{text(places)}</p>{more}{witness}{advice}</div>'
    )


def _source(source: str, hits: set[int]) -> str:
    lines = "".join(
        f"<span{_HIT if at in hits else ''}><i>{at}</i>{_colour(line) or ' '}</span>"
        for at, line in enumerate(source.splitlines(), start=1)
    )
    return f'<pre class="source" tabindex="0">{lines}</pre>'


def _colour(line: str) -> str:
    """Return a line with comments, strings and keywords marked; it knows no grammar."""
    parts = []
    for match in _TOKEN.finditer(line):
        kind, body = match.lastgroup, text(match[0])
        plain = kind == "rest" or (kind == "b" and not _KEYWORDS.fullmatch(match[0]))
        parts.append(body if plain else f"<{kind}>{body}</{kind}>")
    return "".join(parts)
