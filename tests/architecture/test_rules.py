"""Every code has a page of one shape, an entry in the index, and examples that do what the page says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.judging import Written, judge

from aqpolicy.diagnostics import CODES, Code
from aqpolicy.diagnostics.levels import default_severity, is_adjustable
from aqpolicy.lint import parse_settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "rules"
INDEX = (FOLDER / "README.md").read_text(encoding="utf-8")
SECTIONS = ("Avoid", "Prefer", "Why", "What is proved", "Settings", "Related")
MANDATORY = {"Avoid", "Prefer", "Why", "Related"}
PROVED = {code for code in CODES if "AQ301" <= code <= "AQ319"}
BLOCK = re.compile(r"^```aqp(.*)\n((?:.*\n)*?)```$", flags=re.MULTILINE)
IN_SETTINGS = re.compile(r"`\[tool\.aqpolicy(\.levels)?\] ([^`]+)`")


def page_name(code: Code) -> str:
    return f"{code.number}-{code.slug}.md"


def page(code: Code) -> str:
    return (FOLDER / page_name(code)).read_text(encoding="utf-8")


def level(code: str) -> str:
    severity = default_severity(code)
    verb = "lowered" if severity == "error" else "changed"
    return f"{severity}; may be {verb} in the settings" if is_adjustable(code) else severity


def sentence(title: str) -> str:
    return f"{title[0].upper()}{title[1:]}."


def sections(text: str) -> dict[str, str]:
    """Return the sections of a page by their headings, in their order."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced example; its marks are the words behind `aqp`: `file=`, `unlocked`, `model=`, `unchecked`, `noted`."""

    marks: frozenset[str]
    values: dict[str, str]
    text: str


def blocks(section: str) -> list[Block]:
    found = []
    for words, text in BLOCK.findall(section):
        marks = frozenset(word for word in words.split() if "=" not in word)
        values = dict(word.split("=") for word in words.split() if "=" in word)
        found.append(Block(marks, values, re.sub(r"<U\+([0-9A-F]{4})>", lambda found: chr(int(found[1], 16)), text)))
    return found


PREAMBLE = next(block.text for block in blocks(INDEX) if "preamble" in block.marks)


def example(section: str) -> tuple[Written, frozenset[str]]:
    """Return what an example section shows, and the marks of its first block."""
    own, *others = blocks(section)
    is_whole = re.search(r"^policy ", own.text, flags=re.MULTILINE)
    files = {block.values["file"]: block.text for block in others}
    unlocked = frozenset(block.values["file"] for block in others if "unlocked" in block.marks)
    return Written(own.text if is_whole else PREAMBLE + own.text, files, unlocked, own.values), own.marks


EVERY_CODE = pytest.mark.parametrize("code", CODES.values(), ids=lambda code: code.number)


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {page_name(code) for code in CODES.values()} | {"README.md"}


def test_the_index_lists_the_registry() -> None:
    rows = [row for row in INDEX.splitlines() if row.startswith("| [")]
    assert rows == [
        f"| [{code.number}]({page_name(code)}) | {code.slug} | {level(code.number)} | {code.title} |"
        for code in CODES.values()
    ]


@EVERY_CODE
def test_a_page_has_the_one_shape(code: Code) -> None:
    text = page(code)
    opening = f"# {code.number} {code.slug}\n\n{sentence(code.title)}\n\nLevel: {level(code.number)}\n\n## Avoid\n"
    assert text.startswith(opening)
    headings = list(sections(text))
    assert headings == [heading for heading in SECTIONS if heading in headings]
    assert set(headings) >= MANDATORY
    assert ("What is proved" in headings) == (code.number in PROVED)
    assert max(map(len, text.splitlines())) <= 120


@EVERY_CODE
def test_the_reasons_are_short_enough_to_be_read(code: Code) -> None:
    why = sections(page(code))["Why"]
    assert 2 <= len(re.findall(r"[.?!](?=\s)", why)) <= 5


@EVERY_CODE
def test_what_to_avoid_is_reported_with_the_code(code: Code) -> None:
    written, marks = example(sections(page(code))["Avoid"])
    if "unchecked" in marks:
        assert code.number == "AQ108"  # too large for a page
    else:
        assert code.number in {finding.code for finding in judge(written)}


@EVERY_CODE
def test_what_to_prefer_is_not_reported_and_has_no_error(code: Code) -> None:
    written, marks = example(sections(page(code))["Prefer"])
    found = judge(written)
    assert [finding.message for finding in found if finding.severity == "error"] == []
    assert (code.number in {finding.code for finding in found}) == ("noted" in marks)


def test_settings_that_pages_name_can_be_written_so() -> None:
    lines = [found for code in CODES.values() for found in IN_SETTINGS.findall(page(code))]
    assert len(lines) > 10
    for table, line in lines:
        assert parse_settings(f"{f'[{table[1:]}]' if table else ''}\n{line}".encode(), "aqpolicy.toml") is not None
