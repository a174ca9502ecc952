"""All findings as one JSON object, for programs that want everything.

Lines and columns count from 1; `end_line` and `end_column` point behind the last
character. The first of `labels` is the finding's own place; a finding without a place
has null for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from aqpolicy.diagnostics.codes import CODES
from aqpolicy.diagnostics.diagnostic import Diagnostic, Label, Source
from aqpolicy.diagnostics.place import place_of, texts_of

VERSION: Final = 1
"""Version of the layout; it grows when a member changes its meaning or goes away."""

_NOWHERE: Final = dict.fromkeys(("file", "line", "column", "end_line", "end_column"))


def report(findings: Sequence[Diagnostic], sources: Sequence[Source]) -> str:
    """Return the findings and their number as indented JSON."""
    texts = texts_of(sources)
    content = {
        "version": VERSION,
        "findings": [_finding(finding, texts) for finding in findings],
        "summary": {
            "files": len(texts),
            "errors": sum(finding.severity == "error" for finding in findings),
            "warnings": sum(finding.severity == "warning" for finding in findings),
            "notes": sum(finding.severity == "note" for finding in findings),
        },
    }
    return json.dumps(content, indent=2)


def _finding(finding: Diagnostic, texts: Mapping[str, str]) -> dict[str, object]:
    return {
        "code": finding.code,
        "slug": CODES[finding.code].slug,
        "severity": finding.severity,
        "message": finding.message,
        **(_place(finding.labels[0], texts) if finding.labels else _NOWHERE),
        "labels": [{**_place(label, texts), "text": label.text} for label in finding.labels],
        "notes": list(finding.notes),
        "help": list(finding.help),
        "witness": None if finding.witness is None else dict(finding.witness),
    }


def _place(label: Label, texts: Mapping[str, str]) -> dict[str, object]:
    place = place_of(label.span, texts)
    return {
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "end_line": place.end_line,
        "end_column": place.end_column,
    }
