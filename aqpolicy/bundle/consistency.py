"""Whether tables agree with each other: every fact that one table states about another is checked.

Behind this no row contradicts itself, every position points at something, and no
feature is used that is not asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from aqpolicy.bundle.capabilities import ATTRIBUTE_FEATURES, OBLIGATION_FEATURES, meter_feature
from aqpolicy.bundle.fields import refuse, unique
from aqpolicy.bundle.tables import ERROR_ROW, NO_LIMIT, BudgetTable, ObligationTable, Row, Tables
from aqpolicy.units import MICRO


def check_tables(tables: Tables) -> None:
    """Refuse tables that contradict each other.

    Raises:
        MalformedBundleError: They do; the first contradiction is named.
    """
    groups = len(tables.groups)
    if not groups or not tables.attributes or not tables.rows or tables.rows[ERROR_ROW].cause != "error":
        refuse("it has no depth group, no attribute or no error row")
    unique([table.name for table in tables.attributes], "an attribute")
    unique([budget.name for budget in tables.budgets], "a budget")
    stages = unique([stage.name for stage in tables.stages], "a stage")
    for name, declared in (("phase", tables.phases), ("stage", stages)):
        if any(
            table.name == name and table.origin == "run" and table.values != declared for table in tables.attributes
        ):
            refuse(f"its {name}s are not those that its rows are decided by")
    covered = [budget.groups for budget in tables.budgets]
    covered += [_frequency_groups(obligation) for obligation in tables.obligations]
    if any(list(found) != sorted(set(found)) or max(found, default=0) >= groups for found in covered):
        refuse("a budget or a frequency limit covers a group that is not there, or one twice")
    if list(tables.requires) != sorted(tables.requires) or not _used(tables) <= set(tables.requires):
        refuse("it does not ask for all the features that it uses, in order")
    _check_course(tables)
    for row in tables.rows:
        _check_row(row, tables)


def _check_course(tables: Tables) -> None:
    stages = unique([stage.name for stage in tables.stages], "a stage")
    declared = {"phase": tables.phases, "stage": stages}
    for table in tables.attributes:
        if table.origin == "run" and table.values != declared.get(table.name, table.values):
            refuse(f"its {table.name}s are not those that rows are selected by")


def _frequency_groups(obligation: ObligationTable) -> tuple[int, ...]:
    groups = obligation.parameters.get("groups", ())
    return groups if isinstance(groups, tuple) else ()


def _used(tables: Tables) -> set[str]:
    """Return the features that the tables themselves show to be used, beyond those that every gate has had."""
    used = {ATTRIBUTE_FEATURES.get(table.name, "") for table in tables.attributes if table.origin != "manifest"}
    used |= {meter_feature(meter, window) for budget in tables.budgets for meter, window, _ in budget.meters}
    used |= {OBLIGATION_FEATURES[obligation.kind] for obligation in tables.obligations}
    used |= {"linear share"} if any(row.linear for row in tables.rows) else set()
    used |= {"stages"} if any(stage.requires for stage in tables.stages) else set()
    used |= {"amplify"} if any(max(row.shares, default=0) > MICRO for row in tables.rows) else set()
    return used | ({"evidence weighting"} if tables.evidence is not None else set())


def _check_row(row: Row, tables: Tables) -> None:
    groups = len(tables.groups)
    if (len(row.shares), len(row.norms), len(row.charged)) != (groups, groups, len(tables.budgets)):
        refuse("a row has not one number per group and budget")
    granted = any(row.shares)
    if granted is not (row.cause == "granted") or granted is not (row.effect in ("modulate", "admit")):
        refuse("a row's shares contradict its cause or effect")
    whole = set(row.shares) == {MICRO} and max(row.norms) == NO_LIMIT
    if granted and whole is not (row.effect == "admit"):
        refuse("a row's shares and norms contradict its effect")
    _check_charges(row, tables.budgets)
    _check_linear(row, tables)
    _check_obligations(row, tables.obligations)


def _check_charges(row: Row, budgets: Sequence[BudgetTable]) -> None:
    for budget, share in zip(budgets, row.charged, strict=True):
        if share not in (0, max((row.shares[group] for group in budget.groups), default=0)):
            refuse(f"a row charges budget `{budget.name}` another share than it admits")


def _check_linear(row: Row, tables: Tables) -> None:
    if list(row.linear) != sorted(set(row.linear)):
        refuse("the linear limits of a row do not ascend")
    for group, attribute, _, _ in row.linear:
        if group >= len(tables.groups) or not row.shares[group]:
            refuse("a linear limit is of a group that is closed or not there")
        if attribute >= len(tables.attributes) or tables.attributes[attribute].kind != "numeric":
            refuse("a linear limit is in an attribute that is no number or not there")


def _check_obligations(row: Row, obligations: Sequence[ObligationTable]) -> None:
    numbers = list(row.obligations)
    if numbers != sorted(set(numbers)) or (numbers and numbers[-1] >= len(obligations)):
        refuse("the obligations of a row do not ascend, or are not there")
    waits = {obligations[number].kind == "defer" for number in numbers}
    deferred = row.effect == "defer"
    if waits not in ([{True}] if deferred else [{False}, set()]) or (numbers and not deferred and not any(row.shares)):
        refuse("a row's obligations contradict its effect")
    if deferred and row.cause != "denied":
        refuse("a row defers and is not denied")
