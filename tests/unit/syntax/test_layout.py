"""Layout: what is left as it is, what is refused, and what the cases beside it do not show."""

from __future__ import annotations

import pytest

from aqpolicy.diagnostics import Source
from aqpolicy.errors import PolicyError
from aqpolicy.shipped import shipped_folder
from aqpolicy.syntax.layout import format_text
from aqpolicy.syntax.lexemes import END, read_lexemes

DIRECTIVE = '# aqpolicy: ignore[AQ309] reason="so it is meant" until=2026-12-31'


def laid_out(text: str, width: int = 100) -> str:
    return format_text(Source("policy.aqp", text), width)


def codes(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        laid_out(text)
    return [diagnostic.code for diagnostic in caught.value.diagnostics]


@pytest.mark.parametrize("text", ["", "\n\n", "  \t\n"])
def test_an_empty_text_stays_empty(text: str) -> None:
    assert laid_out(text) == ""


def test_a_text_of_comments_alone_keeps_them() -> None:
    assert laid_out("\n\n# one\n\n\n  # two") == "# one\n\n# two\n"


def test_every_syntax_error_is_told() -> None:
    assert codes("policy a version 1.0.0\nprofile p { all }\nrule r when admit x\n") == ["AQ101", "AQ104"]
    assert codes("policy a version 1.0.0\u202e\n") == ["AQ107"]
    assert codes(f"define d = {'(' * 65}a{')' * 65}\n") == ["AQ106"]
    assert codes("rule r\n") == ["AQ105"]


def test_the_deepest_parentheses_are_laid_out() -> None:
    text = laid_out(f"define d = {'(a and ' * 64}b{')' * 64}\n")
    assert max(map(len, text.splitlines())) <= 100
    assert laid_out(text) == text


def test_a_condition_of_thousands_of_parts_is_laid_out() -> None:
    terms = " and ".join(f"(a{n} or b{n})" for n in range(3000))
    assert laid_out(f"define d = {terms}").count("\n") == 3000


def test_the_parser_is_not_changed_by_reading_lexemes() -> None:
    from aqpolicy.syntax import parse

    source = Source("policy.aqp", "policy a version 1.0.0")
    before = parse(source)
    assert [lexeme.kind for lexeme in read_lexemes(source)] == ["POLICY", "NAME", "VERSION", "SEMVER", END]
    assert parse(source) == before


@pytest.mark.parametrize("opener", ["prove never", "define d ="])
def test_a_directive_goes_on_to_speak_for_the_first_line(opener: str) -> None:
    long = " and ".join(f"attribute_{n} is value" for n in range(8))
    text = laid_out(f"{opener} {long}  {DIRECTIVE}\n")
    assert text.splitlines()[0] == DIRECTIVE
    assert text.splitlines()[1].startswith(opener)
    assert laid_out(text) == text
    assert laid_out(f"{opener} short  {DIRECTIVE}\n") == f"{opener} short  {DIRECTIVE}\n"


def test_a_directive_at_the_last_of_several_lines_stays_there() -> None:
    text = f"prove never a  # first\n  and b  {DIRECTIVE}\n"
    assert laid_out(text).splitlines()[1].endswith(DIRECTIVE)


def test_a_column_does_not_push_a_short_block_off_its_line() -> None:
    long = f"profile {'a' * 60} {{ all 1 }}\n"
    full = "profile p { surface 0.5; structure 0.5; semantic 0.5 }\n"
    assert laid_out(long + full) == long + full


def test_shipped_policies_keep_their_lines() -> None:
    for path in sorted((shipped_folder("policies") / "examples").rglob("*.aqp")):
        text = path.read_text(encoding="utf-8")
        assert laid_out(text).split() == text.split()
        assert laid_out(text).count("\n") == text.count("\n")
