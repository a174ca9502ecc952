"""Write budgets, obligations, stages and evidence as tables: the same facts, without spans or conditions."""

from __future__ import annotations

from collections.abc import Mapping

from aqpolicy.bundle.tables import NO_LIMIT, BudgetTable, EvidenceTable, ObligationKind, ObligationTable, StageTable
from aqpolicy.model.policy import Budget, Defer, Evidence, LimitFrequency, Meter, Obligation, Policy, Verify, Window
from aqpolicy.units import micro_text

_COLUMNS = (("surprisal", "update"), ("surprisal", "epoch"), ("surprisal", "run"))
"""Limits with a column of their own."""


def budget_table(policy: Policy, budget: Budget) -> BudgetTable:
    """Return a budget's table."""

    def most(meter: Meter, window: Window) -> int:
        limit = budget.limit(meter, window)
        return NO_LIMIT if limit is None else limit.amount

    others = [limit for limit in budget.limits if (limit.meter, limit.window) not in _COLUMNS]
    return BudgetTable(
        name=budget.name,
        groups=_groups(policy, budget.groups),
        per_update=most("surprisal", "update"),
        per_epoch=most("surprisal", "epoch"),
        per_run=most("surprisal", "run"),
        exposures=NO_LIMIT if budget.exposures is None else budget.exposures,
        on_exhaust=budget.on_exhaust,
        meters=tuple(sorted((limit.meter, limit.window, limit.amount) for limit in others)),
    )


def obligation_table(policy: Policy, rule: str, asked: Obligation) -> ObligationTable:
    """Return an obligation's table."""
    kind, text, parameters = _obligation(policy, asked)
    return ObligationTable(kind, rule, text, parameters)


def _obligation(
    policy: Policy, asked: Obligation
) -> tuple[ObligationKind, str, Mapping[str, str | int | tuple[int, ...]]]:
    match asked:
        case LimitFrequency():
            text = f"limit {', '.join(asked.groups)} frequency {asked.updates} per {asked.steps} steps"
            groups = _groups(policy, asked.groups)
            return "frequency", text, {"groups": groups, "steps": asked.steps, "updates": asked.updates}
        case Defer():
            text = f"defer until {asked.text} for at most {asked.epochs} epochs then deny"
            return "defer", text, {"epochs": asked.epochs}
        case Verify():
            return (
                "verify",
                _verify_text(asked),
                {
                    "amount": asked.amount,
                    "direction": asked.direction,
                    "metric": asked.metric,
                    "remedy": asked.remedy,
                    "steps": asked.steps,
                },
            )
        case _:
            witnessed = f" witnessed by {asked.witnesses}" if asked.witnesses else ""
            return (
                "promote",
                f"promote after {asked.metric} {asked.op} {micro_text(asked.value)}{witnessed}",
                {
                    "metric": asked.metric,
                    "op": asked.op,
                    "value": asked.value,
                    "witnesses": asked.witnesses,
                },
            )


def _verify_text(asked: Verify) -> str:
    change = f"{asked.metric} {asked.direction} at most {micro_text(asked.amount)}"
    return f"verify {change} within {asked.steps} steps else {asked.remedy}"


def evidence_table(evidence: Evidence) -> EvidenceTable:
    """Return the table by which judgments are weighed."""
    weights = tuple((table.attribute, table.weights) for table in evidence.weights)
    return EvidenceTable(weights, evidence.independent_by, evidence.floor, evidence.ceiling)


def stage_tables(policy: Policy) -> tuple[StageTable, ...]:
    """Return the stages as declared, each with all that is asked before it is entered."""
    asked = policy.certifications
    return tuple(
        StageTable(name, tuple((one.metric, one.op, one.value) for one in asked if one.stage == name))
        for name in policy.stages
    )


def _groups(policy: Policy, names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(sorted(policy.group_names.index(name) for name in names))
