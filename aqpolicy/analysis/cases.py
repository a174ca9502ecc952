"""AQ319: test cases, decided for every observation that they are given."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from aqpolicy.analysis.guards import clash
from aqpolicy.analysis.nevers import satisfied
from aqpolicy.analysis.observation import Observation
from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.analysis.query import And, Negated, Query, effect, named, on_decision
from aqpolicy.analysis.question import Question, confirm, policies_of, replay
from aqpolicy.analysis.wording import MOST_REGIONS, decision_text, quoted, region_notes
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.model.policy import Case, Expectation, Policy
from aqpolicy.semantics import Decision


def questions(policy: Policy, case: Case) -> Iterator[Question]:
    """Ask whether a case is given anything, and of every expectation whether all that it is given meets it."""
    given = on_decision(case.given, policy)
    claim = f"test `{case.title}` is given something"
    yield Question(
        claim, case.span, partial(nothing_given, case=case), (Obligation(claim, policies_of(policy), given, "sat"),)
    )
    for expectation in case.expectations:
        claim = f"test `{case.title}`: {expectation.text}"
        obligation = Obligation(claim, policies_of(policy), _violation(policy, case, expectation))
        yield Question(claim, expectation.span, partial(violated, case=case, expectation=expectation), (obligation,))


def _violation(policy: Policy, case: Case, expectation: Expectation) -> Query:
    """Ask for an observation that is given and does not get what is expected."""
    return And((on_decision(case.given, policy), Negated(_expected(policy, expectation))))


def _expected(policy: Policy, expectation: Expectation) -> Query:
    rules = {rule.name: rule for rule in policy.rules}
    wanted = [] if expectation.effect is None else [effect(expectation.effect, policy)]
    return And(
        (*wanted, *(named(rules[name]) for name in expectation.rules), on_decision(expectation.condition, policy))
    )


def nothing_given(prover: Prover, case: Case) -> Iterator[Diagnostic]:
    """Yield a finding if no observation is what a case is given.

    Sat iff some observation is.
    """
    if not prover.possible(on_decision(case.given, prover.policies[0])):
        yield Diagnostic(
            code="AQ319",
            severity="error",
            message=f"test `{case.title}` tests nothing: no observation satisfies what it is given",
            labels=clash(prover, case.given) or (Label(case.span, "given nothing"),),
            help=("correct what is given",),
        )


def violated(prover: Prover, case: Case, expectation: Expectation) -> Iterator[Diagnostic]:
    """Yield a finding if some observation that is given does not get what is expected.

    Unsat iff every one does.
    """
    policy = prover.policies[0]
    query = _violation(policy, case, expectation)
    witness = prover.witness(query)
    if witness is None:
        return
    decision = replay(prover, witness)
    confirm(not _met(policy, expectation, witness, decision), f"test `{case.title}` fails")
    deciding = [rule for rule in policy.rules if rule.name in decision.rules]
    yield Diagnostic(
        code="AQ319",
        severity="error",
        message=f"test `{case.title}` fails: {decision_text(policy, decision)}",
        labels=(
            Label(expectation.span, "not what is decided"),
            *(Label(rule.span, "decides the witness") for rule in deciding),
        ),
        notes=(
            f"decided by {quoted(decision.rules)}" if decision.rules else "no rule decides",
            *region_notes(prover.regions(query, MOST_REGIONS + 1), "this happens"),
        ),
        help=("correct the rules, narrow what is given, or correct what is expected",),
        witness=prover.text(witness),
    )


def _met(policy: Policy, expectation: Expectation, witness: Observation, decision: Decision) -> bool:
    """Say whether a decision is what was expected, by the evaluator."""
    effect_met = expectation.effect in (None, decision.effect)
    rules_met = set(expectation.rules) <= set(decision.rules)
    return effect_met and rules_met and satisfied(policy, expectation.condition, witness, decision)
