"""The account of a decision tells what the evaluator decides, for every policy and observation."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aqpolicy.analysis.observation import observation_text
from aqpolicy.diagnostics import Source
from aqpolicy.model import gather, resolve_stack
from aqpolicy.semantics import evaluate, holds
from aqpolicy.syntax import parse
from aqpolicy.testing import observations, policy_texts
from aqpolicy.trial import Faults, account_of, read_observation
from aqpolicy.trial.marks import ALL, ANY, Mark

MODEST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def agrees(mark: Mark) -> bool:
    """Say whether every mark follows from the marks below it."""
    truths = [part.holds for part in mark.parts]
    expected = {ALL: all(truths), ANY: any(truths), "not": truths != [True]}.get(mark.text)
    if mark.defined is not None:
        expected = truths[0]
    return expected in (None, mark.holds) and all(agrees(part) for part in mark.parts)


@MODEST
@given(st.data())
def test_marks_and_rules_are_those_of_the_evaluator(data: st.DataObject) -> None:
    source = Source("drawn.aqp", data.draw(policy_texts()))
    stack = gather(parse(source), source)
    policy = resolve_stack(stack)
    observation = data.draw(observations(policy))
    account, decision = account_of(policy, stack, observation), evaluate(policy, observation)
    assert account.decision == decision
    for told, rule in zip(account.rules, policy.rules, strict=True):
        assert told.applies is told.condition.holds is holds(rule.when, observation)
        assert agrees(told.condition)
        assert told.decides is (rule.name in decision.rules)
        assert len(told.effects) == told.applies * (len(rule.restrictions) + (rule.admit is not None))
        # An overridden grant that restricts nothing is the only rule that applies and does not decide.
        if told.applies:
            assert told.decides is (not told.overridden_by or bool(rule.restrictions))
    assert len(account.obligations) == len(decision.obligations)


@MODEST
@given(st.data())
def test_what_is_shown_of_an_observation_reads_back(data: st.DataObject) -> None:
    source = Source("drawn.aqp", data.draw(policy_texts()))
    policy = resolve_stack(gather(parse(source), source))
    observation = data.draw(observations(policy))
    faults = Faults()
    assert read_observation(policy, observation_text(policy.attributes, observation), faults) == observation
    assert faults.found == []
