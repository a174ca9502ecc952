"""Evaluator, solver, mask tables and the gate's row are writings of one meaning; they must agree everywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.meanings import Meanings

from aqpolicy.analysis import examine
from aqpolicy.bundle import Tables
from aqpolicy.compiler import compile_tables, compile_with_examples
from aqpolicy.diagnostics import Source
from aqpolicy.errors import InternalError
from aqpolicy.model import load_policy
from aqpolicy.model.policy import Policy
from aqpolicy.pipeline import validate
from aqpolicy.semantics import evaluate
from aqpolicy.shipped import shipped_folder
from aqpolicy.testing import observations, policies

MODEST = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
SOME, MANY = (settings(MODEST, max_examples=count, database=None, phases=[Phase.generate]) for count in (250, 2_000))


@pytest.mark.parametrize("many", [SOME, pytest.param(MANY, marks=pytest.mark.long)], ids=["hundreds", "thousands"])
def test_all_forms_agree_on_many_generated_policies(many: settings) -> None:
    # `make night` runs many more of the same.
    @many
    @given(st.data())
    def agree(data: st.DataObject) -> None:
        policy = data.draw(policies())
        drawn = data.draw(st.lists(observations(policy), min_size=1, max_size=4))
        assert Meanings(policy).disagreement(drawn) is None

    agree()


@MODEST
@given(policies())
def test_all_forms_agree_on_every_kind_of_observation(policy: Policy) -> None:
    meanings = Meanings(policy)
    assert meanings.disagreement([dict(o) for o in list(meanings.compilation.examples.values())[:40]]) is None


@MODEST
@given(st.data())
def test_evaluator_and_tables_agree_on_what_is_no_observation(data: st.DataObject) -> None:
    policy = data.draw(policies())
    observation: dict[str, object] = dict(data.draw(observations(policy)))
    name = data.draw(st.sampled_from(sorted(observation)))
    observation[name] = data.draw(st.sampled_from([None, "", "nothing", -(10**15), 10**17, 0.5, True, b"x", []]))
    tables = compile_tables(policy)
    row, decision = tables.decide(observation), evaluate(policy, observation)
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


def shipped() -> tuple[Policy, Tables]:
    path = shipped_folder("policies") / "examples" / "radiology" / "policy.aqp"
    policy = load_policy(Source("policy.aqp", path.read_text(encoding="utf-8")))
    return policy, compile_tables(policy)


def test_validation_notices_a_wrong_table() -> None:
    policy, _ = shipped()
    compilation = compile_with_examples(policy)
    rows = list(compilation.tables.rows)
    rows[-1] = replace(rows[-1], norms=(1,) * len(rows[-1].norms))
    wrong = replace(compilation, tables=replace(compilation.tables, rows=tuple(rows)))
    with pytest.raises(InternalError, match="disagree"):
        validate(policy, wrong)
    validate(policy, compilation)
