"""AQ308: `prove never` statements that some observation refutes."""

from __future__ import annotations

from collections.abc import Iterator

from aqpolicy.analysis.prover import Prover
from aqpolicy.analysis.question import Question, confirm, replay, shares_text
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.model.policy import Policy, Prove
from aqpolicy.semantics import holds


def questions(policy: Policy) -> Iterator[Question]:
    """Ask of every `prove` statement whether it holds."""
    for proof in policy.proofs:

        def findings(prover: Prover, proof: Prove = proof) -> Iterator[Diagnostic]:
            return refuted(prover, proof)

        yield Question(f"never {proof.text}", proof.span, findings)


def refuted(prover: Prover, proof: Prove) -> Iterator[Diagnostic]:
    """Yield a finding if an observation and its decision do what must never be.

    Unsat iff no observation satisfies the statement's condition together with
    the decision that the policy makes on it.
    """
    witness = prover.witness(prover.encoding.condition(proof.never))
    if witness is None:
        return
    decision = replay(prover, witness)
    admitted = dict(zip(prover.policy.group_names, decision.shares, strict=True))
    confirm(holds(proof.never, witness, admitted), f"`{proof.text}` is refuted")
    applying = [rule for rule in prover.policy.rules if rule.name in decision.rules]
    yield Diagnostic(
        code="AQ308",
        severity="error",
        message="a `prove` statement is refuted: this can happen",
        labels=(
            Label(proof.span, "must never hold, but does"),
            *(Label(rule.span, "applies to the witness") for rule in applying),
        ),
        notes=(f"the decision is: {shares_text(prover.policy.group_names, decision.shares)}; {decision.reason}",),
        help=("restrict the rules that apply, or correct the statement",),
        witness=prover.encoding.domain.text(witness),
    )
