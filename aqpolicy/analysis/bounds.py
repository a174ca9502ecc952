"""AQ302: learning that no finite budget bounds."""

from __future__ import annotations

from collections.abc import Iterator

import z3

from aqpolicy.analysis.domain import Value
from aqpolicy.analysis.prover import Prover
from aqpolicy.analysis.question import Question, confirm, replay, shares_text
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.model.policy import Budget, DepthGroup, Policy
from aqpolicy.semantics import Decision, holds


def questions(policy: Policy) -> Iterator[Question]:
    """Ask of every group whether all that reaches it is budgeted, and of every budget whether one charge is bounded."""
    for number, group in enumerate(policy.groups):

        def findings(prover: Prover, number: int = number) -> Iterator[Diagnostic]:
            return uncovered(prover, number)

        yield Question(f"all learning in `{group.name}` is budgeted", group.span, findings)
    for budget in policy.budgets:

        def charges(_prover: Prover, budget: Budget = budget) -> Iterator[Diagnostic]:
            return unbounded_charge(budget)

        yield Question(f"every charge to budget `{budget.name}` is bounded", budget.span, charges)


def uncovered(prover: Prover, number: int) -> Iterator[Diagnostic]:
    """Yield a finding if a group can be written outside every finite budget.

    Unsat iff every observation with a share above 0 in the group matches a budget
    that covers the group and limits surprisal per epoch or per run.
    """
    group = prover.policy.groups[number]
    finite = [budget for budget in prover.policy.budgets if group.name in budget.groups and budget.limits]
    outside = z3.Not(z3.Or([prover.encoding.scopes[budget.name] for budget in finite]))
    witness = prover.witness(prover.encoding.decision.shares[number] > 0, outside)
    if witness is None:
        return
    decision = replay(prover, witness)
    free = not any(holds(budget.when, witness) for budget in finite)
    confirm(decision.shares[number] > 0 and free, f"group `{group.name}` is reached without a budget")
    yield _finding(prover, group, finite, witness, decision)


def _finding(
    prover: Prover,
    group: DepthGroup,
    finite: list[Budget],
    witness: dict[str, Value],
    decision: Decision,
) -> Diagnostic:
    rules = [rule for rule in prover.policy.rules if rule.name in decision.rules and rule.admit is not None]
    admitted = [Label(rule.admit_span or rule.span, f"`{rule.name}` admits the update here") for rule in rules]
    elsewhere = [b for b in prover.policy.budgets if b.limits and b not in finite and holds(b.when, witness)]
    missed = [
        *(Label(budget.span, "limits this group, but not for this observation") for budget in finite),
        *(Label(budget.span, "limits this observation, but not in this group") for budget in elsewhere),
    ]
    why = "no budget limits it per epoch or per run" if not finite else "no budget that limits it applies"
    return Diagnostic(
        code="AQ302",
        severity="error",
        message=f"learning in group `{group.name}` is unbounded: {why}",
        labels=(Label(group.span, "written without a bound"), *admitted, *missed),
        notes=(f"the decision is: {shares_text(prover.policy.group_names, decision.shares)}",),
        help=(
            f"write a budget `on {group.name}` whose scope includes this observation",
            "such as `surprisal at most 1000 nat per run, at most 6 nat per update`",
        ),
        witness=prover.encoding.domain.text(witness),
    )


def unbounded_charge(budget: Budget) -> Iterator[Diagnostic]:
    """Yield a finding if a budget has a window but no bound on one update.

    Needs no solver: the surprisal of one update has no bound of its own, so one
    update could spend the whole window.
    """
    if budget.limits and budget.per_update is None:
        yield Diagnostic(
            code="AQ302",
            severity="error",
            message=f"one update may spend all of budget `{budget.name}`: its charge has no bound",
            labels=(
                Label(budget.span, "has no bound per update"),
                *(Label(limit.span, f"bounds the sum per {limit.window} only") for limit in budget.limits),
            ),
            help=("add a bound on one update, such as `at most 6 nat per update`",),
        )
