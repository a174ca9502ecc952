"""Whatever a file of fixtures holds, it is read, or refused with one kind of error; numbers stay exact."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.policy_text import SMALL

from aqpolicy.diagnostics import Source
from aqpolicy.errors import InputError
from aqpolicy.model import load_policy
from aqpolicy.trial import read_fixtures, read_records
from aqpolicy.trial.json_lines import exact_json
from aqpolicy.trial.observation import UnfitError, read_number, read_value

POLICY = load_policy(Source("p.aqp", SMALL + "rule r when today > 2026-01-01 admit full\n"))
TYPES = {attribute.name: attribute for attribute in POLICY.attributes}
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
KEYS = st.sampled_from(["name", "observation", "expect", "judgments", "cases", "policy", "shares", "norms", "by"])
NESTED = st.recursive(PLAIN, lambda inner: st.dictionaries(KEYS, inner, max_size=4) | st.lists(inner, max_size=3))


def read(name: str, text: str) -> None:
    with contextlib.suppress(InputError):
        read_fixtures(POLICY, read_records(Source(name, text)))


@given(st.sampled_from(["x.yaml", "x.jsonl"]), st.text(st.characters(codec="utf-8")))
def test_no_text_raises_anything_else(name: str, text: str) -> None:
    read(name, text)


@given(st.sampled_from(["x.yaml", "x.jsonl"]), NESTED)
def test_no_structure_raises_anything_else(name: str, value: object) -> None:
    read(name, json.dumps(value))


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [b, b]\nb: &b [*a, *a]\nc: &c [*b, *b]\ncases: [{<<: &d {e: *c}, <<: *d}]",
        "!!python/object/apply:os.system ['exit 1']",
        "- !!binary abc",
        "<<: 3",
        "- {<<: {<<: {name: x}}}",
    ],
)
def test_yaml_builds_nothing(text: str) -> None:
    with pytest.raises(InputError):
        read_fixtures(POLICY, read_records(Source("x.yaml", text)))


def test_aliases_do_not_multiply() -> None:
    layers = "\n".join(f"- &a{n + 1} [*a{n}, *a{n}, *a{n}, *a{n}, *a{n}, *a{n}, *a{n}, *a{n}]" for n in range(40))
    with pytest.raises(InputError, match="41 faults"):
        read_fixtures(POLICY, read_records(Source("x.yaml", f"- &a0 [x]\n{layers}")))


@pytest.mark.parametrize(
    ("name", "written", "expected"),
    [
        ("authority", "board", "board"),
        ("consensus", "0.5", 500_000),
        ("consensus", Decimal("0.10"), 100_000),
        ("consensus", Decimal("1E-6"), 1),
        ("consensus", 1, 1_000_000),
        ("judgments", Decimal(20), 20_000_000),
        ("today", "1970-01-02", 1_000_000),
    ],
)
def test_values_are_exact(name: str, written: object, expected: object) -> None:
    assert read_value(TYPES[name], written) == expected


@pytest.mark.parametrize(
    ("name", "written", "words"),
    [
        ("consensus", Decimal("1E+999999"), "not a number that a policy could hold"),
        ("consensus", Decimal("NaN"), "not a number that a policy could hold"),
        ("consensus", "1e-1", "`1e-1` is no number"),
        ("consensus", "٣", "is no number"),
        ("consensus", "0.5 nats", "`consensus` has no unit, not in nats"),
        ("consensus", Decimal("1E-7"), "more than six decimals"),
        ("consensus", "9" * 300, "longer than 200 characters"),
        ("consensus", None, "it is empty"),
        ("consensus", {}, "it is a table"),
        ("today", "2026-02-30", "is no date from 1970-01-01 on"),
        ("today", "tomorrow", "`tomorrow` is no date; write year-month-day"),
        ("authority", Decimal(1), "`1` is not a value of `authority`"),
        ("authority", "\x1b[31m", "\N{REPLACEMENT CHARACTER}[31m"),
    ],
)
def test_what_is_no_value_is_said_in_the_authors_words(name: str, written: object, words: str) -> None:
    with pytest.raises(UnfitError) as caught:
        read_value(TYPES[name], written)
    assert words in str(caught.value)


@given(st.decimals(-9_000_000, 9_000_000, places=6))
def test_every_decimal_is_read_as_it_stands(number: Decimal) -> None:
    assert read_number(exact_json(f"{number:f}")) == read_number(f"{number:f}") == int(number * 1_000_000)
