"""The page about the language lists every code, with the words of the registry."""

from __future__ import annotations

import re
from pathlib import Path

from aqpolicy.diagnostics import CODES
from aqpolicy.syntax import LATER

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "language.md").read_text(encoding="utf-8")


def test_the_page_lists_the_registry() -> None:
    rows = re.findall(r"^\| (AQ\d+) \| ([a-z-]+) \| (.+) \|$", PAGE, flags=re.MULTILINE)
    assert rows == [(code.number, code.slug, code.title) for code in CODES.values()]


def test_the_page_names_every_construct_that_is_refused() -> None:
    section = " ".join(PAGE.split("## Part of the language")[1].split("## Limits")[0].split())
    constructs = {text.removesuffix(" of an attribute") for text in LATER.values()} - {"`phase`"}
    assert {text for text in constructs if text not in section} == set()
    assert "phases" in section
