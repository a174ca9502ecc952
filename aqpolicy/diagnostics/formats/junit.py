"""JUnit's XML: a suite for each file, a failed case for each finding, a passed one for a clean file.

Source:
    https://github.com/testmoapp/junitxml, which describes what CI servers read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree as ET

from aqpolicy.diagnostics.codes import CODES
from aqpolicy.diagnostics.diagnostic import Diagnostic, Source
from aqpolicy.diagnostics.render import render
from aqpolicy.diagnostics.words import visible

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that an XML 1.0 document cannot hold, escaped or not."""

_NO_FILE: Final = "aqpolicy"
"""The suite of findings without a place."""


def report(findings: Sequence[Diagnostic], sources: Sequence[Source]) -> str:
    """Return the findings as an XML document."""
    by_file: dict[str, list[Diagnostic]] = {source.name: [] for source in sources}
    for finding in findings:
        by_file.setdefault(finding.labels[0].span.file if finding.labels else _NO_FILE, []).append(finding)
    root = ET.Element("testsuites", name="aqpolicy", tests=_cases(by_file), failures=f"{len(findings)}")
    for file, found in by_file.items():
        root.append(_suite(file, found, sources))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode")


def _cases(by_file: dict[str, list[Diagnostic]]) -> str:
    return f"{sum(max(1, len(found)) for found in by_file.values())}"


def _suite(file: str, found: Sequence[Diagnostic], sources: Sequence[Source]) -> ET.Element:
    cases = [_failure(finding, file, sources) for finding in found]
    cases = cases or [ET.Element("testcase", classname=visible(file), name="no findings")]
    tests, failures = f"{len(cases)}", f"{len(found)}"
    suite = ET.Element("testsuite", name=visible(file), tests=tests, failures=failures, errors="0", skipped="0")
    suite.extend(cases)
    return suite


def _failure(finding: Diagnostic, file: str, sources: Sequence[Source]) -> ET.Element:
    place = f" at {finding.labels[0].span.line}:{finding.labels[0].span.column}" if finding.labels else ""
    name = f"{finding.code} {CODES[finding.code].slug}{place}"
    case = ET.Element("testcase", classname=visible(file), name=name)
    failure = ET.SubElement(case, "failure", type=finding.severity, message=visible(finding.message))
    failure.text = _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", render(finding, sources))
    return case
