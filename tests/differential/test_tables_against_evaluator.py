"""The tables decide as the evaluator does, over the whole language, one by one and in batches."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.whole_policies import whole_observations, whole_policies

from aqpolicy.bundle import NO_LIMIT, Bundle, Classifier, Row, decode_bundle, encode_bundle
from aqpolicy.compiler import compile_tables, compile_with_examples
from aqpolicy.gate.accounts.classify import BatchClassifier
from aqpolicy.model.policy import Category, Policy
from aqpolicy.semantics import Decision, evaluate

WIDE = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def as_row(decision: Decision) -> Row:
    norms = tuple(NO_LIMIT if norm is None else norm for norm in decision.norms)
    return Row(
        decision.effect,
        decision.cause,
        decision.shares,
        norms,
        decision.charged,
        decision.rules,
        decision.reason,
        obligations=decision.obligations,
    )


@WIDE
@given(whole_policies(), st.lists(whole_observations, min_size=1, max_size=8))
def test_tables_decide_as_the_evaluator(policy: Policy, observations: list[dict[str, str | int]]) -> None:
    tables = compile_tables(policy)
    for observation in observations:
        assert tables.decide(observation) == as_row(evaluate(policy, observation))


@WIDE
@given(whole_policies())
def test_rows_say_before_linear_limits_what_remains_after_them(policy: Policy) -> None:
    compilation = compile_with_examples(policy)
    for observation in list(compilation.examples.values())[:40]:
        row, decided = compilation.tables.rows[compilation.tables.row_of(observation)], evaluate(policy, observation)
        assert (row.cause, row.reason, row.rules) == (decided.cause, decided.reason, decided.rules)
        assert row.obligations == decided.obligations
        assert [share > 0 for share in row.shares] == [share > 0 for share in decided.shares]


@WIDE
@given(whole_policies(), st.lists(whole_observations, min_size=1, max_size=8), st.data())
def test_both_classifiers_find_the_row(
    policy: Policy, observations: list[dict[str, str | int]], data: st.DataObject
) -> None:
    tables = compile_tables(policy)
    wrong = st.sampled_from([None, -1, 10**15, 500_001, -(2**63), "nobody"])
    for observation in observations[1:]:
        observation[data.draw(st.sampled_from(sorted(observation)))] = data.draw(wrong)
    expected = [tables.row_of(observation) for observation in observations]
    classify, names = Classifier(tables), [table.name for table in tables.attributes]
    assert [classify([observation[name] for name in names]) for observation in observations] == expected
    columns = [
        torch.tensor([_number(attribute.type, observation[attribute.name]) for observation in observations])
        for attribute in policy.attributes
    ]
    assert BatchClassifier(tables)(columns).tolist() == expected


def _number(kind: object, value: object) -> int:
    if isinstance(kind, Category):
        return kind.values.index(value) if value in kind.values else -1
    return value if isinstance(value, int) else -1


@WIDE
@given(whole_policies())
def test_compiled_tables_travel(policy: Policy) -> None:
    bundle = Bundle(compile_tables(policy), "p", "1.0.0", "t@1", ((), (), ()), {}, {}, ())
    assert replace(decode_bundle(encode_bundle(bundle)), digest=b"") == bundle
