"""Laws of the layout that hold for every policy text, however it was written."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aqpolicy.diagnostics import Source, Span
from aqpolicy.syntax import parse
from aqpolicy.syntax.layout import format_text
from aqpolicy.syntax.lexemes import read_lexemes
from aqpolicy.testing import policy_texts

MODEST = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "layout").glob("*.golden"))
WRITTEN = [case.read_text(encoding="utf-8").partition("\n======== expected")[0] for case in GOLDEN]
GAPS = (" ",) * 12 + ("\n", "\n  ", "\t", "\r\n", "\n\n\n", "  #@", " #@", "\n#@", "\n\n   #@", "\n #@\n\n")
CODE = re.compile(r'(?:"[^"\n]*"|[^"#])*')


def texts() -> st.SearchStrategy[str]:
    return st.one_of(policy_texts(), st.sampled_from(WRITTEN))


def messed_up(text: str, random: Random) -> str:
    """Return the tokens of a text with other spaces between them, and comments anywhere."""
    gaps = GAPS if random.random() < 0.7 else (" ",)
    parts = []
    for lexeme in read_lexemes(Source("drawn.aqp", text)):
        gap = random.choice(gaps)
        parts += [gap.replace("@", f" note {len(parts)}\n"), lexeme.text]
    return "".join(parts)


def laid_out(text: str, width: int = 100) -> str:
    return format_text(Source("drawn.aqp", text), width)


def without_spans(node: Any) -> Any:
    if isinstance(node, tuple):
        return tuple(map(without_spans, node))
    if is_dataclass(node):
        inside = {field.name: getattr(node, field.name) for field in fields(node)}
        return (type(node), *(without_spans(value) for value in inside.values() if not isinstance(value, Span)))
    return node


def comments(text: str) -> list[str]:
    """Return the comments of a text; they stand behind what is code on their lines."""
    behind = (line[len(CODE.match(line).group()) :].rstrip() for line in text.split("\n"))  # type: ignore[union-attr]  # it matches all
    return [comment for comment in behind if comment]


@MODEST
@given(texts(), st.randoms(use_true_random=False), st.integers(40, 120))
def test_what_a_text_says_stays(text: str, random: Random, width: int) -> None:
    messy = messed_up(text, random)
    formatted = laid_out(messy, width)
    assert without_spans(parse(Source("drawn.aqp", formatted))) == without_spans(parse(Source("drawn.aqp", text)))
    assert comments(formatted) == comments(messy)


@MODEST
@given(texts(), st.randoms(use_true_random=False), st.integers(40, 120))
def test_laying_out_twice_changes_nothing_more(text: str, random: Random, width: int) -> None:
    formatted = laid_out(messed_up(text, random), width)
    assert laid_out(formatted, width) == formatted


@MODEST
@given(texts(), st.randoms(use_true_random=False), st.integers(40, 120))
def test_lines_are_tidy(text: str, random: Random, width: int) -> None:
    formatted = laid_out(messed_up(text, random), width)
    lines = formatted.split("\n")
    assert lines.pop() == ""
    assert [line for line in lines if line != line.rstrip()] == []
    assert "\n\n\n" not in f"\n{formatted}\n"
    code = (CODE.match(line).group().rstrip() for line in lines)  # type: ignore[union-attr]  # it matches all
    assert [line for line in code if len(line) > width and len(breakable(line)) > 1] == []


def breakable(line: str) -> list[str]:
    """Return the parts that a line could still be broken into."""
    whole = re.sub(r'"[^"\n]*"', "text", line.strip()).removesuffix(" {")
    return whole.split(" ")


@MODEST
@given(texts(), st.randoms(use_true_random=False), st.integers(40, 120))
def test_comments_stay_with_their_words(text: str, random: Random, width: int) -> None:
    messy = messed_up(text, random)
    assert attached(laid_out(messy, width)) == attached(messy)


def attached(text: str) -> list[tuple[str, list[str], str]]:
    """Return each word with the comments above and beside it; semicolons come and go, and leave theirs behind."""
    words: list[tuple[str, list[str], str]] = []
    for lexeme in read_lexemes(Source("drawn.aqp", text)):
        if lexeme.text == ";":
            words[-1] = (*words[-1][:2], words[-1][2] + lexeme.beside)
        else:
            words.append((lexeme.text, [comment.text for comment in lexeme.above], lexeme.beside))
    return words
