"""Names and texts in a report are an attacker's; none of them may become markup or read like something else."""

from __future__ import annotations

import pytest
from support.report_pages import Page, a_report

from aqpolicy.report import render_report

ATTACKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><script>alert(1)</script>",
    "</pre></section><base href=//evil>",
    "<!-- --><svg onload=alert(1)>",
    "&lt;script&gt;",
    "]]><script>alert(1)</script>",
]


def _shape(page: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(tag, tuple(sorted(attributes))) for tag, attributes in Page(page).elements]


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_changes_the_elements_of_the_page(attack: str) -> None:
    page = render_report(a_report(attack))
    inside = Page(page)
    assert inside.open == []
    assert sum(tag == "script" for tag, _ in inside.elements) == 1
    # Source lines are coloured word by word, so only what colouring cannot make is compared there.
    harmless = a_report("x" * len(attack))
    ours = {"b", "q", "em"}
    assert [item for item in _shape(page) if item[0] not in ours] == [
        item for item in _shape(render_report(harmless)) if item[0] not in ours
    ]


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\u200f", "\u200b", "\x1b", "\x00", "\x9b", "\ud800"])
def test_text_that_would_turn_or_hide_is_shown_as_replaced(hidden: str) -> None:
    page = render_report(a_report(f"ab{hidden}cd"))
    assert hidden not in page
    assert "ab\ufffdcd" in page
    page.encode("utf-8")
