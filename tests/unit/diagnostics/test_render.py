"""Drawing, suggesting, and the registry of codes."""

from __future__ import annotations

import io
import re

import pytest

from aqpolicy.diagnostics import (
    CODES,
    Diagnostic,
    Label,
    Source,
    Span,
    closest,
    did_you_mean,
    render,
    render_all,
    wants_color,
)
from aqpolicy.diagnostics.suggest import edit_distance

TEXT = "rule one\n  when a\n  admit full\nrule two\n"
SOURCE = Source("p.aqp", TEXT)


def at(part: str, file: str = "p.aqp") -> Span:
    start = TEXT.index(part)
    line_start = TEXT.rfind("\n", 0, start) + 1
    return Span(file, start, start + len(part), TEXT.count("\n", 0, start) + 1, start - line_start + 1)


def test_all_places_stand_in_one_message() -> None:
    labels = (Label(at("two"), "here"), Label(at("one"), "and here"))
    witness = {"authority": "crowd", "consensus": "0.5"}
    drawn = render(Diagnostic("AQ301", "error", "they differ", labels, ("a note",), ("do this",), witness), SOURCE)
    assert drawn == (
        "error[AQ301]: they differ\n"
        " --> p.aqp:4:6\n"
        "  |\n"
        "1 | rule one\n"
        "  |      --- and here\n"
        "...\n"
        "4 | rule two\n"
        "  |      ^^^ here\n"
        "  |\n"
        "  = witness: authority = crowd, consensus = 0.5\n"
        "  = note: a note\n"
        "  = help: do this"
    )


def test_a_label_over_several_lines_underlines_each_and_speaks_once() -> None:
    drawn = render(Diagnostic("AQ308", "error", "m", (Label(at("one\n  when a\n  admit"), "this"),)), SOURCE)
    underlines = [line for line in drawn.split("\n") if "^" in line]
    assert [re.sub(r"[^^a-z]", "", line) for line in underlines] == ["^^^", "^^^^^^", "^^^^^this"]


def test_a_long_label_is_cut_and_says_so() -> None:
    text = "\n".join(f"line {n}" for n in range(9))
    drawn = render(
        Diagnostic("AQ308", "error", "m", (Label(Span("p", 0, len(text), 1, 1), "this"),)), Source("p", text)
    )
    assert "this (and 5 more lines)" in drawn


def test_a_place_in_another_file_is_named() -> None:
    labels = (Label(at("two"), "here"), Label(at("one", "other.aqp"), "elsewhere"))
    assert "::: other.aqp:1:6 elsewhere" in render(Diagnostic("AQ301", "error", "m", labels), SOURCE)


def test_every_file_at_hand_is_drawn_with_its_lines() -> None:
    other = Source("lib/other.aqp", "# shared\n\ndefine a = anything\n")
    far = Label(Span("lib/other.aqp", 10, 18, 3, 1), "defined here")
    labels = (Label(at("two"), "here"), far, Label(at("one", "third.aqp"), "no text of this"), Label(at("one"), "too"))
    drawn = render(Diagnostic("AQ301", "error", "m", labels, ("a note",)), [SOURCE, other])
    assert drawn == (
        "error[AQ301]: m\n"
        " --> p.aqp:4:6\n"
        "  |\n"
        "1 | rule one\n"
        "  |      --- too\n"
        "...\n"
        "4 | rule two\n"
        "  |      ^^^ here\n"
        "  |\n"
        " ::: lib/other.aqp:3:1\n"
        "  |\n"
        "3 | define a = anything\n"
        "  | -------- defined here\n"
        " ::: third.aqp:1:6 no text of this\n"
        "  |\n"
        "  = note: a note"
    )


def test_the_primary_place_may_be_in_any_file() -> None:
    other = Source("other.aqp", TEXT)
    drawn = render(Diagnostic("AQ301", "error", "m", (Label(at("two", "other.aqp"), "here"),)), (SOURCE, other))
    assert " --> other.aqp:4:6\n" in drawn
    assert "4 | rule two\n  |      ^^^ here" in drawn


def test_one_source_and_several_of_one_are_drawn_alike() -> None:
    diagnostics = [Diagnostic("AQ301", "error", "m", (Label(at("two"), "here"),))] * 2
    drawn = render_all(diagnostics, SOURCE)
    assert drawn == render_all(diagnostics, iter([SOURCE])) == render_all(diagnostics, {SOURCE.name: SOURCE})
    assert render_all(diagnostics, SOURCE).count("error[AQ301]") == 2


def test_a_diagnostic_without_a_place_is_one_line() -> None:
    assert render(Diagnostic("AQ320", "warning", "no place"), SOURCE) == "warning[AQ320]: no place"


def test_columns_are_right_behind_tabs_and_wide_gutters() -> None:
    text = "\n" * 99 + "\trule x"
    span = Span("p", 105, 106, 100, 7)
    drawn = render(Diagnostic("AQ101", "error", "m", (Label(span, "x"),)), Source("p", text)).split("\n")
    assert drawn[-1].index("^") == drawn[-2].index("x")


def test_a_span_beyond_the_text_is_survived() -> None:
    for span in (Span("p.aqp", 900, 910, 77, 3), Span("p.aqp", len(TEXT), len(TEXT), 5, 1)):
        assert "AQ105" in render(Diagnostic("AQ105", "error", "m", (Label(span, "gone"),)), SOURCE)


def test_colour_only_adds_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    diagnostic = Diagnostic("AQ101", "error", "m", (Label(at("two"), "here"),), ("n",), ("h",))
    colored = render(diagnostic, SOURCE, color=True)
    assert "\x1b[1;31m" in colored
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == render(diagnostic, SOURCE)


def test_no_color_in_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in render(Diagnostic("AQ101", "error", "m", (Label(at("two")),)), SOURCE, color=True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "expected"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_is_for_terminals(stream: io.StringIO, environment: dict[str, str], expected: bool) -> None:
    assert wants_color(stream, environment) is expected


def test_text_of_a_policy_cannot_steer_the_terminal() -> None:
    source = Source("p\x1b[2J.aqp", "rule \x1b]0;owned\x07 x\n")
    span = Span(source.name, 5, 6, 1, 6)
    drawn = render(Diagnostic("AQ107", "error", "bad \x1b[31m", (Label(span, "\x9b1m"),), ("\u202e",)), source)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", drawn)


@pytest.mark.parametrize(
    ("left", "right", "distance"),
    [("", "", 0), ("a", "", 1), ("crwd", "crowd", 1), ("amdit", "admit", 1), ("kitten", "sitting", 3), ("ab", "ba", 1)],
)
def test_edit_distance(left: str, right: str, distance: int) -> None:
    assert edit_distance(left, right) == edit_distance(right, left) == distance


def test_the_closest_name_is_found_and_a_far_one_is_not() -> None:
    assert closest("consenus", ["consensus", "census", "judgments"]) == "consensus"
    assert closest("consensus", ["judgments"]) is None
    assert closest("x" * 100, ["x" * 100]) is None
    assert did_you_mean("crwd", ["crowd"]) == ("did you mean `crowd`?",)
    assert did_you_mean("zzzz", ["crowd"]) == ()


def test_ties_do_not_depend_on_the_order_of_candidates() -> None:
    assert closest("ab", ["ac", "aa"]) == closest("ab", ["aa", "ac"]) == "aa"


def test_codes_are_well_formed_and_distinct() -> None:
    assert all(re.fullmatch(r"AQ[1-9]\d\d", number) for number in CODES)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code.slug) for code in CODES.values())
    assert len({code.slug for code in CODES.values()}) == len(CODES)
