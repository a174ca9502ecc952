"""AQ308, AQ309, AQ315 and AQ317: the most that budgets can be charged over a run, in exact integers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from aqpolicy.analysis.inheritance import is_own
from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.analysis.query import Spends, charged_over
from aqpolicy.analysis.question import Question, policies_of
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.analysis.wording import nats, quoted
from aqpolicy.diagnostics import Diagnostic, Label, Span
from aqpolicy.model.policy import Assumption, Budget, Category, Policy, SpentAtMost

CAPACITY = 2_500_000
"""Micro-nats that one parameter can hold, about: 3.6 bits (Morris et al. 2025, arXiv 2505.24832)."""


def questions(policy: Policy, settings: CheckSettings) -> Iterator[Question]:
    """Ask of every `prove spent` statement, and state the worst case and the capacity of every budget."""
    for proof in (proof for proof in policy.proofs if isinstance(proof, SpentAtMost)):
        run = length((*proof.given, *policy.assumptions))
        above = Spends(proof.budget, proof.most, run.epochs, run.steps, run.examples)
        obligation = Obligation(proof.text, policies_of(policy), above)
        yield Question(proof.text, proof.span, partial(overspent, proof=proof), (obligation,))
    for budget in policy.budgets:
        yield Question(
            f"budget `{budget.name}` fits what its groups can hold",
            budget.span,
            partial(beyond_capacity, budget=budget, settings=settings),
        )


def notes(policy: Policy, _settings: CheckSettings) -> Iterator[Question]:
    """State the worst case of every budget; what is stated is a note, not a fault."""
    for budget in policy.budgets:
        if any(limit.meter == "surprisal" for limit in budget.limits):
            yield Question(f"the worst case of budget `{budget.name}`", budget.span, partial(worst, budget=budget))


@dataclass(frozen=True, slots=True)
class Bound:
    """A number of micro-nats that a budget is never charged above in a run, and how it comes about."""

    amount: int
    how: str
    limit: Span
    within: tuple[Budget, ...] = ()
    """The parents that it comes from, the nearest first; none where the budget itself gives it."""

    @property
    def text(self) -> str:
        """Say how it comes about."""
        return f"{self.how}, a limit of `{self.within[-1].name}`" if self.within else self.how

    @property
    def labels(self) -> tuple[Label, ...]:
        """Point at the limit that gives it, and at the budgets between."""
        parents = (Label(parent.span, "the budget that it lies within") for parent in self.within)
        return (Label(self.limit, "gives the least bound"), *parents)


@dataclass(frozen=True, slots=True)
class Length:
    """How long a run is at most: plain counts, where they are known."""

    epochs: int | None = None
    steps: int | None = None
    examples: int | None = None


def length(assumptions: Sequence[Assumption]) -> Length:
    """Return the least that assumptions say of each count."""
    said: dict[str, int] = {}
    for assumption in assumptions:
        said[assumption.what] = min(assumption.most, said.get(assumption.what, assumption.most))
    return Length(said.get("epochs"), said.get("steps"), said.get("examples"))


def bounds(policy: Policy, budget: Budget, run: Length) -> list[Bound]:
    """Return every bound that limits and the length of the run give, the least first.

    Whatever is charged to a budget is charged to its parent too, so the parent's bounds
    are among them.
    """
    found = [*_windows(policy, budget, run), *_updates(budget, run)]
    if budget.within is not None:
        parent = next(other for other in policy.budgets if other.name == budget.within)
        found += [replace(bound, within=(parent, *bound.within)) for bound in bounds(policy, parent, run)]
    return sorted(found, key=lambda bound: bound.amount)


def _windows(policy: Policy, budget: Budget, run: Length) -> Iterator[Bound]:
    """Yield what each limit over a stretch of training comes to, times how many stretches there are."""
    phases = next(
        (len(a.type.values) for a in policy.derived if a.name == "phase" and isinstance(a.type, Category)), None
    )
    counts = {"run": 1, "phase": phases, "epoch": run.epochs, "step": run.steps}
    for limit in budget.limits:
        times = counts.get(limit.window)
        if limit.meter == "surprisal" and times is not None:
            how = f"{nats(limit.amount)} per {limit.window}"
            text = how if limit.window == "run" else f"{how}, {times} {limit.window}{'' if times == 1 else 's'}"
            yield Bound(limit.amount * times, text, limit.span)


def _updates(budget: Budget, run: Length) -> Iterator[Bound]:
    """Yield what the limit per update comes to: an update is one example in one step."""
    limit = budget.limit("surprisal", "update")
    if limit is None or run.examples is None:
        return
    if run.steps is not None:
        how = f"{nats(limit.amount)} per update, {run.examples} examples in each of {run.steps} steps"
        yield Bound(limit.amount * run.examples * run.steps, how, limit.span)
    if budget.exposures is not None:
        how = f"{nats(limit.amount)} per update, {run.examples} examples, {budget.exposures} exposures of each"
        yield Bound(limit.amount * run.examples * budget.exposures, how, limit.span)


def _missing(budget: Budget, run: Length) -> str:
    """Say what would give a bound."""
    windows = {limit.window for limit in budget.limits if limit.meter == "surprisal"}
    if "epoch" in windows and run.epochs is None:
        return "say how many epochs the run has: `assume epochs <= 3`"
    if "step" in windows and run.steps is None:
        return "say how many steps the run has: `assume steps <= 10000`"
    return "add a limit per run, such as `at most 1000 nat per run`"


# ---- What is said


def overspent(prover: Prover, proof: SpentAtMost) -> Iterator[Diagnostic]:
    """Yield a finding if limits and the length of the run do not keep a budget to what is claimed.

    The worst case is the least of all bounds, in exact integers; it is 0 iff the budget
    can never be charged.
    """
    policy = prover.policies[0]
    budget = next(budget for budget in policy.budgets if budget.name == proof.budget)
    if not prover.possible(charged_over(budget, 0)):
        if is_own(policy, proof):
            yield _never_charged(proof, budget)
        return
    run = length((*proof.given, *policy.assumptions))
    least = next(iter(bounds(policy, budget, run)), None)
    if least is None or least.amount > proof.most:
        yield _overspent(proof, budget, least, run)


def _never_charged(proof: SpentAtMost, budget: Budget) -> Diagnostic:
    return Diagnostic(
        code="AQ309",
        severity="warning",
        message="a `prove` statement holds vacuously",
        labels=(Label(proof.span, "holds"), Label(budget.span, "nothing is ever charged to it")),
        help=("correct the statement so that it says what was meant, or take it away",),
    )


def _overspent(proof: SpentAtMost, budget: Budget, least: Bound | None, run: Length) -> Diagnostic:
    happens = "its spending has no bound" if least is None else f"{nats(least.amount)} can be spent"
    how = _missing(budget, run) if least is None else f"worst case: {least.text}"
    return Diagnostic(
        code="AQ308",
        severity="error",
        message=f"a `prove` statement is refuted: {happens}",
        labels=(
            Label(proof.span, f"says {nats(proof.most)}"),
            Label(budget.span, "the budget"),
            *(least.labels if least else ()),
        ),
        notes=(how,),
        help=("lower the limits of the budget, or correct the statement",),
    )


def worst(prover: Prover, budget: Budget) -> Iterator[Diagnostic]:
    """Yield a note with the worst case of a budget over the declared run, or what is missing to state it."""
    policy = prover.policies[0]
    run = length(policy.assumptions)
    least = next(iter(bounds(policy, budget, run)), None)
    said = "has no bound over the run" if least is None else f"can be charged at most {nats(least.amount)} over the run"
    yield Diagnostic(
        code="AQ317",
        severity="note",
        message=f"budget `{budget.name}` {said}",
        labels=(
            Label(budget.span, "the worst case over the declared run"),
            *(least.labels if least else ()),
        ),
        notes=() if least is None else (least.text,),
        help=(_missing(budget, run),) if least is None else (),
    )


def beyond_capacity(_prover: Prover, budget: Budget, settings: CheckSettings) -> Iterator[Diagnostic]:
    """Yield a warning if a limit per run exceeds what the parameters of the groups can hold; needs no solver."""
    limit, counts = budget.limit("surprisal", "run"), settings.parameter_counts
    if limit is None or counts is None:
        return
    parameters = sum(counts.get(group, 0) for group in budget.groups)
    if limit.amount > parameters * CAPACITY:
        yield Diagnostic(
            code="AQ315",
            severity="warning",
            message=f"budget `{budget.name}` allows more information than its groups can hold",
            labels=(
                Label(limit.span, f"{nats(limit.amount)} per run"),
                Label(budget.span, f"covers {parameters} parameters"),
            ),
            notes=(f"{quoted(budget.groups)} can hold about {nats(parameters * CAPACITY)}, 2.5 nat per parameter",),
            help=("lower the limit per run: as it stands, it never binds",),
        )
