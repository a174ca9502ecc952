"""AQ310: a policy that admits what the policy that it extends does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from aqpolicy.analysis.observation import Observation
from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.analysis.query import (
    And,
    Bounded,
    Exceeds,
    InScope,
    Negated,
    Over,
    Owes,
    Query,
    norms_of,
    or_,
)
from aqpolicy.analysis.question import Question, confirm, policies_of, replay
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.analysis.wording import MOST_REGIONS, decision_text, limit_text, quoted, region_notes
from aqpolicy.diagnostics import Diagnostic, Label, Span
from aqpolicy.model.policy import Budget, Defer, LimitFrequency, Policy
from aqpolicy.model.policy import Obligation as Owed
from aqpolicy.semantics import Decision
from aqpolicy.units import micro_text

HERE, ABOVE = 0, 1
"""Positions of the policy and of the one that it extends."""

_NOWHERE = Span("", 0, 0, 1, 1)


@dataclass(frozen=True, slots=True)
class Widening:
    """One way in which a policy could admit more than the one above it."""

    what: str
    """What is looser, in words: the group, budget or obligation."""
    query: Query
    spans: tuple[Span, ...] = ()
    """Places in the policy above that are no longer kept."""


def questions(policy: Policy, _settings: CheckSettings) -> Iterator[Question]:
    """Ask for every way of widening whether some observation takes it; nothing where nothing is extended."""
    if policy.extends is None:
        return
    promise = f"`{policy.name}` does not widen `{policy.extends.name}`"
    larger, others = list(larger_shares(policy, policy.extends)), other_widenings(policy, policy.extends)
    for ways in (larger, *([way] for way in others)):
        claim = f"{promise}: {_joined(ways).what}"
        asked = (Obligation(f"{promise}: {way.what}", policies_of(policy), way.query) for way in ways)
        yield Question(claim, policy.span, partial(widened, ways=ways), tuple(asked))
    claim = f"the budgets of `{policy.name}` are no looser than those of `{policy.extends.name}`"
    yield Question(claim, policy.span, looser_budgets)


def widenings(policy: Policy, above: Policy) -> Iterator[Widening]:
    """Yield every way in which a decision can be wider: share, norm, charge, obligation."""
    yield from larger_shares(policy, above)
    yield from other_widenings(policy, above)


def larger_shares(policy: Policy, above: Policy) -> Iterator[Widening]:
    """Yield for every group that its share can be larger."""
    for group in policy.group_names:
        yield Widening(f"the share of `{group}`", _larger(group, above))


def other_widenings(policy: Policy, above: Policy) -> Iterator[Widening]:
    """Yield every way in which a decision can be wider with the same shares: norm, charge, obligation."""
    for group in (group for group in above.group_names if group in policy.group_names):
        norms = norms_of(above, group)
        if norms:
            yield Widening(f"the norm of `{group}`", And((Over(group, 0), or_(_looser(group, norm) for norm in norms))))
    for budget in above.budgets:
        yield Widening(f"charges to budget `{budget.name}`", _uncharged(policy, budget), (budget.span,))
    for number, (rule, asked) in enumerate(above.obligations):
        if not isinstance(asked, Defer):  # while it waits nothing is admitted, so a share would be larger
            yield Widening(f"an obligation of rule `{rule}`", _unasked(policy, number, rule, asked), (asked.span,))


def _joined(ways: Sequence[Widening]) -> Widening:
    """Return the way that takes any of several."""
    spans = tuple(span for way in ways for span in way.spans)
    return Widening(" and ".join(way.what for way in ways), or_(way.query for way in ways), spans)


def _larger(group: str, above: Policy) -> Query:
    return Exceeds(group, HERE, ABOVE) if group in above.group_names else Over(group, 0)


def _looser(group: str, norm: int) -> Query:
    """Ask whether the policy above limits a norm to a number and this one does not."""
    return And((Bounded(group, norm, ABOVE), Negated(Bounded(group, norm, HERE))))


def _uncharged(policy: Policy, budget: Budget) -> Query:
    """Ask whether something reaches a budget's groups that the policy above charges and this one does not."""
    opened = or_(Over(group, 0) for group in budget.groups if group in policy.group_names)
    charged = And((InScope(budget.name, ABOVE), opened))
    same = next((other for other in policy.budgets if other.name == budget.name), None)
    if same is None:
        return charged
    covered = or_(Over(group, 0) for group in same.groups)
    return And((charged, Negated(And((InScope(budget.name, HERE), covered)))))


def _unasked(policy: Policy, number: int, rule: str, asked: Owed) -> Query:
    """Ask whether the policy above asks an obligation for what this one admits without asking it."""
    among = asked.groups if isinstance(asked, LimitFrequency) else policy.group_names
    opened = or_(Over(group, 0) for group in among if group in policy.group_names)
    owed = And((Owes(number, ABOVE), opened))
    mine = [
        n for n, (owner, other) in enumerate(policy.obligations) if owner == rule and _plain(other) == _plain(asked)
    ]
    return And((owed, *(Negated(Owes(n, HERE)) for n in mine)))


