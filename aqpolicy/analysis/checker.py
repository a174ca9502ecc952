"""Ask every question about a policy and collect what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aqpolicy.analysis import bounds, budgets, conflicts, guards, proofs
from aqpolicy.analysis.prover import EFFORT, Prover
from aqpolicy.analysis.question import Question
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.errors import AnalysisError
from aqpolicy.model.policy import Policy

CHECKS = (guards, conflicts, bounds, budgets, proofs)
"""Modules with a `questions(policy)`, in the order of asking."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What is wrong with a policy, and which claims about it are proved."""

    findings: tuple[Diagnostic, ...]
    proved: tuple[str, ...]

    @property
    def undecided(self) -> bool:
        """Whether the solver left a question open."""
        return any(finding.code == "AQ300" for finding in self.findings)


def examine(policy: Policy, effort: int = EFFORT) -> CheckResult:
    """Ask every question about a policy.

    A question that the solver does not decide within `effort` steps is a finding
    (AQ300), never a proof.

    Raises:
        InternalError: A witness of the solver does not replay in the evaluator.
    """
    prover = Prover(policy, effort)
    findings: list[Diagnostic] = []
    proved: list[str] = []
    for question in _questions(policy):
        before = len(findings)
        findings.extend(_answer(question, prover))
        if len(findings) == before:
            proved.append(question.claim)
    return CheckResult(tuple(findings), tuple(proved))


def check(policy: Policy, effort: int = EFFORT) -> tuple[Diagnostic, ...]:
    """Return everything that is wrong with a policy; nothing means that it is proved free of it."""
    return examine(policy, effort).findings


def _questions(policy: Policy) -> Iterator[Question]:
    for module in CHECKS:
        yield from module.questions(policy)


def _answer(question: Question, prover: Prover) -> Iterator[Diagnostic]:
    try:
        yield from question.findings(prover)
    except AnalysisError as error:
        yield Diagnostic(
            code="AQ300",
            severity="error",
            message=f"not proven: {question.claim}",
            labels=(Label(question.span, "this question was left open"),),
            notes=(str(error),),
            help=("simplify the conditions; a question that is not decided counts as refused",),
        )
