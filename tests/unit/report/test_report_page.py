"""The page: self-contained, navigable, readable without colours and without its script."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256

import pytest
from support.report_pages import Page, a_report

from aqpolicy.report import HeatMap, Measured, Report, render_report
from aqpolicy.report.heatmap import render_heat_map
from aqpolicy.report.markup import number


def test_the_security_policy_names_exactly_the_style_and_script_of_the_page() -> None:
    page = Page(render_report(a_report()))
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    for kind in ("style", "script"):
        (body,) = page.bodies[kind]
        assert f"{kind}-src 'sha256-{b64encode(sha256(body.encode()).digest()).decode()}'" in policy


def test_nothing_on_the_page_reaches_out_of_it() -> None:
    text = render_report(a_report())
    page = Page(text)
    assert not re.search(r"https?:|url\(|@import", text)
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "form", "base"}
        assert not {"src", "style", "action"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith("#")


def test_every_link_leads_to_a_section_and_ids_are_unique() -> None:
    page = Page(render_report(a_report()))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {(a["href"] or "")[1:] for tag, a in page.elements if tag == "a"}
    assert targets <= set(ids)
    assert {a["data-for"] for tag, a in page.elements if tag == "button"} <= set(ids)
    assert {a["aria-labelledby"] for tag, a in page.elements if tag == "section"} <= set(ids)


def test_elements_are_balanced_and_parts_that_are_not_there_leave_no_heading() -> None:
    assert Page(render_report(a_report())).open == []
    empty = render_report(Report("t", "s"))
    assert Page(empty).open == []
    assert "<h2" not in empty


def test_pictures_have_words() -> None:
    page = Page(render_report(a_report()))
    for tag, attributes in page.elements:
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


def test_a_why_path_is_open_to_the_keyboard_and_its_strongest_path_is_marked() -> None:
    page = Page(render_report(a_report()))
    details = [a for tag, a in page.elements if tag == "details" and "why" in (a.get("class") or "")]
    assert len(details) == 3
    assert ["data-path" in a for a in details] == [True, True, False]
    assert sum(tag == "summary" for tag, _ in page.elements) >= len(details)


@pytest.mark.parametrize(
    ("admitted", "denied", "level", "shown"),
    [
        (0.0, 2.0, 0, "0%"),
        (2.0, 0.0, 10, "100%"),
        (0.001, 2.0, 1, "&lt;1%"),
        (2.0, 0.001, 9, "&gt;99%"),
        (1.0, 1.0, 5, "50%"),
    ],
)
def test_a_little_is_never_shown_as_nothing_nor_nearly_all_as_all(
    admitted: float, denied: float, level: int, shown: str
) -> None:
    heat = HeatMap("t", "n", ("g",), ("c",), ((admitted,),), ((denied,),))
    assert f'<td class="h{level}"><b>{shown}</b>' in render_heat_map(heat)


def test_a_class_without_visits_is_said_to_have_none() -> None:
    assert "no visit" in render_heat_map(HeatMap("t", "n", ("g",), ("c",), ((0.0,),), ((0.0,),)))


def test_a_mean_has_the_spread_of_a_sample() -> None:
    assert Measured((1.0, 3.0)).mean == 2.0
    assert Measured((1.0, 3.0)).spread == pytest.approx(2**0.5)
    assert Measured((1.0,)).spread == 0.0


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.5, "0.500"), (12.34, "12.3"), (123456.0, "123\u202f456"), (1e-7, "1.0e-07")]
)
def test_numbers_have_the_digits_that_matter(value: float, shown: str) -> None:
    assert number(value) == shown


def test_the_page_is_the_same_for_the_same_report() -> None:
    assert render_report(a_report()) == render_report(replace(a_report()))
