"""Evaluator, solver and mask tables are three writings of one meaning; they must agree everywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aqpolicy.analysis import Prover, examine
from aqpolicy.bundle import NO_LIMIT, Tables
from aqpolicy.compiler import compile_tables, compile_with_examples
from aqpolicy.diagnostics import Source
from aqpolicy.errors import InternalError
from aqpolicy.model import load_policy
from aqpolicy.model.policy import Policy
from aqpolicy.pipeline import validate
from aqpolicy.semantics import evaluate
from aqpolicy.shipped import shipped_folder
from aqpolicy.testing import observations, policies

MODEST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def assert_same(policy: Policy, tables: Tables, prover: Prover, observation: dict[str, str | int]) -> None:
    row, decision = tables.rows[tables.row_of(observation)], evaluate(policy, observation)
    norms = tuple(NO_LIMIT if norm is None else norm for norm in decision.norms)
    assert (row.effect, row.cause, row.rules) == (decision.effect, decision.cause, decision.rules)
    assert (row.shares, row.norms, row.charged) == (decision.shares, norms, decision.charged)
    assert row.cause == "error" or row.reason == decision.reason
    solved = prover.decide(observation)
    assert (solved.shares, solved.norms, solved.charged) == (decision.shares, norms, decision.charged)


@MODEST
@given(st.data())
def test_all_three_agree_on_generated_observations(data: st.DataObject) -> None:
    policy = data.draw(policies())
    tables, prover = compile_tables(policy), Prover(policy)
    for observation in data.draw(st.lists(observations(policy), min_size=1, max_size=8)):
        assert_same(policy, tables, prover, observation)


@MODEST
@given(policies())
def test_all_three_agree_on_every_kind_of_observation(policy: Policy) -> None:
    compilation, prover = compile_with_examples(policy), Prover(policy)
    for observation in list(compilation.examples.values())[:40]:
        assert_same(policy, compilation.tables, prover, dict(observation))


@MODEST
@given(st.data())
def test_evaluator_and_tables_agree_on_what_is_no_observation(data: st.DataObject) -> None:
    policy = data.draw(policies())
    observation: dict[str, object] = dict(data.draw(observations(policy)))
    name = data.draw(st.sampled_from(sorted(observation)))
    observation[name] = data.draw(st.sampled_from([None, "", "nothing", -(10**15), 10**15, 0.5, True, b"x", []]))
    tables = compile_tables(policy)
    row, decision = tables.rows[tables.row_of(observation)], evaluate(policy, observation)
    assert (row.cause, row.effect, row.shares) == (decision.cause, decision.effect, decision.shares)
    assert row.cause == "error"


@MODEST
@given(policies())
def test_every_witness_replays(policy: Policy) -> None:
    # `examine` raises InternalError for a witness that the evaluator does not confirm.
    assert not examine(policy).undecided


@MODEST
@given(st.data())
def test_a_policy_without_conflict_never_decides_error(data: st.DataObject) -> None:
    policy = data.draw(policies())
    conflicts = [finding for finding in examine(policy).findings if finding.code == "AQ301"]
    causes = {row.cause for row in compile_tables(policy).rows[1:]}
    assert ("error" in causes) is bool(conflicts)


def test_validation_notices_a_wrong_table() -> None:
    path = shipped_folder("policies") / "examples" / "radiology" / "policy.aqp"
    policy = load_policy(Source("policy.aqp", path.read_text(encoding="utf-8")))
    compilation = compile_with_examples(policy)
    rows = list(compilation.tables.rows)
    rows[-1] = replace(rows[-1], norms=(1,) * len(rows[-1].norms))
    wrong = replace(compilation, tables=replace(compilation.tables, rows=tuple(rows)))
    with pytest.raises(InternalError, match="disagree"):
        validate(policy, wrong)
    validate(policy, compilation)
