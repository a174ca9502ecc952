"""Ask every question about a policy and collect what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aqpolicy.analysis import (
    bands,
    bounds,
    budgets,
    cases,
    completeness,
    conflicts,
    deferrals,
    guards,
    layers,
    monotone,
    nevers,
    openings,
    reach,
    shadows,
    spending,
)
from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.analysis.question import Question, policies_of
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.errors import AnalysisError
from aqpolicy.model.policy import Case, Policy

CHECKS = (
    guards,
    conflicts,
    bounds,
    budgets,
    shadows,
    bands,
    nevers,
    monotone,
    spending,
    layers,
    deferrals,
    openings,
    reach,
    completeness,
)
"""Modules with a `questions(policy, settings)`, in the order of asking."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What is wrong with a policy, which claims about it are proved, and what was asked for them."""

    findings: tuple[Diagnostic, ...]
    proved: tuple[str, ...]
    obligations: tuple[Obligation, ...] = ()

    @property
    def undecided(self) -> bool:
        """Whether a question was left open."""
        return any(finding.code == "AQ300" for finding in self.findings)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of a test case: it passed iff there are no findings."""

    case: Case
    findings: tuple[Diagnostic, ...]


def examine(policy: Policy, settings: CheckSettings | None = None) -> CheckResult:
    """Ask every question about a policy.

    A question that is not decided within the settings' effort is a finding (AQ300),
    never a proof. Test cases are not run: see `run_cases`.

    Raises:
        InternalError: A witness does not replay in the evaluator.
    """
    chosen = settings or CheckSettings()
    prover = _prover(policy, chosen)
    asked = [question for module in CHECKS for question in module.questions(policy, chosen)]
    result = _answers(prover, asked)
    told = _answers(prover, spending.notes(policy, chosen))
    return CheckResult((*result.findings, *told.findings), result.proved, result.obligations)


def check(policy: Policy, settings: CheckSettings | None = None) -> tuple[Diagnostic, ...]:
    """Return everything that is to be said of a policy; without errors it is proved free of them."""
    return examine(policy, settings).findings


def run_cases(policy: Policy, settings: CheckSettings | None = None) -> tuple[CaseResult, ...]:
    """Decide every test case of a policy, for every observation that it is given.

    Raises:
        InternalError: A witness does not replay in the evaluator.
    """
    prover = _prover(policy, settings or CheckSettings())
    results = []
    for case in policy.cases:
        asked = list(cases.questions(policy, case))
        results.append(CaseResult(case, _answers(prover, asked).findings))
    return tuple(results)


def _prover(policy: Policy, settings: CheckSettings) -> Prover:
    return Prover(*policies_of(policy), effort=settings.effort, solver=settings.solver)


def _answers(prover: Prover, asked: Iterable[Question]) -> CheckResult:
    questions = list(asked)
    obligations = tuple(obligation for question in questions for obligation in question.obligations)
    prover.learn(obligation.query for obligation in obligations if obligation.policies == prover.policies)
    findings: list[Diagnostic] = []
    proved: list[str] = []
    for question in questions:
        before = len(findings)
        findings.extend(_answer(question, prover))
        if len(findings) == before:
            proved.append(question.claim)
    return CheckResult(tuple(findings), tuple(proved), obligations)


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
