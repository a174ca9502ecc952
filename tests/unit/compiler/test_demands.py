"""A policy's demands are named by feature, and what the gate cannot enforce is refused by name."""

from __future__ import annotations

import sys

import pytest
from support.policy_text import SMALL

from aqpolicy.bundle import ENFORCED, FEATURES
from aqpolicy.compiler import compile_tables, demands, features, unenforceable
from aqpolicy.diagnostics import Source
from aqpolicy.model import Policy, load_policy

GRANT = "rule r when anything admit full "
BUDGET = "budget b on all on exhaust deny "
BASE = ("share",)
EVIDENCE = "evidence { weigh authority: board 1; at most 3 } "


def policy_of(text: str) -> Policy:
    return load_policy(Source("policy.aqp", SMALL + text))


CASES = {
    GRANT: (),
    GRANT + "deny head": (),
    GRANT + "limit head norm 1": ("norm",),
    GRANT + BUDGET + "exposures at most 1 per example": ("exposures",),
    GRANT + BUDGET + "surprisal at most 1 nat per epoch": ("surprisal budget",),
    GRANT + BUDGET + "surprisal at most 1 nat per step": ("surprisal per step",),
    GRANT + BUDGET + "surprisal at most 1 nat per phase phases warm < main": ("surprisal per phase",),
    GRANT + BUDGET + "movement at most 1 l2 per step": ("movement budget",),
    GRANT + BUDGET + "drift at most 1 nat per run": ("drift budget",),
    GRANT + "limit head share 1 - consensus": ("linear share",),
    "profile loud { amplify head 2 } rule r when anything admit loud": ("amplify",),
    GRANT + "limit head frequency 1 per 10 steps": ("frequency limit",),
    GRANT + "defer until consensus >= 0.5 for at most 1 epochs then deny": ("deferral",),
    GRANT + "verify gold.accuracy falls at most 0.1 within 5 steps else halt": ("verification",),
    GRANT + "promote after gold.accuracy >= 0.9": ("promotion",),
    "rule r when surprisal < 3 admit full": ("surprisal in conditions",),
    "rule r when predictive_entropy < 3 admit full": ("predictive entropy in conditions",),
    "phases warm < main rule r when phase is main admit full": ("phases",),
    "stages draft < final { final requires auc >= 0.9 } rule r when anything admit full": ("stages",),
    "rule r when step >= 3 and epoch >= 3 admit full": ("steps and epochs in conditions",),
    "rule r when anything until 2030-01-01 admit full": ("dates in conditions",),
    "evidence { weigh authority: board 1; at most 3 } rule r when evidence >= 1 admit full": ("evidence weighting",),
    GRANT + "defer until surprisal < 1 for at most 1 epochs then deny": ("deferral", "surprisal in conditions"),
    GRANT + BUDGET + "for surprisal > 1 exposures at most 1 per example": ("exposures", "surprisal in conditions"),
}


@pytest.mark.parametrize("text", CASES)
def test_every_construct_asks_for_its_feature(text: str) -> None:
    policy = policy_of(text)
    expected = tuple(sorted({*BASE, *CASES[text]}))
    assert features(demands(policy)) == expected
    assert compile_tables(policy).requires == expected


def test_every_feature_that_a_policy_can_ask_for_has_a_case() -> None:
    asked = {feature for found in CASES.values() for feature in found}
    asked |= {*BASE, "tied parameters", "parameters tied across groups"}
    assert asked == set(FEATURES)
    assert set(FEATURES) >= ENFORCED


def test_proofs_and_cases_ask_for_nothing() -> None:
    text = 'prove never surprisal > 3 and admitted(head) > 0 test "t" { given epoch >= 3 expect deny }'
    assert features(demands(policy_of(GRANT + text))) == BASE


def test_a_fixed_date_of_the_manifest_asks_for_nothing() -> None:
    text = SMALL.replace("attribute consensus", "attribute taken : date 2000-01-01..2030-12-31\n  attribute consensus")
    policy = load_policy(Source("p", text + "rule r when taken >= 2020-01-01 admit full"))
    assert features(demands(policy)) == BASE


def test_each_feature_beyond_the_gate_is_one_finding_with_all_its_places() -> None:
    text = (
        EVIDENCE
        + """rule r when evidence >= 2 admit full
              rule s when evidence < 1 deny head"""
    )
    (found,) = unenforceable(policy_of(text))
    assert (found.code, found.severity, len(found.labels)) == ("AQ322", "error", 3)
    assert found.message == "the gate of this version cannot weigh the judgments behind a label"
    assert {label.text for label in found.labels} == {"asks for `evidence weighting`"}
    text = SMALL + text
    shown = [text[label.span.start : label.span.end] for label in found.labels]
    assert all(place.startswith("evidence ") for place in shown)


def test_only_what_is_not_enforced_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["aqpolicy.compiler.demands"]  # in its package the name is that of a function
    monkeypatch.setattr(module, "ENFORCED", ENFORCED - {"linear share", "surprisal in conditions"})
    text = "rule r when surprisal < 3 admit full limit head share consensus rule s when surprisal < 2 deny head"
    found = unenforceable(policy_of(text))
    assert [len(one.labels) for one in found] == [1, 2]


def test_a_check_may_call_it_a_note() -> None:
    (found,) = unenforceable(policy_of(EVIDENCE + GRANT), "note")
    assert found.severity == "note"


def test_what_the_gate_enforces_is_no_finding() -> None:
    assert unenforceable(policy_of(GRANT + "limit head norm 1 " + BUDGET + "exposures at most 1 per example")) == ()
