"""AQ310: every way in which a policy can widen what it extends, beside one that does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.checking import ANY, EXPERTS, PLAIN, a_policy, coded

from aqpolicy.analysis import CheckResult, Prover, examine
from aqpolicy.analysis.layers import ABOVE, HERE, widenings
from aqpolicy.diagnostics import Diagnostic
from aqpolicy.model import Policy
from aqpolicy.semantics import evaluate
from aqpolicy.testing import observations, policies

ABOVE_TEXT = (
    EXPERTS
    + "rule low when consensus < 0.5 limit head share 0.25\n"
    + "rule gentle when consensus < 0.75 limit surface norm 1\n"
    + "rule watch when consensus < 0.75 verify gold.accuracy falls at most 0.01 within 200 steps else halt\n"
)


def extended(text: str, budgets: str = ANY, above: str = ABOVE_TEXT) -> CheckResult:
    return examine(replace(a_policy(text, budgets), extends=a_policy(above)), PLAIN)


def the_widening(text: str, budgets: str = ANY, above: str = ABOVE_TEXT) -> Diagnostic:
    found = coded(extended(text, budgets, above), "AQ310")
    assert len(found) == 1, [finding.message for finding in found]
    return found[0]


@pytest.mark.parametrize(
    "more",
    [
        "",
        "rule stricter when judgments < 3 deny head",
        "rule closer when judgments < 3 limit surface norm 0.5",
        "rule patient when judgments < 3 defer until judgments >= 3 for at most 2 epochs then deny",
        "rule boards when authority is board and judgments > 3 admit full",
    ],
)
def test_a_layer_may_refuse_more(more: str) -> None:
    result = extended(ABOVE_TEXT + more)
    assert coded(result, "AQ310") == []
    assert "`test` does not widen `test`: the share of `surface` and the share of `head`" in result.proved


def test_a_new_grant_widens_a_share() -> None:
    finding = the_widening(ABOVE_TEXT + "rule crowd when authority is crowd and consensus > 0.5 admit weak")
    assert "the share of `surface`" in finding.message
    assert finding.witness is not None
    assert finding.witness["consensus"] == "0.500001"
    labels = [label.text for label in finding.labels]
    assert "`crowd` decides so here" in labels
    assert "refuses in the policy above" in labels


def test_a_limit_that_is_gone_widens_a_share() -> None:
    finding = the_widening(ABOVE_TEXT.replace("rule low when consensus < 0.5 limit head share 0.25\n", ""))
    assert "the share of `head`" in finding.message
    assert any("decides otherwise" in label.text for label in finding.labels)
    assert "head 1" in finding.notes[0]
    assert "head 0.25" in finding.notes[1]


def test_a_norm_that_is_looser_widens() -> None:
    finding = the_widening(ABOVE_TEXT.replace("norm 1", "norm 2"))
    assert "the norm of `surface`" in finding.message


def test_an_obligation_that_is_gone_widens() -> None:
    finding = the_widening("\n".join(ABOVE_TEXT.splitlines()[:-1]) + "\n")
    assert "an obligation of rule `watch`" in finding.message
    assert finding.labels[-1].text == "is not kept"


def test_a_charge_that_is_gone_widens() -> None:
    narrow = ANY.replace("budget any for anything", "budget any for consensus >= 0.25")
    finding = the_widening(ABOVE_TEXT, narrow + ANY.replace("budget any", "budget other"))
    assert "charges to budget `any`" in finding.message


def test_a_deferral_that_is_gone_widens_the_shares() -> None:
    waiting = ABOVE_TEXT + "rule wait when judgments < 3 defer until judgments >= 3 for at most 2 epochs then deny\n"
    messages = [f.message for f in coded(extended(ABOVE_TEXT, above=waiting), "AQ310")]
    assert [message.partition(": ")[2] for message in messages] == ["the share of `surface` and the share of `head`"]


def test_groups_that_are_widened_by_different_observations_are_told_apart() -> None:
    above = ABOVE_TEXT + "rule few when judgments < 3 deny head\n"
    messages = [f.message for f in coded(extended(EXPERTS, above=above), "AQ310") if "the share" in f.message]
    assert [message.partition(": ")[2] for message in messages] == ["the share of `head`"]


def test_a_looser_limit_of_a_budget_widens() -> None:
    finding = the_widening(ABOVE_TEXT, ANY.replace("100 nat", "101 nat"))
    assert "budget `any` has looser limits" in finding.message
    assert "surprisal at most 100 nat per run" in finding.notes[0]


CROWD_TEXT = (
    EXPERTS
    + "rule crowd when authority is crowd and consensus >= 0.75 admit weak\n"
    + "rule shy when authority is crowd limit surface share 0.25\n"
    + "prove never authority is crowd and consensus < 0.5 and consensus > 0.6 and admitted(head) > 0\n"
    + "prove admitted(surface) rises with consensus\n"
    + "prove spent(volunteers) <= 5 nat\n"
)
VOLUNTEERS = (
    "budget volunteers for authority is crowd on surface surprisal at most 5 nat per run, at most 1 nat per update\n"
)


@pytest.mark.parametrize(
    "own",
    [
        "rule none when authority is crowd deny all",
        "rule few when judgments <= 10 deny all",
    ],
    ids=["denies what a rule is about", "denies everything"],
)
def test_what_a_layer_leaves_nothing_to_do_above_is_no_fault_of_its_own(own: str) -> None:
    above = a_policy(CROWD_TEXT, ANY + VOLUNTEERS)
    policy = replace(a_policy(CROWD_TEXT + own, ANY + VOLUNTEERS), extends=above)
    # The proof stands where it was written above: between the texts of the two layers nothing moves but the rest.
    assert all(proof in policy.proofs for proof in above.proofs)
    found = {finding.code for finding in examine(policy, PLAIN).findings if finding.severity != "note"}
    assert found <= {"AQ313"}
    alone = {finding.code for finding in examine(replace(policy, extends=None), PLAIN).findings}
    assert {"AQ304", "AQ306", "AQ309"} <= alone


def test_what_a_layer_writes_itself_is_judged() -> None:
    own = (
        "rule never_so when consensus < 0.25 and consensus > 0.5 deny head\n"
        "rule idle when authority >= expert admit full\n"
        "prove never judgments > 5 and judgments < 2 and admitted(head) > 0\n"
    )
    budgets = (
        ANY + "budget mine for authority is crowd on head surprisal at most 5 nat per run, at most 1 nat per update"
    )
    codes = [f.code for f in extended(ABOVE_TEXT + own, budgets).findings if f.severity != "note"]
    assert codes == ["AQ305", "AQ304", "AQ306", "AQ309"]


def test_an_inherited_proof_that_is_refuted_is_still_found() -> None:
    text = EXPERTS + "prove never authority is crowd and admitted(head) > 0\n"
    finding = coded(extended(text + "rule crowd when authority is crowd admit full", above=text), "AQ308")
    assert len(finding) == 1


def test_inherited_linear_limits_need_no_solver() -> None:
    above = ABOVE_TEXT + "rule echo when review is draft limit head share 1 - 0.5 * consensus\n"
    policy = replace(a_policy(above + "rule more when judgments < 3 deny head\n"), extends=a_policy(above))
    result = examine(policy, replace(PLAIN, solver="bits"))
    assert coded(result, "AQ310") == []
    assert not result.undecided


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_part_of_a_policy_never_widens_unseen(data: st.DataObject) -> None:
    above: Policy = data.draw(policies())
    kept = data.draw(st.sets(st.sampled_from([rule.name for rule in above.rules])))
    rules = tuple(
        replace(rule, overrides=tuple(name for name in rule.overrides if name in kept))
        for rule in above.rules
        if rule.name in kept
    )
    here = replace(above, rules=rules)
    prover = Prover(here, above)
    larger = [way for way in widenings(here, above) if way.what.startswith("the share") and prover.possible(way.query)]
    for observation in data.draw(st.lists(observations(above), max_size=10)):
        one, other = evaluate(here, observation), evaluate(above, observation)
        for group, mine, theirs in zip(here.group_names, one.shares, other.shares, strict=True):
            assert mine <= theirs or f"the share of `{group}`" in [way.what for way in larger]
    for way in larger:
        witness = prover.witness(way.query)
        assert witness is not None
        shares = [evaluate(prover.policies[position], witness).shares for position in (HERE, ABOVE)]
        assert any(mine > theirs for mine, theirs in zip(*shares, strict=True))
