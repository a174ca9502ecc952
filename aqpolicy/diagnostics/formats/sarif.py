"""SARIF 2.1.0, the interchange format of static analysis, as code scanning services read it.

One run with the rules that have results. Regions are exact; columns count Unicode code
points. `properties.witness` holds the observation that replays in the evaluator.

Source:
    https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from aqpolicy import __version__
from aqpolicy.diagnostics.codes import CODES
from aqpolicy.diagnostics.diagnostic import Diagnostic, Label, Source
from aqpolicy.diagnostics.fingerprint import fingerprints
from aqpolicy.diagnostics.levels import default_severity
from aqpolicy.diagnostics.place import place_of, texts_of
from aqpolicy.diagnostics.words import paragraph, visible

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def report(findings: Sequence[Diagnostic], sources: Sequence[Source]) -> str:
    """Return the findings as an indented SARIF log."""
    texts = texts_of(sources)
    codes = sorted({finding.code for finding in findings})
    prints = fingerprints(findings)
    run = {
        "tool": {"driver": {"name": "aqpolicy", "version": __version__, "rules": [_rule(code) for code in codes]}},
        "columnKind": "unicodeCodePoints",
        "artifacts": [{"location": {"uri": _uri(name)}} for name in texts],
        "results": [
            {
                "ruleIndex": codes.index(finding.code),
                **_result(finding, texts),
                "partialFingerprints": {"aqpolicy/v1": each},
            }
            for finding, each in zip(findings, prints, strict=True)
        ],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(code: str) -> dict[str, object]:
    entry = CODES[code]
    page = f"docs/rules/{code}-{entry.slug}.md"
    return {
        "id": code,
        "name": entry.slug,
        "shortDescription": {"text": entry.title},
        # Not `helpUri`, which must be absolute: the page lies beside the code and in every installation.
        "help": {"text": f"run `aqpolicy explain {code}`, or read {page}"},
        "defaultConfiguration": {"level": default_severity(code)},
    }


def _result(finding: Diagnostic, texts: Mapping[str, str]) -> dict[str, object]:
    others = enumerate(finding.labels[1:], start=1)
    return {
        "ruleId": finding.code,
        "level": finding.severity,
        "message": {"text": paragraph(finding)},
        "locations": [_location(label, texts) for label in finding.labels[:1]],
        "relatedLocations": [{"id": n, **_location(label, texts)} for n, label in others],
        "properties": {"witness": dict(finding.witness)} if finding.witness else {},
    }


def _location(label: Label, texts: Mapping[str, str]) -> dict[str, object]:
    place = place_of(label.span, texts)
    region = {
        "startLine": place.line,
        "startColumn": place.column,
        "endLine": place.end_line,
        "endColumn": place.end_column,
    }
    physical = {"artifactLocation": {"uri": _uri(place.file)}, "region": region}
    message = {"message": {"text": visible(label.text)}} if label.text else {}
    return {"physicalLocation": physical, **message}


def _uri(file: str) -> str:
    """Return a file's name as a URI, relative if the name is."""
    path = quote(file.replace("\\", "/").encode("utf-8", "surrogateescape"), safe="/")
    return f"file://{path}" if path.startswith("/") else path.removeprefix("./")
