"""Directives in comments: what they silence, what they never silence, and what is said about them."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqpolicy.diagnostics import CODES, Diagnostic, Label, Source, Span
from aqpolicy.lint import Settings, lint
from aqpolicy.lint.comments import comments

TODAY = date(2026, 6, 15)
REASON = 'reason="agreed"'


def on_line(text: str, line: int, code: str = "AQ312", severity: str = "warning") -> Diagnostic:
    start = sum(len(each) + 1 for each in text.split("\n")[: line - 1])
    return Diagnostic(code, severity, "m", (Label(Span("p.aqp", start, start + 1, line, 1)),))


def codes(text: str, *findings: Diagnostic, **levels: str) -> list[str]:
    found = lint(None, Source("p.aqp", text), findings, Settings(levels=levels), TODAY)
    return [each.code for each in found]


# ---- Comments


def test_a_comment_is_found_and_a_number_sign_in_a_text_is_not_one() -> None:
    text = 'a "x # y" # one\n# two\n"# open\n\n  # three \r\nb'
    found = [(each.text, each.span.line, each.span.column, each.target) for each in comments(Source("p", text))]
    assert found == [("# one", 1, 11, 1), ("# two", 2, 1, 3), ("# three", 5, 3, 6)]
    assert [text[each.span.start : each.span.end] for each in comments(Source("p", text))] == [
        "# one",
        "# two",
        "# three",
    ]


@settings(max_examples=200, deadline=None)
@given(st.text('a#" \n', max_size=60))
def test_comments_are_those_of_the_grammar(text: str) -> None:
    # The same rule read from left to right, one character at a time.
    expected, quoted, at = [], False, 0
    while at < len(text):
        if text[at] == "#" and not quoted:
            end = text.find("\n", at)
            expected.append(at)
            at = end if end >= 0 else len(text)
            continue
        quoted = (quoted != (text[at] == '"')) and text[at] != "\n"
        at += 1
    assert [each.span.start for each in comments(Source("p", text))] == expected


# ---- What a directive silences


def test_on_its_own_line() -> None:
    text = f"rule a # aqpolicy: ignore[AQ312] {REASON}"
    assert codes(text, on_line(text, 1)) == []


def test_on_the_next_line_with_words_when_it_stands_alone() -> None:
    text = f"# aqpolicy: ignore[AQ312] {REASON}\n\n  # why\nrule a\nrule b"
    assert codes(text, on_line(text, 4)) == []
    assert codes(text, on_line(text, 5)) == ["AQ405", "AQ312"]


def test_several_codes_and_a_note() -> None:
    text = f"x # aqpolicy:ignore[AQ312 ,AQ402] until=2026-06-15 {REASON}"
    assert codes(text, on_line(text, 1), on_line(text, 1, "AQ402", "note")) == []
    assert codes(text, on_line(text, 1), on_line(text, 1, "AQ313")) == ["AQ313", "AQ405"]


def test_another_file_is_not_silenced() -> None:
    text = f"x # aqpolicy: ignore[AQ312] {REASON}"
    elsewhere = Diagnostic("AQ312", "warning", "m", (Label(Span("other.aqp", 0, 1, 1, 1)),))
    assert codes(text, elsewhere) == ["AQ405", "AQ312"]


def test_only_the_primary_place_counts() -> None:
    text = f"x\ny # aqpolicy: ignore[AQ312] {REASON}"
    first, second = on_line(text, 1), on_line(text, 2)
    both = Diagnostic("AQ312", "warning", "m", (*first.labels, *second.labels))
    assert codes(text, both) == ["AQ312", "AQ405"]


# ---- What it never silences


@pytest.mark.parametrize("code", ["AQ301", "AQ312", "AQ316", "AQ403"])
def test_an_error_stands_and_the_directive_is_said_to_be_in_vain(code: str) -> None:
    text = f"x # aqpolicy: ignore[{code}] {REASON}"
    found = lint(None, Source("p.aqp", text), (on_line(text, 1, code, "error"),), Settings(), TODAY)
    assert [each.code for each in found] == [code, "AQ405"]
    assert found[1].notes == (f"the {code} here is an error, and errors are never silenced",)


def test_a_level_raised_to_error_is_an_error() -> None:
    text = f"x # aqpolicy: ignore[AQ312] {REASON}"
    assert codes(text, on_line(text, 1), AQ312="error") == ["AQ312", "AQ405"]


FINDINGS = st.builds(
    lambda code, severity, line: Diagnostic(code, severity, "m", (Label(Span("p.aqp", 0, 1, line, 1)),)),
    st.sampled_from(sorted(CODES)),
    st.sampled_from(["error", "warning", "note"]),
    st.integers(1, 4),
)
LINES = st.builds(
    lambda words, named, until: f"{words}# aqpolicy: ignore[{', '.join(named)}] {REASON}{until}",
    st.sampled_from(["", "x "]),
    st.lists(st.sampled_from(sorted(CODES)), min_size=1, max_size=30),
    st.sampled_from(["", " until=2026-01-01", " until=2027-01-01", " until=x"]),
)
LEVELS = st.dictionaries(st.sampled_from(sorted(CODES)), st.sampled_from(["error", "warning", "note", "ignore"]))


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=4), st.lists(FINDINGS, max_size=6), LEVELS)
def test_no_directive_and_no_level_ever_hides_an_error(
    lines: list[str], findings: list[Diagnostic], levels: dict[str, str]
) -> None:
    found = lint(None, Source("p.aqp", "\n".join(lines)), findings, Settings(levels=levels), TODAY)
    for error in findings:
        if error.severity == "error" and error.code != "AQ306":
            assert error in found


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80), st.lists(FINDINGS, max_size=4))
def test_a_text_that_says_nothing_to_aqpolicy_changes_nothing(text: str, findings: list[Diagnostic]) -> None:
    found = lint(None, Source("p.aqp", text.replace("aqpolicy", "")), findings, Settings(), TODAY)
    assert sorted(map(repr, found)) == sorted(map(repr, findings))


# ---- What is said about directives


@pytest.mark.parametrize(
    ("comment", "words"),
    [
        ("# aqpolicy: ignore[AQ312]", "gives no reason"),
        ('# aqpolicy: ignore[AQ312] reason="  "', "gives no reason"),
        ("# aqpolicy: ignore[AQ312] until=2026-12-31", "gives no reason"),
        (f"# aqpolicy: ignore[] {REASON}", "names no code"),
        (f"# aqpolicy: ignore {REASON}", "not a directive"),
        (f"# aqpolicy: disable[AQ312] {REASON}", "not a directive"),
        ("# aqpolicy:", "not a directive"),
        (f"# aqpolicy: ignore[AQ3122] {REASON}", "`AQ3122` is not the code of a finding"),
        (f"# aqpolicy: ignore[AQ312] {REASON} until=2026-13-01", "`2026-13-01` is not a date"),
        (f"# aqpolicy: ignore[AQ312] {REASON} until=20261231", "`20261231` is not a date"),
        (f"# aqpolicy: ignore[AQ312] {REASON} until=", "`` is not a date"),
        (f"# aqpolicy: ignore[AQ312] {REASON} {REASON}", "`reason` stands twice"),
        (f"# aqpolicy: ignore[AQ312] {REASON} please", "`please` is not understood"),
        ("# aqpolicy: ignore[AQ312] reason='x'", "is not understood"),
    ],
)
def test_a_malformed_directive_is_an_error_and_silences_nothing(comment: str, words: str) -> None:
    text = f"x {comment}"
    found = lint(None, Source("p.aqp", text), (on_line(text, 1),), Settings(), TODAY)
    assert [(each.code, each.severity) for each in found] == [("AQ312", "warning"), ("AQ403", "error")]
    assert words in found[1].message
    assert found[1].labels[0].span.line == 1


def test_an_unknown_code_is_underlined_itself() -> None:
    text = f"x # aqpolicy: ignore[AQ312, AQ3122] {REASON}"
    (found,) = lint(None, Source("p.aqp", text), (), Settings(), TODAY)
    span = found.labels[0].span
    assert text[span.start : span.end] == "AQ3122"
    assert span.column == span.start + 1
    assert found.help[0] == "did you mean `AQ312`?"


def test_an_expired_directive_is_a_warning_and_silences_nothing() -> None:
    text = f"x # aqpolicy: ignore[AQ312] {REASON} until=2026-06-14"
    assert codes(text, on_line(text, 1)) == ["AQ312", "AQ404"]
    assert codes(text) == ["AQ404"]


def test_an_unused_code_is_a_warning_for_each() -> None:
    text = f"x # aqpolicy: ignore[AQ312, AQ313] {REASON}"
    assert codes(text) == ["AQ405", "AQ405"]
    found = lint(None, Source("p.aqp", text), (on_line(text, 1),), Settings(), TODAY)
    assert [each.message for each in found] == ["`ignore[AQ313]` silences nothing"]


@pytest.mark.parametrize("code", ["AQ101", "AQ201", "AQ300"])
def test_nothing_is_called_unused_where_questions_were_not_answered(code: str) -> None:
    text = f"x # aqpolicy: ignore[AQ312] {REASON}"
    assert codes(text, on_line(text, 1, code, "error")) == [code]


def test_the_remarks_on_directives_have_levels_and_cannot_be_silenced() -> None:
    text = f"x # aqpolicy: ignore[AQ405] {REASON}"
    assert codes(text) == ["AQ405"]
    assert codes(text, AQ405="ignore") == []


def test_many_directives_above_one_line_are_read_in_one_pass() -> None:
    text = f"# aqpolicy: ignore[AQ312] {REASON}\n" * 20_000 + "rule"
    assert {each.target for each in comments(Source("p.aqp", text))} == {20_001}
    assert codes(text, on_line(text, 20_001)) == []
