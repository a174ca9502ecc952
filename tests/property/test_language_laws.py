"""Laws of the language that hold for every policy, observation and sequence of steps."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aqpolicy.bundle.tables import EFFECTS, NO_LIMIT, BudgetTable
from aqpolicy.diagnostics import Source
from aqpolicy.model import (
    All,
    Defer,
    Deny,
    LimitShare,
    Numeric,
    Obligation,
    Policy,
    Profile,
    Restriction,
    Rule,
    load_policy,
)
from aqpolicy.semantics import UNDECIDABLE, Decision, Ledger, StepSpending, empty_ledger, evaluate, spend, start_epoch
from aqpolicy.testing import boundary_values, observations, policies, policy_texts
from aqpolicy.units import MICRO

MODEST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def restricted(policy: Policy, restriction: Restriction) -> Policy:
    span = policy.span
    extra = Rule("extra", None, All(()), None, (restriction,), (), span, span, None)
    return replace(policy, rules=(*policy.rules, extra))


def asked(policy: Policy, decision: Decision) -> Counter[tuple[str, Obligation]]:
    """Return what a decision asks of the run; obligations are numbered in the order of the rules."""
    return Counter(policy.obligations[number] for number in decision.obligations)


def one_of_groups(data: st.DataObject, policy: Policy) -> tuple[str, ...]:
    return (data.draw(st.sampled_from(policy.group_names)),)


@MODEST
@given(st.data())
def test_order_of_rules_never_matters(data: st.DataObject) -> None:
    policy = data.draw(policies())
    shuffled = replace(policy, rules=tuple(data.draw(st.permutations(policy.rules))))
    observation = data.draw(observations(policy))
    one, other = evaluate(policy, observation), evaluate(shuffled, observation)
    assert replace(one, rules=(), reason="", obligations=()) == replace(other, rules=(), reason="", obligations=())
    assert set(one.rules) == set(other.rules)
    assert asked(policy, one) == asked(shuffled, other)


@MODEST
@given(st.data())
def test_duplicates_of_rules_never_matter(data: st.DataObject) -> None:
    policy = data.draw(policies())
    twins = tuple(
        replace(rule, name=f"{rule.name}_twin", overrides=(*rule.overrides, *(f"{o}_twin" for o in rule.overrides)))
        for rule in policy.rules
    )
    firsts = tuple(
        replace(rule, overrides=(*rule.overrides, *(f"{o}_twin" for o in rule.overrides))) for rule in policy.rules
    )
    observation = data.draw(observations(policy))
    one, other = evaluate(policy, observation), evaluate(replace(policy, rules=firsts + twins), observation)
    assert (one.effect, one.cause, one.shares, one.norms) == (other.effect, other.cause, other.shares, other.norms)
    assert one.charged == other.charged


@MODEST
@given(st.data())
def test_order_of_statements_never_matters(data: st.DataObject) -> None:
    text = data.draw(policy_texts())
    statements = text.rstrip("\n").split("\n\n")
    other_text = "\n\n".join(data.draw(st.permutations(statements)))
    policy, other = (load_policy(Source("p", each)) for each in (text, other_text))
    observation = data.draw(observations(policy))
    one, two = evaluate(policy, observation), evaluate(other, observation)
    assert (one.effect, one.cause, one.shares, one.norms) == (two.effect, two.cause, two.shares, two.norms)


@MODEST
@given(st.data())
def test_a_further_restriction_never_raises_a_share(data: st.DataObject) -> None:
    policy = data.draw(policies())
    limit = LimitShare(one_of_groups(data, policy), data.draw(st.integers(1, MICRO)), policy.span)
    observation = data.draw(observations(policy))
    before, after = evaluate(policy, observation), evaluate(restricted(policy, limit), observation)
    assert all(left <= was for left, was in zip(after.shares, before.shares, strict=True))
    assert all(left <= was for left, was in zip(after.charged, before.charged, strict=True))
    assert EFFECTS.index(after.effect) <= EFFECTS.index(before.effect)


@MODEST
@given(st.data())
def test_deny_beats_every_grant(data: st.DataObject) -> None:
    policy = data.draw(policies())
    groups = one_of_groups(data, policy)
    span = policy.span
    everything = Profile("everything", (MICRO,) * len(policy.groups), span)
    loud = Rule("loud", None, All(()), everything, (), tuple(r.name for r in policy.rules if r.admit), span, span, span)
    denied = restricted(replace(policy, rules=(*policy.rules, loud)), Deny(groups, None, span))
    decision = evaluate(denied, data.draw(observations(policy)))
    assert decision.shares[policy.group_names.index(groups[0])] == 0


@MODEST
@given(st.data())
def test_a_missing_attribute_denies_with_cause_error(data: st.DataObject) -> None:
    policy = data.draw(policies())
    observation = data.draw(observations(policy))
    del observation[data.draw(st.sampled_from(sorted(observation)))]
    decision = evaluate(policy, observation)
    assert (decision.effect, decision.cause, any(decision.shares), any(decision.charged)) == (
        "deny",
        "error",
        False,
        False,
    )


@MODEST
@given(st.data())
def test_effect_and_cause_say_what_the_shares_say(data: st.DataObject) -> None:
    policy = data.draw(policies())
    decision = evaluate(policy, data.draw(observations(policy)))
    assert (decision.cause == "granted") is any(decision.shares)
    assert (decision.effect in ("admit", "modulate")) is any(decision.shares)
    kinds = {isinstance(policy.obligations[number][1], Defer) for number in decision.obligations}
    assert kinds == {True} if decision.effect == "defer" else kinds <= ({False} if any(decision.shares) else set())
    assert set(decision.rules) <= {rule.name for rule in policy.rules}
    assert decision.reason


@MODEST
@given(st.data())
def test_observations_hold_values_that_their_attributes_can_have(data: st.DataObject) -> None:
    policy = data.draw(policies())
    assert evaluate(policy, data.draw(observations(policy))).reason != UNDECIDABLE
    for attribute in policy.taxonomy.attributes:
        if isinstance(attribute.type, Numeric):
            kind = attribute.type
            values = boundary_values(kind, frozenset({kind.low, kind.high}))
            assert values == tuple(sorted(values))
            assert all(kind.low <= value <= kind.high and value % kind.step == 0 for value in values)


limits = st.one_of(st.just(NO_LIMIT), st.integers(0, 20_000_000))


@st.composite
def budgets(draw: st.DrawFn) -> BudgetTable:
    groups = tuple(draw(st.sets(st.integers(0, 2), min_size=1)))
    exposures = draw(st.sampled_from((NO_LIMIT, 1, 2)))
    exhaust = draw(st.sampled_from(("deny", "defer", "attenuate", "halt")))
    return BudgetTable("b", groups, draw(limits), draw(limits), draw(limits), exposures, exhaust)


shares_of = st.tuples(*[st.one_of(st.just(0), st.just(MICRO), st.integers(0, MICRO))] * 3)


@st.composite
def steps(draw: st.DrawFn, tables: list[BudgetTable]) -> tuple[list[tuple[int, ...]], ...]:
    n = draw(st.integers(1, 5))
    shares = [draw(shares_of) for _ in range(n)]
    applies = [[draw(st.booleans()) for _ in tables] for _ in range(n)]
    charged = [
        tuple(max(row[g] for g in b.groups) if yes else 0 for b, yes in zip(tables, some, strict=True))
        for row, some in zip(shares, applies, strict=True)
    ]
    surprisals = [draw(st.one_of(st.none(), st.integers(0, 9_000_000), st.just(2**31 - 1))) for _ in range(n)]
    keys = [draw(st.sampled_from((b"x", b"y", b"z"))) for _ in range(n)]
    return shares, charged, surprisals, keys  # type: ignore[return-value]  # four columns of one batch


def assert_kept(tables: list[BudgetTable], ledger: Ledger) -> None:
    for table, spent in zip(tables, ledger, strict=True):
        assert table.per_run == NO_LIMIT or spent.run <= table.per_run
        assert table.per_epoch == NO_LIMIT or spent.epoch <= table.per_epoch
        assert table.exposures == NO_LIMIT or all(count <= table.exposures for count in spent.exposures.values())


@MODEST
@given(st.data())
def test_no_sequence_of_steps_overspends_a_budget(data: st.DataObject) -> None:
    tables = data.draw(st.lists(budgets(), min_size=1, max_size=3))
    ledger = empty_ledger(tables)
    for _ in range(data.draw(st.integers(1, 4))):
        ledger = start_epoch(ledger) if data.draw(st.booleans()) else ledger
        ledger = spend(tables, ledger, *data.draw(steps(tables))).ledger
        assert_kept(tables, ledger)


@MODEST
@given(st.data())
def test_spending_never_raises_a_share_and_books_what_it_says(data: st.DataObject) -> None:
    tables = data.draw(st.lists(budgets(), min_size=1, max_size=3))
    shares, charged, surprisals, keys = data.draw(steps(tables))
    done: StepSpending = spend(tables, empty_ledger(tables), shares, charged, surprisals, keys)
    for row, outcome in zip(shares, done.outcomes, strict=True):
        assert all(0 <= left <= was for left, was in zip(outcome.shares, row, strict=True))
    assert [spent.run for spent in done.ledger] == [
        sum(outcome.charges[b] for outcome in done.outcomes) for b in range(len(tables))
    ]
    for b, table in enumerate(tables):
        if table.per_update != NO_LIMIT:
            assert all(outcome.charges[b] <= table.per_update for outcome in done.outcomes)
