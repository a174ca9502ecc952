"""AQ313 and AQ314: groups that nothing reaches, and shares that an adaptive optimizer undoes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.analysis.query import And, Bounded, InScope, Negated, Over, Query, norms_of
from aqpolicy.analysis.question import Question, confirm, policies_of, replay
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.analysis.wording import MOST_REGIONS, decision_text, region_notes
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.model.policy import Deny, DepthGroup, LimitLinear, LimitShare, Policy, Rule
from aqpolicy.units import MICRO, micro_text


def questions(policy: Policy, settings: CheckSettings) -> Iterator[Question]:
    """Ask of every group whether something reaches it, and whether a share there bounds anything."""
    for group in policy.groups:
        least = settings.starved_below
        claim = f"something is admitted to `{group.name}`" + (f" above {micro_text(least)}" if least else "")
        obligation = Obligation(claim, policies_of(policy), Over(group.name, least), "sat")
        yield Question(claim, group.span, partial(starved, group=group, least=least), (obligation,))
    if settings.optimizer == "adaptive":
        for group in policy.groups:
            claim = f"every share below 1 in `{group.name}` has a bound of norm or movement"
            obligation = Obligation(claim, policies_of(policy), _unbounded_share(policy, group))
            yield Question(claim, group.span, partial(share_alone, group=group), (obligation,))


def starved(prover: Prover, group: DepthGroup, least: int) -> Iterator[Diagnostic]:
    """Yield a warning if nothing can write a group above a share.

    Sat iff some observation gets a larger share.
    """
    if prover.possible(Over(group.name, least)):
        return
    policy = prover.policies[0]
    position = policy.groups.index(group)
    granting = [r for r in policy.rules if r.admit is not None and r.admit.shares[position] > least]
    amount = f" above {micro_text(least)}" if least else ""
    yield Diagnostic(
        code="AQ313",
        severity="warning",
        message=f"group `{group.name}` is starved: nothing is ever admitted to it{amount}",
        labels=(
            Label(group.span, f"never written{amount}"),
            *(Label(rule.admit_span or rule.span, "admits it, but restrictions always close it") for rule in granting),
        ),
        help=("admit something to it, or loosen what restricts it",),
    )


def _unbounded_share(policy: Policy, group: DepthGroup) -> Query:
    """Ask for a share between 0 and 1 without a limit of norm, and without a budget of movement."""
    norms = norms_of(policy, group.name)
    moving = [b for b in policy.budgets if group.name in b.groups and any(li.meter == "movement" for li in b.limits)]
    return And(
        (
            Over(group.name, 0),
            Negated(Over(group.name, MICRO - 1)),
            *([Negated(Bounded(group.name, max(norms)))] if norms else []),
            *(Negated(InScope(budget.name)) for budget in moving),
        )
    )


def _shares_out(rule: Rule, group: DepthGroup) -> bool:
    """Say whether a rule has a part in the share of a group."""
    limits = (item for item in rule.restrictions if isinstance(item, Deny | LimitShare | LimitLinear))
    return rule.admit is not None or any(group.name in limit.groups for limit in limits)


def share_alone(prover: Prover, group: DepthGroup) -> Iterator[Diagnostic]:
    """Yield a warning if a share is all that holds back what an observation writes.

    Unsat iff every observation with a share between 0 and 1 in the group has a limit of
    its norm, or a budget that limits the movement of the group.
    """
    policy = prover.policies[0]
    query = _unbounded_share(policy, group)
    witness = prover.witness(query)
    if witness is None:
        return
    decision = replay(prover, witness)
    share = decision.shares[policy.groups.index(group)]
    confirm(0 < share < MICRO, f"a share of `{group.name}` is below 1")
    deciding = [rule for rule in policy.rules if rule.name in decision.rules and _shares_out(rule, group)]
    yield Diagnostic(
        code="AQ314",
        severity="warning",
        message=f"a share of {micro_text(share)} in `{group.name}` has neither a norm nor a movement limit",
        labels=(
            Label(group.span, "written with a share alone"),
            *(Label(rule.admit_span or rule.span, "decides so") for rule in deciding),
        ),
        notes=(
            "an adaptive optimizer such as Adam divides gradients by their own size",
            "so a class that fills a batch moves the group almost as far as with a share of 1",
            f"the decision is: {decision_text(policy, decision)}",
            *region_notes(prover.regions(query, MOST_REGIONS + 1), "this happens"),
        ),
        help=(
            f"add `limit {group.name} norm ...` to a rule, or a budget with `movement at most ... l2 per step`",
            'or say that training uses a plain optimizer: `optimizer = "plain"` in the settings',
        ),
        witness=prover.text(witness),
    )
