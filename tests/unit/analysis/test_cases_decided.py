"""AQ319: test cases are decided for every observation that they are given."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.checking import EXPERTS, a_policy

from aqpolicy.analysis import CaseResult, run_cases
from aqpolicy.analysis.cases import _met
from aqpolicy.model import Policy
from aqpolicy.semantics import evaluate, holds
from aqpolicy.testing import observations, policies

TEXT = (
    EXPERTS
    + "rule low when consensus < 0.5 limit head share 0.25\n"
    + "rule wait when judgments < 3 defer until judgments >= 3 for at most 2 epochs then deny\n"
)


def run(given_: str, *expected: str) -> CaseResult:
    (result,) = run_cases(
        a_policy(TEXT + f'test "case" {{ given {given_} {" ".join(f"expect {e}" for e in expected)} }}')
    )
    return result


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("authority is board and consensus >= 0.5 and judgments >= 3", "admit by experts"),
        ("authority is board and consensus < 0.5 and judgments >= 3", "modulate by experts, low"),
        ("authority is board and judgments < 3", "defer by wait"),
        ("authority is crowd", "deny"),
        ("authority is crowd", "that admitted(head) is 0"),
        ("authority is board", "that charged(any) <= 1 and admitted(head) <= 1"),
        ("authority is crowd and judgments < 3", "deny"),
    ],
)
def test_cases_that_hold(given_: str, expected: str) -> None:
    assert run(given_, expected).findings == ()


@pytest.mark.parametrize(
    ("given_", "expected", "witness"),
    [
        ("authority is board", "admit", {"consensus": "0", "judgments": "0"}),
        ("authority is board and judgments >= 3", "admit", {"consensus": "0", "judgments": "3"}),
        ("authority is board and judgments >= 3", "modulate", {"consensus": "0.5", "judgments": "3"}),
        ("authority is board and judgments >= 3", "modulate by low", {"consensus": "0.5", "judgments": "3"}),
        ("authority is board", "that admitted(head) > 0", {"consensus": "0", "judgments": "0"}),
    ],
)
def test_cases_that_fail_show_the_least_observation(given_: str, expected: str, witness: dict[str, str]) -> None:
    (finding,) = run(given_, expected).findings
    assert finding.code == "AQ319"
    assert finding.witness == {"authority": "board", "review": "draft"} | witness


def test_every_expectation_is_asked_apart() -> None:
    findings = run("authority is crowd", "deny", "admit", "that admitted(head) > 0").findings
    assert len(findings) == 2


def test_a_case_that_is_given_nothing_fails() -> None:
    (finding,) = run("judgments > 3 and judgments < 4", "deny").findings
    assert "tests nothing" in finding.message
    assert [label.text for label in finding.labels] == ["judgments > 3", "judgments < 4"]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_cases_agree_with_the_evaluator(data: st.DataObject) -> None:
    policy: Policy = data.draw(policies())
    results = run_cases(policy)
    seen = data.draw(st.lists(observations(policy), max_size=8))
    for case, result in zip(policy.cases, results, strict=True):
        for observation in seen:
            if not result.findings and holds(case.given, observation):
                decision = evaluate(policy, observation)
                assert all(_met(policy, expected, observation, decision) for expected in case.expectations)
