"""Every defect that is planted in a clean policy is found, and nothing is found in the clean one."""

from __future__ import annotations

import pytest
from support.defects import CLEAN, DEFECTS, Defect

from aqpolicy.diagnostics import CODES, Diagnostic, Source
from aqpolicy.errors import PolicyError
from aqpolicy.pipeline import Pipeline

ELSEWHERE = {"AQ300", "AQ310", "AQ315", "AQ317", "AQ320", "AQ321", "AQ322"}
"""Needs a solver that gives up, a second layer, or a model; AQ317 is a number and no defect."""


def findings(text: str) -> tuple[Diagnostic, ...]:
    try:
        return Pipeline(Source("planted.aqp", text)).findings
    except PolicyError as error:
        return error.diagnostics


def found(text: str) -> dict[str, str]:
    """Return the codes of the findings, each with its gravest level."""
    order = ("note", "warning", "error")
    levels: dict[str, str] = {}
    for finding in findings(text):
        before = levels.get(finding.code, "note")
        levels[finding.code] = max(before, finding.severity, key=order.index)
    return levels


def test_nothing_is_found_in_the_clean_policy() -> None:
    assert {code: level for code, level in found(CLEAN).items() if level != "note"} == {}


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: f"{defect.code}: {defect.name}")
def test_a_planted_defect_is_found(defect: Defect) -> None:
    level = found(defect.planted()).get(defect.code)
    assert level is not None
    assert level != "note"


def test_every_finding_of_the_checker_is_planted() -> None:
    checked = {code for code in CODES if "AQ300" <= code < "AQ400"}
    assert {defect.code for defect in DEFECTS} == checked - ELSEWHERE
