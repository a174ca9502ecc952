"""AQ306: rules that determine nothing, against an evaluation of the policy without them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.checking import EXPERTS, coded, errors, examined, marked

from aqpolicy.analysis import Prover
from aqpolicy.analysis.query import Applies, Matters
from aqpolicy.analysis.shadows import determines, reasons
from aqpolicy.model import Policy
from aqpolicy.testing import observations, policies


def test_a_restriction_under_a_stricter_one_is_shadowed_by_it() -> None:
    text = (
        EXPERTS + "rule all_of_it when consensus < 0.5 deny head\nrule part when consensus < 0.25 limit head share 0.5"
    )
    (finding,) = coded(examined(text), "AQ306")
    assert finding.severity == "error"
    assert "`part`" in finding.message
    assert marked(finding, text) == ["part", "all_of_it"]


def test_a_union_of_rules_shadows_what_none_of_them_does_alone() -> None:
    text = (
        EXPERTS
        + "rule low when consensus <= 0.5 deny head\n"
        + "rule high when consensus > 0.5 deny head\n"
        + "rule other when judgments > 7 deny surface\n"
        + "rule useless when judgments > 5 limit head share 0.25\n"
    )
    (finding,) = coded(examined(text), "AQ306")
    assert marked(finding, text) == ["useless", "low", "high"]


def test_a_grant_that_is_always_denied_is_shadowed() -> None:
    text = (
        EXPERTS + 'rule crowd when authority is crowd admit weak\nrule no when authority is crowd deny all because "no"'
    )
    found = coded(examined(text), "AQ306")
    assert [finding.message.split("`")[1] for finding in found] == ["crowd"]


def test_a_grant_within_a_wider_one_of_the_same_shares_is_shadowed() -> None:
    text = EXPERTS + "rule boards when authority is board admit full"
    (finding,) = coded(examined(text), "AQ306")
    assert marked(finding, text) == ["boards", "experts"]


def test_a_safeguard_over_what_nothing_admits_is_a_warning_only() -> None:
    text = EXPERTS + "rule guard when authority is crowd deny head"
    (finding,) = coded(examined(text), "AQ306")
    assert finding.severity == "warning"
    assert "nothing that it restricts is admitted" in finding.message


@pytest.mark.parametrize(
    "rule",
    [
        "rule r when consensus < 0.25 limit head share 0.5",
        "rule r when consensus < 0.25 limit head norm 2",
        "rule r when authority >= expert promote after gold.accuracy >= 0.9",
        "rule r when authority >= expert limit head frequency 1 per 10 steps",
        "rule r when judgments < 3 defer until judgments >= 3 for at most 2 epochs then deny",
        "rule r when authority is crowd admit weak",
        "rule r when authority is crowd deny all",
        "rule r when consensus > 0.5 limit head share consensus",
    ],
)
def test_a_rule_that_changes_something_is_not_shadowed(rule: str) -> None:
    text = EXPERTS + "rule strict when consensus < 0.125 limit head norm 1\n" + rule
    assert errors(examined(text)) == []


def test_a_norm_below_a_stricter_norm_is_shadowed() -> None:
    text = (
        EXPERTS + "rule strict when consensus < 0.5 limit head norm 1\nrule r when consensus < 0.25 limit head norm 2"
    )
    (finding,) = coded(examined(text), "AQ306")
    assert marked(finding, text) == ["r", "strict"]


def test_a_linear_limit_below_another_of_the_same_slope_is_shadowed() -> None:
    text = (
        EXPERTS
        + "rule strict when judgments < 5 limit head share 0.75 - 0.5 * consensus\n"
        + "rule r when judgments < 3 limit head share 0.875 - 0.5 * consensus"
    )
    (finding,) = coded(examined(text), "AQ306")
    assert marked(finding, text) == ["r", "strict"]


def test_not_more_than_twenty_are_explained_and_the_rest_are_counted() -> None:
    text = EXPERTS + "\n".join(f"rule again_{n} when authority is board admit full" for n in range(25))
    found = coded(examined(text), "AQ306")
    assert len(found) == 20
    assert "5 more rules determine nothing; they are not shown" in found[-1].notes


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_matters_is_what_the_evaluator_decides_otherwise_without_it(data: st.DataObject) -> None:
    policy = data.draw(policies())
    prover = Prover(policy)
    seen = data.draw(st.lists(observations(policy), max_size=10))
    for rule in policy.rules:
        witness = prover.witness(Matters(rule.name))
        if witness is None:
            assert not any(determines(policy, rule, observation) for observation in seen)
        else:
            assert determines(policy, rule, witness)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(policies())
def test_the_reasons_suffice_and_none_can_be_spared(policy: Policy) -> None:
    prover = Prover(policy)
    for rule in policy.rules:
        if not prover.possible(Applies(rule.name)) or prover.possible(Matters(rule.name)):
            continue
        chosen = [other.name for other in reasons(prover, rule)]
        grants = {other.name for other in policy.rules if other.admit is not None and rule.admit is None}
        assert not _matters_among(policy, rule.name, {*chosen, *grants})
        for spared in chosen:
            assert _matters_among(policy, rule.name, {*chosen, *grants} - {spared})


def _matters_among(policy: Policy, rule: str, others: set[str]) -> bool:
    kept = others | {rule}
    rules = tuple(
        replace(one, overrides=tuple(name for name in one.overrides if name in kept))
        for one in policy.rules
        if one.name in kept
    )
    return Prover(replace(policy, rules=rules)).possible(Matters(rule))
