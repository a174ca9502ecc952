"""AQ308 and AQ309: `prove never` statements that are refuted, or hold without saying anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from aqpolicy.analysis.guards import clash
from aqpolicy.analysis.inheritance import is_own
from aqpolicy.analysis.observation import Observation
from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.analysis.query import And, Holds, Query, on_decision
from aqpolicy.analysis.question import Question, confirm, policies_of, replay
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.analysis.wording import MOST_REGIONS, decision_text, region_notes
from aqpolicy.diagnostics import Diagnostic, Label, Span
from aqpolicy.model.policy import Admitted, All, Any, Charged, Condition, Never, Not, Policy
from aqpolicy.semantics import Decision, holds


def questions(policy: Policy, _settings: CheckSettings) -> Iterator[Question]:
    """Ask of every `prove never` statement whether it holds, and whether it could have failed."""
    for proof in (proof for proof in policy.proofs if isinstance(proof, Never)):
        claim = f"never {proof.text}"
        obligation = Obligation(claim, policies_of(policy), on_decision(proof.never, policy))
        yield Question(claim, proof.span, partial(findings, proof=proof), (obligation,))


def findings(prover: Prover, proof: Never) -> Iterator[Diagnostic]:
    """Yield a finding if an observation and its decision do what must never be, or never could.

    Unsat iff no observation satisfies the statement's condition together with the
    decision that the policy makes on it.
    """
    query = on_decision(proof.never, prover.policies[0])
    witness = prover.witness(query)
    if witness is None:
        yield from vacuous(prover, proof) if is_own(prover.policies[0], proof) else ()
        return
    decision = replay(prover, witness)
    confirm(satisfied(prover.policies[0], proof.never, witness, decision), f"`{proof.text}` is refuted")
    yield _refuted(prover, proof, query, witness)


def satisfied(policy: Policy, condition: Condition, witness: Observation, decision: Decision) -> bool:
    """Say whether a condition is true of an observation and its decision."""
    admitted = dict(zip(policy.group_names, decision.shares, strict=True))
    charged = {budget.name: share for budget, share in zip(policy.budgets, decision.charged, strict=True)}
    return holds(condition, witness, admitted, charged)


def _refuted(prover: Prover, proof: Never, query: Query, witness: Observation) -> Diagnostic:
    policy, decision = prover.policies[0], replay(prover, witness)
    applying = [rule for rule in policy.rules if rule.name in decision.rules]
    return Diagnostic(
        code="AQ308",
        severity="error",
        message="a `prove` statement is refuted: this can happen",
        labels=(
            Label(proof.span, "must never hold, but does"),
            *(Label(rule.span, "applies to the witness") for rule in applying),
        ),
        notes=(
            f"the decision is: {decision_text(policy, decision)}",
            *region_notes(prover.regions(query, MOST_REGIONS + 1), "it happens"),
        ),
        help=("restrict the rules that apply, or correct the statement",),
        witness=prover.text(witness),
    )


def vacuous(prover: Prover, proof: Never) -> Iterator[Diagnostic]:
    """Yield a warning if what a statement speaks of never happens, whatever the policy decides.

    Of a condition that joins several, those on the observation and those on the decision
    are asked apart: where the first never hold there is no such observation, where the
    second never do no observation is ever decided so.
    """
    terms = proof.never.terms if isinstance(proof.never, All) else (proof.never,)
    asked = [(term, on_decision(term, prover.policies[0])) for term in terms]
    plain = All(tuple(term for term, query in asked if isinstance(query, Holds)))
    decided = [(term, query) for term, query in asked if not isinstance(query, Holds)]
    if plain.terms and not prover.possible(Holds(plain)):
        note = "no observation satisfies what it says of the observation"
        yield _vacuous(proof, "speaks of observations that do not exist", clash(prover, plain), note)
    elif plain.terms and decided and not prover.possible(And(tuple(query for _, query in decided))):
        labels = [Label(spot, "is never decided") for term, _ in decided for spot in _decisions(term)]
        note = "no decision satisfies what it says of the decision, for this observation or any other"
        yield _vacuous(proof, "would hold for all observations", labels, note)


def _decisions(condition: Condition) -> Iterator[Span]:
    """Yield where a condition asks for the decision."""
    if isinstance(condition, Not):
        yield from _decisions(condition.term)
    elif isinstance(condition, All | Any):
        for term in condition.terms:
            yield from _decisions(term)
    elif isinstance(condition, Admitted | Charged):
        yield condition.span


def _vacuous(proof: Never, why: str, parts: Sequence[Label], note: str) -> Diagnostic:
    return Diagnostic(
        code="AQ309",
        severity="warning",
        message="a `prove` statement holds vacuously",
        labels=(*parts, Label(proof.span, why)),
        notes=(note,),
        help=("correct the statement so that it says what was meant, or take it away",),
    )
