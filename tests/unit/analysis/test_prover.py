"""Questions to the prover: both back-ends, witnesses, scripts, and when the solver is loaded at all."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.checking import ANY, EXPERTS, HEAD, PLAIN, a_policy, examined

from aqpolicy.analysis import Obligation, Prover, examine, smt2
from aqpolicy.analysis.query import And, Applies, Exceeds, Holds, Negated, Or, Over, Stands, charged_over, on_decision
from aqpolicy.errors import AnalysisError, InputError, InternalError
from aqpolicy.model.policy import Admitted, All, Atom
from aqpolicy.semantics import evaluate

ROOT = Path(__file__).resolve().parents[3]
LINEAR = (
    EXPERTS
    + "rule one when consensus < 0.5 limit head share 1 - 0.5 * consensus\n"
    + "rule other when judgments > 3 limit head share 0.25 + 0.5 * consensus\n"
)


@pytest.mark.parametrize("solver", ["bits", "z3"])
class TestWitnesses:
    def test_the_least_observation_is_found(self, solver: str) -> None:
        prover = Prover(a_policy(EXPERTS + "rule low when consensus <= 0.5 deny head"), solver=solver)  # type: ignore[arg-type]
        assert prover.witness(Over("head", 0)) == {
            "authority": "expert",
            "review": "draft",
            "consensus": 500_001,
            "judgments": 0,
        }

    def test_where_there_is_none_nothing_is_found(self, solver: str) -> None:
        prover = Prover(a_policy(EXPERTS), solver=solver)  # type: ignore[arg-type]
        assert prover.witness(And((Applies("experts"), Negated(Stands("experts"))))) is None
        assert not prover.possible(Or(()))
        assert prover.possible(And(()))

    def test_shares_that_move_with_an_attribute_are_exact(self, solver: str) -> None:
        prover = Prover(a_policy(LINEAR), solver=solver)  # type: ignore[arg-type]
        witness = prover.witness(And((Over("head", 0), Negated(Over("head", 750_000)), Negated(Applies("other")))))
        assert witness == {"authority": "expert", "review": "draft", "consensus": 499_999, "judgments": 0} | (
            witness or {}
        )
        assert witness is None or evaluate(a_policy(LINEAR), witness).shares[1] <= 750_000


def test_two_linear_shares_are_the_solvers_business() -> None:
    old, new = a_policy(LINEAR), a_policy(LINEAR.replace("1 - 0.5", "1 - 0.25"))
    with pytest.raises(AnalysisError):
        Prover(old, new, solver="bits").possible(Exceeds("head", 1, 0))
    assert Prover(old, new).possible(Exceeds("head", 1, 0))
    assert not Prover(old, new).possible(Exceeds("head", 0, 1))


def test_conditions_on_decisions_become_questions() -> None:
    policy = a_policy(EXPERTS)
    span = policy.span
    plain = Atom("consensus", "<", 500_000, span)
    asked = on_decision(All((plain, Admitted("head", ">", 0, span))), policy)
    assert asked == And((Holds(plain), Over("head", 0)))
    assert on_decision(Admitted("head", ">=", 0, span), policy) == And(())
    assert on_decision(Admitted("head", "<", 0, span), policy) == Negated(And(()))
    assert charged_over(policy.budgets[0], 0) != charged_over(policy.budgets[0], 1)


def test_policies_must_agree_on_what_they_share() -> None:
    other = a_policy(EXPERTS, head=HEAD.replace("integer 0..10", "integer 0..11"))
    with pytest.raises(InputError, match="judgments"):
        Prover(a_policy(EXPERTS), other)


def test_the_solver_decides_like_the_evaluator() -> None:
    policy = a_policy(LINEAR + "rule wait when judgments is 0 defer until judgments > 0 for at most 1 epochs then deny")
    for judgments in (0, 1_000_000, 4_000_000):
        observation: dict[str, str | int] = {
            "authority": "expert",
            "review": "draft",
            "consensus": 333_333,
            "judgments": judgments,
        }
        solved, decision = Prover(policy).decide(observation), evaluate(policy, observation)
        assert (solved.shares, solved.charged) == (decision.shares, decision.charged)
        assert solved.obligations == decision.obligations


def test_what_is_no_observation_is_a_fault() -> None:
    with pytest.raises(InternalError):
        Prover(a_policy(EXPERTS)).decide(
            {"authority": "expert", "review": "draft", "consensus": -1, "judgments": 0},
        )


# ---- Scripts


def test_every_obligation_is_a_script_that_is_decided_as_expected() -> None:
    import z3

    text = (
        LINEAR
        + "rule wait when consensus > 0.75 defer until judgments > 3 for at most 1 epochs then deny\n"
        + "prove never authority is crowd and admitted(head) > 0\nprove admitted(surface) rises with authority\n"
        + "prove spent(any) <= 100 nat\nprove spent(part) <= 12 nat given steps <= 2, examples <= 1\n"
        + "budget part for consensus < 0.5 on head within any "
        + "surprisal at most 15 nat per run, at most 6 nat per update"
    )
    result = examined(text + "\ncomplete\nrule rest when authority is crowd deny all")
    assert [finding.message for finding in result.findings if finding.severity == "error"] == []
    assert len(result.obligations) > 20
    for obligation in result.obligations:
        script = smt2(obligation)
        assert script.startswith(f"; {obligation.name}\n; of test 1.0.0")
        assert f"; proved by the answer: {obligation.expected}\n" in script
        assert script.count("(set-logic QF_LIA)") == 1
        assert script.rstrip().endswith("(check-sat)")
        solver = z3.Solver()
        solver.from_string(script)
        answer = str(solver.check())
        assert answer == obligation.expected, obligation.name


def test_a_refuted_claim_is_answered_the_other_way() -> None:
    import z3

    policy = a_policy(EXPERTS + "rule hints when consensus > 0.25 admit weak")
    conflict = next(o for o in examine(policy, PLAIN).obligations if o.name == "no two grants conflict")
    solver = z3.Solver()
    solver.from_string(smt2(conflict))
    assert str(solver.check()) == "sat"


def test_scripts_are_the_same_every_time() -> None:
    policy = a_policy(LINEAR)
    obligation = Obligation("something", (policy,), Over("head", 250_000), "sat")
    assert smt2(obligation) == smt2(replace(obligation, policies=(a_policy(LINEAR),)))


# ---- What is loaded


def test_a_policy_that_bit_sets_decide_never_loads_the_solver(tmp_path: Path) -> None:
    file = tmp_path / "policy.aqp"
    file.write_text(HEAD + EXPERTS + "prove never authority is crowd and admitted(head) > 0" + ANY, encoding="utf-8")
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from aqpolicy.analysis import compare, examine, nearest, run_cases\n"
        "from aqpolicy.diagnostics import Source\nfrom aqpolicy.model import load_policy\n"
        f"policy = load_policy(Source('policy.aqp', Path({str(file)!r}).read_text(encoding='utf-8')))\n"
        "assert not examine(policy).undecided\nrun_cases(policy)\ncompare(policy, policy)\n"
        "print('z3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
