"""The outcome of tests as a document for programs: JSON, or JUnit's XML with a case for every test.

Source:
    https://github.com/testmoapp/junitxml, which describes what CI servers read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree as ET

from aqpolicy.diagnostics import render_all
from aqpolicy.diagnostics.words import visible
from aqpolicy.trial.coverage import RuleCoverage
from aqpolicy.trial.outcome import Outcome
from aqpolicy.trial.suite import Trial

VERSION: Final = 1
"""Version of the JSON's layout; it grows when a member changes its meaning or goes away."""

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def json_document(trials: Sequence[Trial]) -> str:
    """Return every test with what came of it, as indented JSON."""
    words = ("passed", "failed", "undecided")
    content = {
        "version": VERSION,
        "policies": [_policy(trial) for trial in trials],
        "summary": {word: sum(trial.count(word) for trial in trials) for word in words},
    }
    return json.dumps(content, indent=2)


def _policy(trial: Trial) -> dict[str, object]:
    coverage = trial.coverage
    return {
        "file": trial.source.name,
        "errors": [fault.message for fault in trial.faults],
        "tests": [_test(outcome) for outcome in trial.outcomes],
        "coverage": None
        if coverage is None
        else {"percent": coverage.percent, "rules": [_rule(rule) for rule in coverage.rules]},
    }


def _test(outcome: Outcome) -> dict[str, object]:
    return {
        "title": outcome.title,
        "kind": outcome.kind,
        "file": outcome.span.file,
        "line": outcome.span.line,
        "outcome": outcome.word,
        "messages": [text for finding in outcome.findings for text in (finding.message, *finding.notes)],
        "witness": next((dict(found.witness) for found in outcome.findings if found.witness is not None), None),
    }


def _rule(rule: RuleCoverage) -> dict[str, object]:
    return {
        "name": rule.rule,
        "file": rule.span.file,
        "line": rule.span.line,
        "applied": rule.applied,
        "decided": rule.decided,
        "stayed_out": rule.stayed_out,
    }


def junit_document(trials: Sequence[Trial]) -> str:
    """Return every test as a case of a suite for its policy, as an XML document."""
    tests = sum(len(trial.outcomes) for trial in trials)
    failures = sum(trial.count("failed") + trial.count("undecided") for trial in trials)
    errors = sum(len(trial.faults) for trial in trials)
    root = ET.Element("testsuites", name="aqpolicy", tests=f"{tests}", failures=f"{failures}", errors=f"{errors}")
    root.extend(_suite(trial) for trial in trials)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode")


def _suite(trial: Trial) -> ET.Element:
    suite = ET.Element(
        "testsuite",
        name=visible(trial.source.name),
        tests=f"{len(trial.outcomes) + len(trial.faults)}",
        failures=f"{trial.count('failed') + trial.count('undecided')}",
        errors=f"{len(trial.faults)}",
        skipped="0",
    )
    for fault in trial.faults:
        case = ET.SubElement(suite, "testcase", classname=visible(trial.source.name), name=fault.code)
        ET.SubElement(case, "error", message=visible(fault.message)).text = _xml(render_all((fault,), trial.sources))
    suite.extend(_case(outcome, trial) for outcome in trial.outcomes)
    return suite


def _case(outcome: Outcome, trial: Trial) -> ET.Element:
    case = ET.Element("testcase", classname=visible(outcome.span.file), name=visible(outcome.title))
    if outcome.findings:
        message = visible(outcome.findings[0].message)
        failure = ET.SubElement(case, "failure", type=outcome.word, message=message)
        failure.text = _xml(render_all(outcome.findings, trial.sources))
    return case


def _xml(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
