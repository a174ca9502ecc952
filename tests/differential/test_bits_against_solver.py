"""Bit sets and solver answer the same questions alike, down to the witness, and as the evaluator decides."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aqpolicy.analysis import CheckSettings, Deciders, Prover, examine
from aqpolicy.analysis.copies import other_name, second
from aqpolicy.analysis.query import (
    And,
    Applies,
    Before,
    Bounded,
    Conflict,
    Deferred,
    Exceeds,
    LeftOver,
    Matters,
    Over,
    Owes,
    Query,
    Stands,
    charged_over,
    effect,
    on_decision,
)
from aqpolicy.diagnostics import Source
from aqpolicy.errors import AnalysisError
from aqpolicy.model import Category, Policy, load_policy
from aqpolicy.model.policy import Never
from aqpolicy.semantics import evaluate
from aqpolicy.testing import observations, policies

MODEST = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))

EFFECTS = ("deny", "defer", "modulate", "admit")


def queries(policy: Policy) -> Iterator[Query]:
    """Yield questions of every kind about one policy."""
    yield from (Over(g, amount) for g in policy.group_names for amount in (0, 1, 249_999, 500_000, 999_999, 1_000_000))
    yield from (Bounded(group, norm) for group in policy.group_names for norm in (0, 10_000, 1_000_000))
    yield from (leaf(rule.name) for rule in policy.rules for leaf in (Applies, Matters))
    yield from (Stands(rule.name) for rule in policy.rules if rule.admit is not None)
    yield from (Owes(number) for number in range(len(policy.obligations)))
    yield from (Conflict(), LeftOver(), Deferred())
    yield from (effect(word, policy) for word in EFFECTS)
    yield from (charged_over(budget, 250_000) for budget in policy.budgets)
    yield from (on_decision(proof.never, policy) for proof in policy.proofs if isinstance(proof, Never))


def assert_alike(query: Query, *asked: Policy) -> None:
    try:
        found = Prover(*asked, solver="bits").witness(query)
    except AnalysisError:
        return  # undecided is no answer, so there is nothing to compare
    assert found == Prover(*asked, solver="z3").witness(query)


@MODEST
@given(policies())
def test_both_find_the_same_least_observation(policy: Policy) -> None:
    bits, solver = Prover(policy, solver="bits"), Prover(policy, solver="z3")
    for query in queries(policy):
        try:
            found = bits.witness(query)
        except AnalysisError:
            continue
        assert found == solver.witness(query), query


@MODEST
@given(st.data())
def test_both_compare_two_policies_alike(data: st.DataObject) -> None:
    policy = data.draw(policies())
    group = data.draw(st.sampled_from(policy.group_names))
    attribute = data.draw(st.sampled_from([a.name for a in policy.attributes]))
    other = second(policy, (attribute,))
    kind = next(a.type for a in policy.attributes if a.name == attribute)
    if not isinstance(kind, Category) or kind.ordered > 1:
        assert_alike(And((Before(attribute, other_name(attribute)), Exceeds(group, 0, 1))), policy, other)
    assert_alike(Exceeds(group, 1, 0), policy, other)


@MODEST
@given(st.data())
def test_effects_partition_what_the_evaluator_decides(data: st.DataObject) -> None:
    policy = data.draw(policies())
    prover = Prover(policy)
    possible = {word for word in EFFECTS if prover.possible(effect(word, policy))}
    seen = {evaluate(policy, o).effect for o in data.draw(st.lists(observations(policy), max_size=8))}
    assert seen <= possible
    for word in possible:
        witness = prover.witness(effect(word, policy))
        assert witness is not None
        assert evaluate(policy, witness).effect == word


@settings(MODEST, max_examples=15)
@given(policies())
def test_both_check_a_policy_alike(policy: Policy) -> None:
    first = examine(policy)
    solved = examine(policy, CheckSettings(solver="z3"))
    assert [(f.code, f.message, f.witness) for f in first.findings] == [
        (f.code, f.message, f.witness) for f in solved.findings
    ]
    assert first.proved == solved.proved


def test_a_grant_that_hands_on_an_override_matters_where_it_does_not_apply() -> None:
    text = """
    policy chain.of_overrides version 1.0.0
    taxonomy t version 1 { authority crowd < expert }
    depth from input { all_of_it = modules "a" }
    profile none { all 0 }
    profile full { all 1 }
    rule lowest "Low" when authority is expert admit none
    rule middle "Middle" when authority is crowd admit none overrides lowest
    rule crowd "Crowd" when authority is crowd admit none
    rule highest "High" when authority is expert admit full overrides middle
    otherwise deny because "no"
    """
    policy = load_policy(Source("chain.aqp", text))
    deciders: tuple[Deciders, ...] = ("bits", "z3")
    for solver in deciders:
        assert Prover(policy, solver=solver).witness(Matters("middle")) == {"authority": "expert"}
