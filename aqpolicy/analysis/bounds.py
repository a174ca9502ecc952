"""AQ302: learning that no finite budget bounds."""

from __future__ import annotations

from collections.abc import Iterator

from aqpolicy.analysis.observation import Observation
from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.analysis.query import And, InScope, Negated, Over, Query, or_
from aqpolicy.analysis.question import Question, confirm, policies_of, replay
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.analysis.wording import MOST_REGIONS, decision_text, region_notes
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.model.policy import Budget, DepthGroup, Policy
from aqpolicy.semantics import Decision, holds


def questions(policy: Policy, _settings: CheckSettings) -> Iterator[Question]:
    """Ask of every group whether all that reaches it is budgeted, and of every budget whether one charge is bounded."""
    for number, group in enumerate(policy.groups):

        def findings(prover: Prover, number: int = number) -> Iterator[Diagnostic]:
            return uncovered(prover, number)

        claim = f"all learning in `{group.name}` is budgeted"
        obligation = Obligation(claim, policies_of(policy), _outside(policy, group))
        yield Question(claim, group.span, findings, (obligation,))
    for budget in policy.budgets:

        def charges(_prover: Prover, budget: Budget = budget) -> Iterator[Diagnostic]:
            return unbounded_charge(budget)

        yield Question(f"every charge to budget `{budget.name}` is bounded", budget.span, charges)


def _finite(policy: Policy, group: DepthGroup) -> list[Budget]:
    return [budget for budget in policy.budgets if group.name in budget.groups and budget.windows]


def _outside(policy: Policy, group: DepthGroup) -> Query:
    """Ask whether a group is written outside of every budget that is finite."""
    inside = or_(InScope(budget.name) for budget in _finite(policy, group))
    return And((Over(group.name, 0), Negated(inside)))


def uncovered(prover: Prover, number: int) -> Iterator[Diagnostic]:
    """Yield a finding if a group can be written outside every finite budget.

    Unsat iff every observation with a share above 0 in the group matches a budget
    that covers the group and limits surprisal per epoch, per phase or per run.
    """
    policy = prover.policies[0]
    group = policy.groups[number]
    witness = prover.witness(_outside(policy, group))
    if witness is None:
        return
    decision = replay(prover, witness)
    free = not any(holds(budget.when, witness) for budget in _finite(policy, group))
    confirm(decision.shares[number] > 0 and free, f"group `{group.name}` is reached without a budget")
    yield _finding(prover, group, witness, decision)


def _finding(prover: Prover, group: DepthGroup, witness: Observation, decision: Decision) -> Diagnostic:
    policy = prover.policies[0]
    finite = _finite(policy, group)
    rules = [rule for rule in policy.rules if rule.name in decision.rules and rule.admit is not None]
    elsewhere = [b for b in policy.budgets if b.windows and b not in finite and holds(b.when, witness)]
    why = "no budget limits it per epoch, phase or run" if not finite else "no budget that limits it applies"
    return Diagnostic(
        code="AQ302",
        severity="error",
        message=f"learning in group `{group.name}` is unbounded: {why}",
        labels=(
            Label(group.span, "written without a bound"),
            *(Label(rule.admit_span or rule.span, f"`{rule.name}` admits the update here") for rule in rules),
            *(Label(budget.span, "limits this group, but not for this observation") for budget in finite),
            *(Label(budget.span, "limits this observation, but not in this group") for budget in elsewhere),
        ),
        notes=(
            f"the decision is: {decision_text(policy, decision)}",
            *region_notes(prover.regions(_outside(policy, group), MOST_REGIONS + 1), "this happens"),
        ),
        help=(
            f"write a budget `on {group.name}` whose scope includes this observation",
            "such as `surprisal at most 1000 nat per run, at most 6 nat per update`",
        ),
        witness=prover.text(witness),
    )


def unbounded_charge(budget: Budget) -> Iterator[Diagnostic]:
    """Yield a finding if a budget has a window but no bound on one update.

    Needs no solver: the surprisal of one update has no bound of its own, so one
    update could spend the whole window.
    """
    if budget.windows and budget.per_update is None:
        yield Diagnostic(
            code="AQ302",
            severity="error",
            message=f"one update may spend all of budget `{budget.name}`: its charge has no bound",
            labels=(
                Label(budget.span, "has no bound per update"),
                *(Label(limit.span, f"bounds the sum per {limit.window} only") for limit in budget.windows),
            ),
            help=("add a bound on one update, such as `at most 6 nat per update`",),
        )
