"""GitLab's Code Quality report, shown beside a merge request.

Source:
    https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from aqpolicy.diagnostics.codes import CODES
from aqpolicy.diagnostics.diagnostic import Diagnostic, Source
from aqpolicy.diagnostics.fingerprint import fingerprints
from aqpolicy.diagnostics.place import Place, primary_place, texts_of
from aqpolicy.diagnostics.words import paragraph

_SEVERITIES: Final = MappingProxyType({"error": "critical", "warning": "minor", "note": "info"})


def report(findings: Sequence[Diagnostic], sources: Sequence[Source]) -> str:
    """Return the report as an indented JSON array."""
    texts = texts_of(sources)
    # The format asks for a place; what has none stands at the start of the first file.
    start = Place(sources[0].name if sources else ".", 1, 1, 1, 1)
    entries = [
        _entry(finding, print_, primary_place(finding, texts) or start)
        for finding, print_ in zip(findings, fingerprints(findings), strict=True)
    ]
    return json.dumps(entries, indent=2)


def _entry(finding: Diagnostic, print_: str, place: Place) -> Mapping[str, object]:
    return {
        "description": paragraph(finding),
        "check_name": f"{finding.code} {CODES[finding.code].slug}",
        "fingerprint": print_,
        "severity": _SEVERITIES[finding.severity],
        "location": {
            # Relative to the repository, without `./`.
            "path": posixpath.normpath(place.file.replace("\\", "/")),
            "lines": {"begin": place.line, "end": place.end_line},
        },
    }
