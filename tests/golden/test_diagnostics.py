"""What authors are shown, word for word: a case is a file with the source, a line, and the text expected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aqpolicy.diagnostics import CODES, Source, render_all
from aqpolicy.errors import PolicyError
from aqpolicy.model import load_policy

CASES = sorted((Path(__file__).parent / "diagnostics").glob("*.golden"))
LINE = "\n======== expected ========\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_diagnostics_are_drawn_as_expected(case: Path) -> None:
    text, expected = case.read_text(encoding="utf-8").split(LINE)
    source = Source("policy.aqp", text)
    with pytest.raises(PolicyError) as caught:
        load_policy(source)
    assert render_all(caught.value.diagnostics, source) + "\n" == expected


def test_every_code_of_the_language_has_a_case() -> None:
    drawn = "".join(case.read_text(encoding="utf-8") for case in CASES)
    shown = set(re.findall(r"^error\[(AQ\d+)\]", drawn, flags=re.MULTILINE))
    too_large_for_a_file = {"AQ108"}
    assert shown == {code for code in CODES if code < "AQ300"} - too_large_for_a_file


def test_a_case_is_named_after_a_code_that_it_shows() -> None:
    slugs = {code.slug: code.number for code in CODES.values()}
    named = [case for case in CASES if case.stem in slugs]
    assert [c.stem for c in named if f"[{slugs[c.stem]}]" not in c.read_text(encoding="utf-8")] == []
    assert {c.stem for c in named} == {code.slug for code in CODES.values() if code.number < "AQ300"} - {
        "source-too-large"
    }
