"""The layout of every construct, word for word: a case is a file with a text, a line, and the text expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from aqpolicy.diagnostics import Source
from aqpolicy.syntax.layout import WIDTH, format_text
from aqpolicy.syntax.lexemes import END, read_lexemes
from aqpolicy.syntax.tables import policy_parser

CASES = sorted((Path(__file__).parent / "layout").glob("*.golden"))
LINE = "\n======== expected ========\n"


def parts(case: Path) -> list[str]:
    return case.read_bytes().decode("utf-8").split(LINE)  # bytes: one case has the line ends of another system


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_texts_are_laid_out_as_expected(case: Path) -> None:
    text, expected = parts(case)
    number = case.stem.rpartition("-")[2]
    width = int(number) if number.isdecimal() else WIDTH
    assert format_text(Source("policy.aqp", text), width) == expected
    assert format_text(Source("policy.aqp", expected), width) == expected


def test_every_word_of_the_grammar_has_a_case() -> None:
    kinds = {lexeme.kind for case in CASES for lexeme in read_lexemes(Source("policy.aqp", parts(case)[0]))}
    ignored = {"COMMENT", "SPACE"}
    assert kinds - {END} == {terminal.name for terminal in policy_parser().terminals} - ignored
