"""AQ303: budgets that contradict each other, and children that outgrow their parents."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import z3

from aqpolicy.analysis.prover import Prover
from aqpolicy.analysis.question import Question, confirm
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.model.policy import Budget, Limit, Policy
from aqpolicy.semantics import holds
from aqpolicy.units import micro_text


def questions(policy: Policy) -> Iterator[Question]:
    """Ask of every pair of budgets whether they agree, and of every child whether it fits into its parent."""
    by_name = {budget.name: budget for budget in policy.budgets}
    for one, other in combinations(policy.budgets, 2):
        if set(one.groups) == set(other.groups) and other.name != one.within and one.name != other.within:

            def clash(prover: Prover, one: Budget = one, other: Budget = other) -> Iterator[Diagnostic]:
                return disagreement(prover, one, other)

            yield Question(f"budgets `{one.name}` and `{other.name}` agree", other.span, clash)
    for child in policy.budgets:
        if child.within is not None:

            def fit(prover: Prover, child: Budget = child) -> Iterator[Diagnostic]:
                return outgrown(prover, child, by_name[str(child.within)])

            yield Question(f"budget `{child.name}` fits into `{child.within}`", child.span, fit)


def limits_by_window(budget: Budget) -> dict[str, Limit]:
    """Return the tightest limit of each window."""
    return {limit.window: limit for limit in sorted(budget.limits, key=lambda limit: -limit.nats)}


def disagreement(prover: Prover, one: Budget, other: Budget) -> Iterator[Diagnostic]:
    """Yield a finding per window in which two budgets for the same observations and groups differ.

    Unsat iff the two scopes hold for the same observations; only then can their
    limits contradict each other.
    """
    mine, theirs = limits_by_window(one), limits_by_window(other)
    windows = [w for w in mine if w in theirs and mine[w].nats != theirs[w].nats]
    if not windows or prover.possible(z3.Xor(prover.encoding.scopes[one.name], prover.encoding.scopes[other.name])):
        return
    for window in windows:
        yield Diagnostic(
            code="AQ303",
            severity="error",
            message=f"budgets `{one.name}` and `{other.name}` bound the same learning per {window} differently",
            labels=(
                Label(mine[window].span, f"`{one.name}`: {micro_text(mine[window].nats)} nat"),
                Label(theirs[window].span, f"`{other.name}`: {micro_text(theirs[window].nats)} nat"),
            ),
            notes=("both apply to the same observations and groups, so the larger limit never counts",),
            help=("keep one of the two, or make their scopes differ",),
        )


def outgrown(prover: Prover, child: Budget, parent: Budget) -> Iterator[Diagnostic]:
    """Yield what a child may do that its parent does not allow: limit, groups, scope."""
    mine, theirs = limits_by_window(child), limits_by_window(parent)
    for window in [w for w in mine if w in theirs and mine[w].nats > theirs[w].nats]:
        yield Diagnostic(
            code="AQ303",
            severity="error",
            message=f"budget `{child.name}` allows more per {window} than `{parent.name}`, which it lies within",
            labels=(
                Label(mine[window].span, f"{micro_text(mine[window].nats)} nat"),
                Label(theirs[window].span, f"but `{parent.name}` has only {micro_text(theirs[window].nats)} nat"),
            ),
            help=(f"lower the limit of `{child.name}` to at most {micro_text(theirs[window].nats)} nat",),
        )
    beyond = [name for name in child.groups if name not in parent.groups]
    if beyond:
        yield Diagnostic(
            code="AQ303",
            severity="error",
            message=f"budget `{child.name}` covers {', '.join(f'`{n}`' for n in beyond)}, `{parent.name}` does not",
            labels=(Label(child.span, "the child"), Label(parent.span, "the parent that it lies within")),
            help=(f"add the groups to `{parent.name}` or take them from `{child.name}`",),
        )
    yield from _wider_scope(prover, child, parent)


def _wider_scope(prover: Prover, child: Budget, parent: Budget) -> Iterator[Diagnostic]:
    """Yield a finding if the child is not inside the parent.

    Unsat iff every observation in the child's scope is in its parent's.
    """
    witness = prover.witness(prover.encoding.scopes[child.name], z3.Not(prover.encoding.scopes[parent.name]))
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
        witness=prover.encoding.domain.text(witness),
    )
