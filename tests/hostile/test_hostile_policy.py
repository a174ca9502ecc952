"""Texts that are no policies: whatever they hold, the answer is diagnostics, soon."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.lark import from_lark
from lark import Lark
from support.policy_text import RADIOLOGY, SMALL

from aqpolicy.diagnostics import Diagnostic, Source, render_all
from aqpolicy.errors import PolicyError
from aqpolicy.pipeline import Pipeline
from aqpolicy.shipped import grammar_text

MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
GRAMMAR = Lark(grammar_text(), parser="lalr", maybe_placeholders=True)


def answer(text: str) -> tuple[str, ...]:
    """Check a text; return the codes of what is said of it, having drawn it all."""
    source = Source("hostile.aqp", text)
    found = problems(source)
    if not found:
        return ()
    assert all(each.labels for each in found), "never a finding without a place"
    assert render_all(found, source)
    return tuple(each.code for each in found)


def problems(source: Source) -> tuple[Diagnostic, ...]:
    try:
        return Pipeline(source).findings
    except PolicyError as error:
        return error.diagnostics


@MANY
@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    assert answer(text)


@MANY
@given(st.binary(max_size=300))
def test_any_bytes_are_answered(data: bytes) -> None:
    assert answer(data.decode("utf-8", errors="replace"))
    assert answer(data.decode("utf-8", errors="surrogateescape"))


@MANY
@given(st.lists(st.sampled_from([*RADIOLOGY.split(), "(", ")", "{", "}", '"', "1..", "-", "<", "\n"]), max_size=60))
def test_any_sequence_of_the_languages_words_is_answered(words: list[str]) -> None:
    assert answer(" ".join(words))


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(from_lark(GRAMMAR))
def test_whatever_the_grammar_generates_is_answered(text: str) -> None:
    answer(text)


@pytest.mark.parametrize("seed", range(150))
def test_a_policy_with_a_wound_is_answered(seed: int) -> None:
    dice = random.Random(seed)
    text = RADIOLOGY
    for _ in range(dice.randint(1, 4)):
        start = dice.randrange(len(text))
        middle = dice.choice(["", "(", '"', "when", "\n", "rule ", "0.5", "}", text[start : start + 40][::-1]])
        text = text[:start] + middle + text[start + dice.randint(0, 30) :]
    answer(text)


@pytest.mark.parametrize("end", range(0, RADIOLOGY.index("otherwise deny"), 29))
def test_a_policy_cut_short_is_refused(end: int) -> None:
    # The last statement, `prove`, is the only one whose loss leaves a whole policy; the cuts end before `otherwise`.
    assert answer(RADIOLOGY[:end])


BOMBS = {
    "parentheses": "rule r when " + "(" * 100_000,
    "negations": "rule r when " + "not (" * 50_000,
    "negations without parentheses": "rule r when " + "not " * 100_000,
    "conjunction": SMALL + "rule r when " + " and ".join(["consensus > 0.5"] * 20_000) + " admit full",
    "doubling definitions": SMALL
    + "define d0 = consensus > 0\n"
    + "".join(f"define d{n + 1} = d{n} or d{n}\n" for n in range(2_000))
    + "rule r when d2000 admit full",
    "chain of definitions": SMALL + "".join(f"define d{n} = d{n + 1}\n" for n in range(5_000)),
    "long number": SMALL + "rule r when consensus > " + "9" * 100_000 + " admit full",
    "long decimals": SMALL + "rule r when consensus > 0." + "9" * 100_000 + " admit full",
    "long taxonomy version": SMALL.replace("taxonomy t version 1", f"taxonomy t version {'1' * 50_000}"),
    "long name": SMALL + f"rule {'r' * 300_000} when {'x' * 300_000} admit full",
    "unknown names": SMALL + "".join(f"rule r{n} when consenss > 0.5 admit fll\n" for n in range(5_000)),
    "many errors": "rule a wen\n" * 20_000,
    "quotes": '"' * 200_000,
    "overrides in a circle": SMALL
    + "".join(f"rule r{n} when anything admit full overrides r{(n + 1) % 3_000}\n" for n in range(3_000)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_bounded_time(name: str) -> None:
    started = time.monotonic()
    assert answer(BOMBS[name])
    assert time.monotonic() - started < 20, "generous, for slow machines; each takes a few seconds at most"
