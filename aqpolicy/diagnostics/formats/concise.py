"""One line for each finding: `file:line:column: severity[CODE] message`."""

from __future__ import annotations

from collections.abc import Sequence

from aqpolicy.diagnostics.diagnostic import Diagnostic, Source
from aqpolicy.diagnostics.words import visible


def report(findings: Sequence[Diagnostic], _sources: Sequence[Source] = ()) -> str:
    """Return a line for each finding."""
    return "\n".join(_line(finding) for finding in findings)


def _line(finding: Diagnostic) -> str:
    said = f"{finding.severity}[{finding.code}] {visible(finding.message)}"
    if not finding.labels:
        return said
    span = finding.labels[0].span
    return f"{visible(span.file)}:{span.line}:{span.column}: {said}"
