"""What the checks hand to the checker: claims about a policy, each with a way to refute it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aqpolicy.analysis.observation import Observation
from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.diagnostics import Diagnostic, Span
from aqpolicy.errors import InternalError
from aqpolicy.model.policy import Policy
from aqpolicy.semantics import Decision, evaluate


@dataclass(frozen=True, slots=True)
class Question:
    """A claim about a policy; `findings` yields what refutes it, nothing if it is proved."""

    claim: str
    span: Span
    findings: Callable[[Prover], Iterator[Diagnostic]]
    obligations: tuple[Obligation, ...] = ()
    """What was asked of the solver for it, where that is known beforehand."""


def policies_of(policy: Policy) -> tuple[Policy, ...]:
    """Return what questions about a policy speak of by position: itself, then the policy that it extends."""
    return (policy,) if policy.extends is None else (policy, policy.extends)


def replay(prover: Prover, observation: Observation, position: int = 0) -> Decision:
    """Return the reference evaluator's decision on a witness."""
    return evaluate(prover.policies[position], observation)


def confirm(shown: bool, claim: str) -> None:
    """Stop where the evaluator does not show what was found; one of the two is wrong.

    Raises:
        InternalError: The witness does not replay.
    """
    if not shown:
        raise InternalError(f"prover and evaluator disagree on whether {claim}")
