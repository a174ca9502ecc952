"""Resolve budgets: every clause at most once, none silently missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from aqpolicy.diagnostics import Label, Span
from aqpolicy.model.conditions import Conditions
from aqpolicy.model.numbers import to_count, to_positive
from aqpolicy.model.policy import All, Budget, Limit
from aqpolicy.model.problems import Names, Problems
from aqpolicy.model.rules import circles, steps
from aqpolicy.model.vocabulary import resolve_groups
from aqpolicy.syntax import tree as t

C = TypeVar("C", bound=t.Clause)


def resolve_budget(decl: t.BudgetDecl, conditions: Conditions, groups: Names[int], problems: Problems) -> Budget:
    """Return the budget; `within` keeps the name as written until `check_parents`."""
    scope, on = _only(decl, t.ForClause, problems), _only(decl, t.OnClause, problems)
    within, exhaust = _only(decl, t.WithinClause, problems), _only(decl, t.ExhaustClause, problems)
    exposures = _only(decl, t.ExposuresClause, problems)
    caps = _caps(decl, problems)
    if on is None:
        _missing(decl, "on GROUPS", "say which groups it covers: `on all`, or `on` and their names", problems)
    if exhaust is None:
        _missing(decl, "on exhaust", "say what then: `on exhaust deny`, `defer`, `attenuate` or `halt`", problems)
    if not any(isinstance(clause, t.SurprisalClause | t.ExposuresClause) for clause in decl.clauses):
        label = Label(decl.name.span, "has no `surprisal` and no `exposures`")
        problems.add("AQ213", f"budget `{decl.name.text}` limits nothing", label)
    return Budget(
        name=decl.name.text,
        when=conditions.resolve(scope.condition) if scope else All(()),
        groups=resolve_groups(on.groups, groups, problems) if on else (),
        within=within.parent.text if within else None,
        per_update=caps.per_update,
        limits=tuple(caps.limits),
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


@dataclass(slots=True)
class _Caps:
    """The surprisal limits of one budget."""

    per_update: int | None = None
    limits: list[Limit] = field(default_factory=list)
    seen: dict[str, Span] = field(default_factory=dict)


def _caps(decl: t.BudgetDecl, problems: Problems) -> _Caps:
    """Collect the caps of all surprisal clauses; one for each window at most."""
    caps = _Caps()
    for cap in (cap for clause in decl.clauses if isinstance(clause, t.SurprisalClause) for cap in clause.caps):
        if cap.per in caps.seen:
            message = f"budget `{decl.name.text}` has two limits per {cap.per}"
            problems.add("AQ211", message, Label(cap.span, "again"), Label(caps.seen[cap.per], "first"))
        caps.seen.setdefault(cap.per, cap.span)
        nats = _nats(cap, problems)
        if cap.per == "update":
            caps.per_update = nats
        else:
            caps.limits.append(Limit(cap.per, nats, cap.span))
    return caps


def _nats(cap: t.Cap, problems: Problems) -> int:
    unit = cap.amount.unit
    if unit is not None and unit.text != "nat":
        label = Label(unit.span, "surprisal is counted in nat")
        problems.add("AQ207", f"surprisal is in nat, not in {unit.text}", label, notes=("units are never converted",))
    return to_positive(cap.amount, "limit", problems) or 0


def check_parents(decls: tuple[t.BudgetDecl, ...], budgets: Names[Budget], problems: Problems) -> None:
    """Report parents that do not exist, and budgets that lie within themselves."""
    for clause in (c for decl in decls for c in decl.clauses if isinstance(c, t.WithinClause)):
        budgets.look_up(clause.parent)
    edges = {budget.name: [budget.within] if budget.within else [] for budget in budgets.values()}
    for circle in circles(edges):
        labels = [Label(budgets.span(name), f"lies within `{parent}`") for name, parent in steps(circle)]
        problems.add("AQ208", f"budget `{circle[0]}` lies within itself", *labels)
