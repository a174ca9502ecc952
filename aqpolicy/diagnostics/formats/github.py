"""GitHub's workflow commands: each finding becomes an annotation of the changed line.

Source:
    https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from aqpolicy.diagnostics.codes import CODES
from aqpolicy.diagnostics.diagnostic import Diagnostic, Source
from aqpolicy.diagnostics.place import primary_place, texts_of
from aqpolicy.diagnostics.words import paragraph, visible

_COMMANDS: Final = MappingProxyType({"error": "error", "warning": "warning", "note": "notice"})


def report(findings: Sequence[Diagnostic], sources: Sequence[Source]) -> str:
    """Return one command a line."""
    texts = texts_of(sources)
    return "\n".join(_command(finding, texts) for finding in findings)


def _command(finding: Diagnostic, texts: Mapping[str, str]) -> str:
    properties = {**_place(finding, texts), "title": f"{finding.code} {CODES[finding.code].slug}"}
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{_COMMANDS[finding.severity]} {listed}::{_data(paragraph(finding))}"


def _place(finding: Diagnostic, texts: Mapping[str, str]) -> dict[str, str]:
    place = primary_place(finding, texts)
    if place is None:
        return {}
    found = {"file": visible(place.file), "line": f"{place.line}", "col": f"{place.column}"}
    found["endLine"] = f"{place.end_line}"
    if place.end_line == place.line:  # columns of an annotation over several lines are not accepted
        found["endColumn"] = f"{place.end_column}"
    return found


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
