"""Which rules the tests of a policy show at work: those that were made to apply, to decide, and to stay out.

Only tests that hold count. A test case makes a rule apply where every observation
that it is given does, so a case about everything covers nothing by being wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aqpolicy.analysis import CheckSettings, Prover
from aqpolicy.analysis.query import And, Applies, Negated, Query, named, on_decision
from aqpolicy.analysis.question import policies_of
from aqpolicy.diagnostics import Span
from aqpolicy.model.policy import All, Case, Policy, Rule
from aqpolicy.semantics import Decision, evaluate, holds
from aqpolicy.trial.fixture import Fixture
from aqpolicy.trial.observation import missing


@dataclass(frozen=True, slots=True)
class RuleCoverage:
    """What the tests show of one rule."""

    rule: str
    span: Span
    applied: bool
    decided: bool
    """Whether it was among the rules that decide: not an overridden grant."""
    stayed_out: bool
    is_conditional: bool
    """Whether it can stay out at all; a rule for `anything` cannot."""

    @property
    def seen(self) -> int:
        """How many of the rule's outcomes were seen."""
        return self.decided + (self.stayed_out and self.is_conditional)

    @property
    def possible(self) -> int:
        """How many outcomes the rule has: to decide, and to stay out."""
        return 1 + self.is_conditional


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the tests show of every rule."""

    rules: tuple[RuleCoverage, ...]

    @property
    def percent(self) -> int:
        """How many of a hundred outcomes were seen, rounded down."""
        possible = sum(rule.possible for rule in self.rules)
        return 100 * sum(rule.seen for rule in self.rules) // possible if possible else 100


def coverage_of(
    policy: Policy, cases: Sequence[Case], fixtures: Sequence[Fixture], settings: CheckSettings
) -> Coverage:
    """Return what tests that hold show of each rule.

    Raises:
        AnalysisError: A question about a test case was not decided.
    """
    prover = Prover(*policies_of(policy), effort=settings.effort, solver=settings.solver)
    given = [on_decision(case.given, policy) for case in cases]
    decided = [(each, evaluate(policy, each.observation)) for each in fixtures if not missing(policy, each.observation)]
    return Coverage(tuple(_rule(prover, rule, given, decided) for rule in policy.rules))


def _rule(
    prover: Prover, rule: Rule, given: Sequence[Query], decided: Sequence[tuple[Fixture, Decision]]
) -> RuleCoverage:
    def everywhere(query: Query) -> bool:
        """Say whether some case is given only what satisfies the query."""
        return any(not prover.possible(And((each, Negated(query)))) for each in given)

    applies = {holds(rule.when, fixture.observation) for fixture, _ in decided}
    named_in = any(rule.name in decision.rules for _, decision in decided)
    return RuleCoverage(
        rule=rule.name,
        span=rule.span,
        applied=True in applies or everywhere(Applies(rule.name)),
        decided=named_in or everywhere(named(rule)),
        stayed_out=False in applies or everywhere(Negated(Applies(rule.name))),
        is_conditional=rule.when != All(()),
    )
