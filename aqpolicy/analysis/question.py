"""What the checks hand to the checker: claims about a policy, each with a way to refute it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aqpolicy.analysis.domain import Value
from aqpolicy.analysis.prover import Prover
from aqpolicy.diagnostics import Diagnostic, Span
from aqpolicy.errors import InternalError
from aqpolicy.semantics import Decision, evaluate
from aqpolicy.units import micro_text


@dataclass(frozen=True, slots=True)
class Question:
    """A claim about a policy; `findings` yields what refutes it, nothing if it is proved."""

    claim: str
    span: Span
    findings: Callable[[Prover], Iterator[Diagnostic]]


def replay(prover: Prover, observation: dict[str, Value]) -> Decision:
    """Return the reference evaluator's decision on a witness."""
    return evaluate(prover.policy, observation)


def confirm(shown: bool, claim: str) -> None:
    """Stop where the evaluator does not show what the solver found; one of the two is wrong.

    Raises:
        InternalError: The witness does not replay.
    """
    if not shown:
        raise InternalError(f"solver and evaluator disagree on whether {claim}")


def shares_text(names: tuple[str, ...], shares: tuple[int, ...]) -> str:
    """Return shares by group as words."""
    return ", ".join(f"{name} {micro_text(share)}" for name, share in zip(names, shares, strict=True))
