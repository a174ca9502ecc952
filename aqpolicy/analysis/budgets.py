"""AQ303 and AQ304: budgets that contradict each other, outgrow their parents, or can never be used."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations

from aqpolicy.analysis.charges import least_charge
from aqpolicy.analysis.inheritance import own_budgets
from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.analysis.query import And, InScope, Negated, Query, charged_over, or_
from aqpolicy.analysis.question import Question, confirm, policies_of
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.analysis.wording import limit_text, nats, quoted
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.model.policy import Budget, Evidence, Limit, Policy
from aqpolicy.semantics import LARGEST_SURPRISAL, holds
from aqpolicy.units import MICRO, micro_text


def questions(policy: Policy, _settings: CheckSettings) -> Iterator[Question]:
    """Ask of pairs of budgets whether they agree, of children whether they fit, of each whether it can be used."""
    by_name = {budget.name: budget for budget in policy.budgets}
    for one, other in combinations(policy.budgets, 2):
        if set(one.groups) == set(other.groups) and other.name != one.within and one.name != other.within:
            claim = f"budgets `{one.name}` and `{other.name}` agree"
            yield Question(claim, other.span, partial(disagreement, one=one, other=other))
    for child in policy.budgets:
        if child.within is not None:
            parent = by_name[child.within]
            claim = f"budget `{child.name}` fits into `{parent.name}`"
            obligation = Obligation(claim, policies_of(policy), _beyond(child, parent))
            yield Question(claim, child.span, partial(outgrown, child=child, parent=parent), (obligation,))
    for budget in own_budgets(policy):
        claim = f"budget `{budget.name}` can be charged"
        obligation = Obligation(claim, policies_of(policy), charged_over(budget, 0), "sat")
        yield Question(claim, budget.span, partial(dead, budget=budget), (obligation,))
    if policy.evidence is not None:
        claim = "the floor of `evidence` is not above its ceiling"
        yield Question(claim, policy.evidence.span, partial(crossed, evidence=policy.evidence))


def _limits(budget: Budget) -> dict[tuple[str, str], Limit]:
    return {(limit.meter, limit.window): limit for limit in budget.limits}


def disagreement(prover: Prover, one: Budget, other: Budget) -> Iterator[Diagnostic]:
    """Yield a finding per window in which two budgets for the same observations and groups differ.

    Unsat iff the two scopes hold for the same observations; only then can their
    limits contradict each other.
    """
    mine, theirs = _limits(one), _limits(other)
    keys = [key for key in mine if key in theirs and mine[key].amount != theirs[key].amount]
    apart = or_((_beyond(one, other), _beyond(other, one)))
    if not keys or prover.possible(apart):
        return
    for key in keys:
        yield Diagnostic(
            code="AQ303",
            severity="error",
            message=f"budgets `{one.name}` and `{other.name}` bound the same learning differently: {_what(key)}",
            labels=(
                Label(mine[key].span, f"`{one.name}`: {limit_text(mine[key])}"),
                Label(theirs[key].span, f"`{other.name}`: {limit_text(theirs[key])}"),
            ),
            notes=("both apply to the same observations and groups, so the larger limit never counts",),
            help=("keep one of the two, or make their scopes differ",),
        )


def _what(key: tuple[str, str]) -> str:
    meter, window = key
    return f"per {window}" if meter == "surprisal" else f"{meter} per {window}"


def _beyond(one: Budget, other: Budget) -> Query:
    """Ask for an observation in the scope of one budget and outside that of another."""
    return And((InScope(one.name), Negated(InScope(other.name))))


# ---- Children


def outgrown(prover: Prover, child: Budget, parent: Budget) -> Iterator[Diagnostic]:
    """Yield what a child may do that its parent does not allow: limits, exposures, groups, scope."""
    mine, theirs = _limits(child), _limits(parent)
    for key in [key for key in mine if key in theirs and mine[key].amount > theirs[key].amount]:
        yield Diagnostic(
            code="AQ303",
            severity="error",
            message=f"budget `{child.name}` allows more {_what(key)} than `{parent.name}`, which it lies within",
            labels=(
                Label(mine[key].span, limit_text(mine[key])),
                Label(theirs[key].span, f"but `{parent.name}` has only {limit_text(theirs[key])}"),
            ),
            help=(f"lower the limit of `{child.name}` to at most {limit_text(theirs[key])}",),
        )
    yield from _more_exposures(child, parent)
    beyond = [name for name in child.groups if name not in parent.groups]
    if beyond:
        yield Diagnostic(
            code="AQ303",
            severity="error",
            message=f"budget `{child.name}` covers {quoted(beyond)}, `{parent.name}` does not",
            labels=(Label(child.span, "the child"), Label(parent.span, "the parent that it lies within")),
            help=(f"add the groups to `{parent.name}` or take them from `{child.name}`",),
        )
    yield from _wider_scope(prover, child, parent)


def _more_exposures(child: Budget, parent: Budget) -> Iterator[Diagnostic]:
    if child.exposures is not None and parent.exposures is not None and child.exposures > parent.exposures:
        yield Diagnostic(
            code="AQ303",
            severity="error",
            message=f"budget `{child.name}` allows more exposures per example than `{parent.name}`, "
            "which it lies within",
            labels=(
                Label(child.span, f"allows {child.exposures}"),
                Label(parent.span, f"allows only {parent.exposures}"),
            ),
            help=(f"lower the exposures of `{child.name}` to at most {parent.exposures}",),
        )


def _wider_scope(prover: Prover, child: Budget, parent: Budget) -> Iterator[Diagnostic]:
    """Yield a finding if the child is not inside the parent.

    Unsat iff every observation in the child's scope is in its parent's.
    """
    witness = prover.witness(_beyond(child, parent))
    if witness is None:
        return
    inside = holds(child.when, witness) and not holds(parent.when, witness)
    confirm(inside, f"budget `{child.name}` reaches beyond `{parent.name}`")
    yield Diagnostic(
        code="AQ303",
        severity="error",
        message=f"budget `{child.name}` applies where `{parent.name}`, which it lies within, does not",
        labels=(Label(child.span, "applies to this observation"), Label(parent.span, "does not")),
        help=(f"narrow the scope of `{child.name}` or widen that of `{parent.name}`",),
        witness=prover.text(witness),
    )


# ---- Budgets that can never be used


def dead(prover: Prover, budget: Budget) -> Iterator[Diagnostic]:
    """Yield a finding if nothing that is admitted is ever charged, or no charge ever fits.

    Sat iff some observation in the budget's scope gets a share above 0 in one of its groups.
    """
    if not prover.possible(InScope(budget.name)):
        return  # AQ305 says so
    if not prover.possible(charged_over(budget, 0)):
        yield Diagnostic(
            code="AQ304",
            severity="error",
            message=f"budget `{budget.name}` is never charged: nothing in its scope is admitted to its groups",
            labels=(Label(budget.span, "nothing is ever charged to it"),),
            notes=(f"it covers {quoted(budget.groups)}",),
            help=("widen its scope, cover other groups, or take the budget away",),
        )
    else:
        yield from _nothing(budget)
        yield from _too_small(prover, budget)


def _nothing(budget: Budget) -> Iterator[Diagnostic]:
    """Yield a finding per limit of 0: nothing that writes fits into it, and attenuation leaves nothing over."""
    for limit in (limit for limit in budget.limits if limit.amount == 0):
        yield Diagnostic(
            code="AQ304",
            severity="error",
            message=f"budget `{budget.name}` admits nothing: {limit.meter} is at most {limit_text(limit)}",
            labels=(Label(limit.span, "a limit of nothing"), Label(budget.span, "never fits an update")),
            notes=(f"what it covers is closed to {quoted(budget.groups)}, whatever the rules admit",),
            help=("raise the limit, or write a rule that denies these observations and says why",),
        )


def _too_small(prover: Prover, budget: Budget) -> Iterator[Diagnostic]:
    """Yield a finding per limit that is below the least charge, so that no update ever fits.

    The limit per update attenuates an update until its charge fits, so the least
    charge is not above it; rounding the share down can save a little more.
    """
    least = least_charge(prover, budget)
    if budget.per_update is not None:
        least = min(least, max(budget.per_update - LARGEST_SURPRISAL // MICRO - 1, 0))
    sums = [limit for limit in budget.limits if limit.meter == "surprisal" and limit.window != "update"]
    windows = [limit for limit in sums if 0 < limit.amount < least]
    for limit in windows if budget.on_exhaust != "attenuate" else ():
        yield Diagnostic(
            code="AQ304",
            severity="error",
            message=f"budget `{budget.name}` admits nothing: its limit per {limit.window} is below the least charge",
            labels=(Label(limit.span, f"only {limit_text(limit)}"), Label(budget.span, "never fits an update")),
            notes=(f"every update that it covers is charged at least {nats(least)}",),
            help=(f"raise the limit to at least {nats(least)}, or say `on exhaust attenuate`",),
        )


def crossed(_prover: Prover, evidence: Evidence) -> Iterator[Diagnostic]:
    """Yield a finding if no evidence lies between floor and ceiling; needs no solver."""
    if evidence.floor > evidence.ceiling:
        yield Diagnostic(
            code="AQ303",
            severity="error",
            message=f"`evidence` is at least {micro_text(evidence.floor)} and at most {micro_text(evidence.ceiling)}",
            labels=(Label(evidence.span, "the floor is above the ceiling"),),
            help=("raise the ceiling, or lower the floor",),
        )
