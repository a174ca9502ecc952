"""AQ311: deferrals that can never be released."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from aqpolicy.analysis.copies import renamed, second
from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.analysis.query import And, Holds, Owes, Query, open_somewhere
from aqpolicy.analysis.question import Question
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.model.policy import Defer, Policy
from aqpolicy.space.partition import comparisons


def questions(policy: Policy, _settings: CheckSettings) -> Iterator[Question]:
    """Ask of every deferral whether something that it holds back can be admitted later."""
    for number, (rule, asked) in enumerate(policy.obligations):
        if isinstance(asked, Defer):
            claim = f"what rule `{rule}` defers until {asked.text} can be released"
            obligation = Obligation(claim, _policies(policy, asked), _release(policy, number, asked), "sat")
            yield Question(claim, asked.span, partial(stuck, number=number), (obligation,))


def _changing(policy: Policy, deferral: Defer) -> frozenset[str]:
    """Return what may be another while an observation waits: what the release asks for, and the state of the run."""
    asked = {atom.attribute for atom in comparisons(deferral.until)}
    return frozenset(asked | {attribute.name for attribute in policy.derived if attribute.origin == "run"})


def _policies(policy: Policy, deferral: Defer) -> tuple[Policy, Policy]:
    return policy, second(policy, _changing(policy, deferral))


def _release(policy: Policy, number: int, deferral: Defer) -> Query:
    """Ask for an observation that is held back and would be admitted once it is released."""
    until = renamed(deferral.until, _changing(policy, deferral))
    return And((Owes(number, 0), Holds(until), open_somewhere(policy, 1)))


def stuck(prover: Prover, number: int) -> Iterator[Diagnostic]:
    """Yield a finding if what is deferred can only ever be denied.

    Sat iff some observation is held back by the deferral, and the same one with other
    values of what `until` asks for (and at another time of the run) is released and
    admitted. All other attributes stay as they were.
    """
    policy = prover.policies[0]
    rule_name, asked = policy.obligations[number]
    if not isinstance(asked, Defer) or not prover.possible(Owes(number)):
        return
    if prover.about(*_policies(policy, asked)).possible(_release(policy, number, asked)):
        return
    witness = prover.witness(Owes(number))
    reachable = prover.possible(Holds(asked.until))
    rule = next(rule for rule in policy.rules if rule.name == rule_name)
    yield Diagnostic(
        code="AQ311",
        severity="error",
        message=f"what rule `{rule_name}` defers can never be released",
        labels=(
            Label(asked.span, "nothing that waits here is ever admitted" if reachable else "this never holds"),
            Label(rule.when_span, "holds back what satisfies this"),
        ),
        notes=(
            "while an observation waits, only what `until` asks for and the state of the run may change"
            if reachable
            else "no observation satisfies the condition of the release",
        ),
        help=("deny instead of deferring, or wait for a condition under which a grant admits the observation",),
        witness=None if witness is None else prover.text(witness),
    )