def _plain(asked: Owed) -> Owed:
    return replace(asked, span=_NOWHERE)


# ---- What is said


def widened(prover: Prover, ways: Sequence[Widening]) -> Iterator[Diagnostic]:
    """Yield a finding per observation that is the least to take some of these ways.

    Unsat for each iff for every observation the policy keeps, in this respect, to what
    the policy above decides.
    """
    taken: list[tuple[Observation, list[Widening]]] = []
    for way in ways:
        witness = prover.witness(way.query)
        same = next((others for other, others in taken if other == witness), None)
        if same is not None:
            same.append(way)
        elif witness is not None:
            taken.append((witness, [way]))
    for witness, together in taken:
        way, here, above = _joined(together), replay(prover, witness, HERE), replay(prover, witness, ABOVE)
        confirm(any(here.shares) and _wider(prover, here, above), f"{way.what} is wider")
        yield _finding(prover, way, witness, (here, above))


def _wider(prover: Prover, here: Decision, above: Decision) -> bool:
    """Say whether one decision admits anything that another does not, in any respect."""
    policy, other = prover.policies[HERE], prover.policies[ABOVE]
    shares = dict(zip(other.group_names, above.shares, strict=True))
    norms = dict(zip(other.group_names, above.norms, strict=True))
    for group, share, norm in zip(policy.group_names, here.shares, here.norms, strict=True):
        limit = norms.get(group)
        if share > shares.get(group, 0) or (share and limit is not None and (norm is None or norm > limit)):
            return True
    mine = {b.name for b, share in zip(policy.budgets, here.charged, strict=True) if share}
    theirs = {b.name for b, share in zip(other.budgets, above.charged, strict=True) if share}
    owed = {_asked(policy, number) for number in here.obligations}
    return not theirs <= mine or not {_asked(other, number) for number in above.obligations} <= owed


def _asked(policy: Policy, number: int) -> tuple[str, Owed]:
    rule, asked = policy.obligations[number]
    return rule, _plain(asked)


def _finding(prover: Prover, way: Widening, witness: Observation, decisions: tuple[Decision, Decision]) -> Diagnostic:
    policy, above = prover.policies[HERE], prover.policies[ABOVE]
    here, there = decisions
    inherited = {rule.name for rule in above.rules}
    own = [rule for rule in policy.rules if rule.name in here.rules and rule.name not in inherited]
    granting = own or [rule for rule in policy.rules if rule.name in here.rules and rule.admit is not None]
    refusing = [rule for rule in above.rules if rule.name in there.rules]
    return Diagnostic(
        code="AQ310",
        severity="error",
        message=f"`{policy.name}` widens what it extends: {way.what}",
        labels=(
            *(Label(rule.admit_span or rule.span, f"`{rule.name}` decides so here") for rule in granting),
            *(Label(rule.span, f"decides otherwise in `{above.name}`") for rule in refusing if rule not in granting),
            *([Label(above.otherwise.span, "refuses in the policy above")] if there.cause == "default" else []),
            *(Label(span, "is not kept") for span in way.spans),
        ),
        notes=(
            f"`{policy.name}` decides: {decision_text(policy, here)}{_norms(policy, here)}",
            f"`{above.name}` decides: {decision_text(above, there)}{_norms(above, there)}",
            *region_notes(prover.regions(way.query, MOST_REGIONS + 1), "this happens"),
        ),
        help=(f"narrow these rules: a policy may refuse what `{above.name}` admits, never admit what it refuses",),
        witness=prover.text(witness),
    )


def _norms(policy: Policy, decision: Decision) -> str:
    pairs = zip(policy.group_names, decision.norms, strict=True)
    limited = [f"{name} {micro_text(norm)}" for name, norm in pairs if norm is not None]
    return f" (norms: {', '.join(limited)})" if limited else ""


def looser_budgets(prover: Prover) -> Iterator[Diagnostic]:
    """Yield a finding per budget whose limits are looser than above; needs no solver."""
    policy, above = prover.policies[HERE], prover.policies[ABOVE]
    mine = {budget.name: budget for budget in policy.budgets}
    for budget in above.budgets:
        same = mine.get(budget.name)
        looser = [] if same is None else _looser_limits(same, budget)
        if same is not None and looser:
            yield Diagnostic(
                code="AQ310",
                severity="error",
                message=f"`{policy.name}` widens what it extends: budget `{budget.name}` has looser limits",
                labels=(Label(same.span, "looser here"), Label(budget.span, f"in `{above.name}`")),
                notes=(f"looser: {quoted(looser)}",),
                help=(f"keep to the limits of `{above.name}`, or tighten them",),
            )


def _looser_limits(mine: Budget, theirs: Budget) -> list[str]:
    """Return the limits of a budget that another one of the same name does not keep to."""
    found = []
    for limit in theirs.limits:
        own = mine.limit(limit.meter, limit.window)
        if own is None or own.amount > limit.amount:
            found.append(f"{limit.meter} at most {limit_text(limit)}")
    if theirs.exposures is not None and (mine.exposures is None or mine.exposures > theirs.exposures):
        found.append(f"exposures at most {theirs.exposures} per example")
    return found
