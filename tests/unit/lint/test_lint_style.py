"""Remarks on policies that are right, and the order in which everything is reported."""

from __future__ import annotations

from datetime import date

import pytest
from support.policy_text import RADIOLOGY, SMALL

from aqpolicy.diagnostics import Diagnostic, Label, Source, Span
from aqpolicy.lint import Settings, lint
from aqpolicy.syntax import parse

TODAY = date(2026, 6, 15)
RULE = 'rule r "Because" when consensus > 0.5 admit full\n'
CASE = 'test "half is not enough" { given consensus is 0.5 expect deny }\n'
TESTED = SMALL + CASE


def remarks(text: str, *findings: Diagnostic, **levels: str) -> tuple[Diagnostic, ...]:
    source = Source("p.aqp", text)
    return lint(parse(source), source, findings, Settings(levels=levels), TODAY)


def messages(text: str) -> list[str]:
    return [each.message for each in remarks(text)]


def test_a_profile_and_a_definition_that_nothing_names_are_unused() -> None:
    text = TESTED + RULE + "define sure = consensus > 0.9\n"
    found = remarks(text)
    assert [(each.code, each.severity, each.message) for each in found] == [
        ("AQ401", "warning", "profile `weak` is not used"),
        ("AQ401", "warning", "definition `sure` is not used"),
    ]
    assert [text[each.labels[0].span.start : each.labels[0].span.end] for each in found] == ["weak", "sure"]


@pytest.mark.parametrize(
    "use",
    [
        'rule s "t" when sure admit weak',
        'rule s "t" when not (sure or consensus > 0.1) admit weak',
        'define other = sure\nrule s "t" when other admit weak',
        'rule s "t" when anything admit weak\nprove never sure and admitted(head) > 0',
        'rule s "t" when anything admit weak\nbudget b for sure on all surprisal at most 1 nat per run on exhaust deny',
    ],
)
def test_a_name_used_anywhere_is_used(use: str) -> None:
    assert messages(f"{TESTED}{RULE}define sure = consensus > 0.9\n{use}\n") == []


def test_a_file_without_a_policy_statement_lends_its_names_to_others() -> None:
    assert messages("profile full { all 1 }\ndefine sure = consensus > 0.9\n") == []


def test_a_grant_without_a_title_is_remarked_on_and_a_restriction_is_not() -> None:
    found = remarks(TESTED + RULE + "rule s when anything admit weak\nrule d when anything deny head\n")
    assert [(each.code, each.severity, each.message) for each in found] == [
        ("AQ402", "note", "rule `s` admits without a title")
    ]
    assert found[0].help == ('write it behind the name: `rule s "..."`',)


def test_a_policy_without_a_test_case_is_remarked_on_and_shared_vocabulary_is_not() -> None:
    text = SMALL + RULE + 'rule s "t" when anything admit weak\n'
    (found,) = remarks(text)
    assert (found.code, found.severity, found.message) == ("AQ406", "note", "policy `test.small` has no test case")
    assert text[found.labels[0].span.start : found.labels[0].span.end] == "test.small"
    assert remarks(text + CASE) == ()
    assert messages("profile full { all 1 }\n") == []


def test_a_policy_that_uses_every_construct_has_one_remark() -> None:
    assert messages(RADIOLOGY + CASE) == ["rule `crowd_hint` admits without a title"]


def test_a_directive_silences_a_remark_and_a_level_changes_it() -> None:
    text = TESTED + RULE + "define sure = anything\nprofile more { all 1 }\nrule s when sure admit weak"
    silenced = text.replace("profile more", '# aqpolicy: ignore[AQ401] reason="for the next release"\nprofile more')
    assert [each.code for each in remarks(silenced)] == ["AQ402"]
    levels = {"AQ401": "ignore", "AQ402": "error"}
    assert [(each.code, each.severity) for each in remarks(text, **levels)] == [("AQ402", "error")]


def test_a_text_without_a_tree_has_no_remarks_but_its_directives_are_read() -> None:
    source = Source("p.aqp", "rule # aqpolicy: ignore[AQ401]")
    assert [each.code for each in lint(None, source, (), Settings(), TODAY)] == ["AQ403"]


def test_findings_are_told_by_place_and_those_of_other_files_last() -> None:
    text = TESTED + RULE + "rule s when anything admit weak\n"
    far = Diagnostic("AQ301", "error", "far", (Label(Span("a.aqp", 0, 1, 1, 1)),))
    near = Diagnostic("AQ302", "error", "near", (Label(Span("p.aqp", 0, 1, 1, 1)),))
    nowhere = Diagnostic("AQ320", "error", "nowhere")
    assert [each.code for each in remarks(text, far, near, nowhere)] == ["AQ320", "AQ302", "AQ402", "AQ301"]


def test_an_error_of_a_milder_code_is_not_lowered() -> None:
    strict = Diagnostic("AQ316", "error", "the policy says `complete`", (Label(Span("p.aqp", 0, 1, 1, 1)),))
    shadowed = Diagnostic("AQ306", "error", "shadowed", (Label(Span("p.aqp", 0, 1, 1, 1)),))
    found = remarks(TESTED + RULE, strict, shadowed, AQ316="ignore", AQ306="note", AQ401="ignore")
    assert [(each.code, each.severity) for each in found] == [("AQ306", "note"), ("AQ316", "error")]
