"""Resolve budgets: every clause at most once, none silently missing."""

from __future__ import annotations

from typing import Final, TypeVar

from aqpolicy.diagnostics import Label
from aqpolicy.model.conditions import Conditions
from aqpolicy.model.numbers import to_count, to_positive
from aqpolicy.model.policy import All, Assumption, Budget, Limit, Meter, Window
from aqpolicy.model.problems import Names, Problems
from aqpolicy.model.rules import circles, steps
from aqpolicy.model.vocabulary import resolve_groups
from aqpolicy.syntax import tree as t

C = TypeVar("C", bound=t.Clause)

UNITS: Final[dict[Meter, str]] = {"surprisal": "nat", "movement": "l2", "drift": "nat"}
"""What each meter counts in."""

WINDOWS: Final[dict[Meter, tuple[Window, ...]]] = {
    "surprisal": ("update", "step", "epoch", "phase", "run"),
    "movement": ("step", "epoch", "phase", "run"),
    "drift": ("step", "epoch", "phase", "run"),
}
"""The windows over which each meter adds up."""


def resolve_budget(decl: t.BudgetDecl, conditions: Conditions, groups: Names[int], problems: Problems) -> Budget:
    """Return the budget; `within` keeps the name as written until `check_parents`."""
    scope, on = _only(decl, t.ForClause, problems), _only(decl, t.OnClause, problems)
    within, exhaust = _only(decl, t.WithinClause, problems), _only(decl, t.ExhaustClause, problems)
    exposures = _only(decl, t.ExposuresClause, problems)
    limits = _limits(decl, problems)
    if on is None:
        _missing(decl, "on GROUPS", "say which groups it covers: `on all`, or `on` and their names", problems)
    if not any(isinstance(clause, t.MeterClause | t.ExposuresClause) for clause in decl.clauses):
        label = Label(decl.name.span, "has no `surprisal`, `exposures`, `movement` or `drift`")
        problems.add("AQ213", f"budget `{decl.name.text}` limits nothing", label)
    return Budget(
        name=decl.name.text,
        when=conditions.resolve(scope.condition) if scope else All(()),
        groups=resolve_groups(on.groups, groups, problems) if on else (),
        within=within.parent.text if within else None,
        limits=limits,
        exposures=to_count(exposures.count, "number of exposures", problems) if exposures else None,
        on_exhaust=exhaust.effect if exhaust else "deny",
        span=decl.name.span,
    )


def _only(decl: t.BudgetDecl, kind: type[C], problems: Problems) -> C | None:
    """Return the one clause of a kind; report further ones."""
    found = [clause for clause in decl.clauses if isinstance(clause, kind)]
    for again in found[1:]:
        message = f"budget `{decl.name.text}` has this clause twice"
        problems.add("AQ211", message, Label(again.span, "again"), Label(found[0].span, "first"))
    return found[0] if found else None


def _missing(decl: t.BudgetDecl, clause: str, advice: str, problems: Problems) -> None:
    label = Label(decl.name.span, f"has no `{clause}`")
    problems.add("AQ217", f"budget `{decl.name.text}` lacks `{clause}`", label, help=(advice,))


def _limits(decl: t.BudgetDecl, problems: Problems) -> tuple[Limit, ...]:
    """Collect the caps of all meters; one for each meter and window at most."""
    found: dict[tuple[Meter, Window], Limit] = {}
    for clause in (clause for clause in decl.clauses if isinstance(clause, t.MeterClause)):
        for cap in clause.caps:
            if cap.per not in WINDOWS[clause.meter]:
                label = Label(cap.span, "one update alone does not tell")
                message = f"{clause.meter} is counted per {', '.join(WINDOWS[clause.meter])}, not per {cap.per}"
                problems.add("AQ203", message, label)
            key = (clause.meter, cap.per)
            if key in found:
                message = f"budget `{decl.name.text}` has two limits of {clause.meter} per {cap.per}"
                problems.add("AQ211", message, Label(cap.span, "again"), Label(found[key].span, "first"))
            found.setdefault(key, Limit(clause.meter, cap.per, _amount(clause.meter, cap, problems), cap.span))
    return tuple(found.values())


def _amount(meter: Meter, cap: t.Cap, problems: Problems) -> int:
    unit, wanted = cap.amount.unit, UNITS[meter]
    if unit is not None and unit.text != wanted:
        label = Label(unit.span, f"{meter} is counted in {wanted}")
        problems.add(
            "AQ207", f"{meter} is in {wanted}, not in {unit.text}", label, notes=("units are never converted",)
        )
    return to_positive(cap.amount, "limit", problems) or 0


def resolve_bounds(bounds: tuple[t.Bound, ...], problems: Problems) -> tuple[Assumption, ...]:
    """Return how long the run is; each of its measures at most once."""
    found: dict[str, Assumption] = {}
    for bound in bounds:
        if bound.what in found:
            labels = (Label(bound.span, "again"), Label(found[bound.what].span, "first"))
            problems.add("AQ211", f"the number of {bound.what} is bounded twice", *labels)
        most = to_count(bound.most, f"number of {bound.what}", problems)
        found.setdefault(bound.what, Assumption(bound.what, most or 1, bound.span))
    return tuple(found.values())


def check_parents(budgets: tuple[Budget, ...], declared: Names[t.BudgetDecl], problems: Problems) -> None:
    """Report parents that do not exist, and budgets that lie within themselves."""
    for clause in (c for decl in declared.values() for c in decl.clauses if isinstance(c, t.WithinClause)):
        declared.look_up(clause.parent)
    edges = {budget.name: [budget.within] if budget.within else [] for budget in budgets}
    for circle in circles(edges):
        labels = [Label(declared.span(name), f"lies within `{parent}`") for name, parent in steps(circle)]
        problems.add("AQ208", f"budget `{circle[0]}` lies within itself", *labels)
