"""AQ306: rules that determine nothing, because of the others together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from aqpolicy.analysis.inheritance import own_rules
from aqpolicy.analysis.observation import Observation
from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.analysis.query import Applies, Matters
from aqpolicy.analysis.question import Question, policies_of
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.analysis.wording import quoted
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.model.policy import Policy, Rule
from aqpolicy.semantics import evaluate, holds

MOST_FINDINGS: Final = 20
"""How many shadowed rules are explained; the rest are counted."""


def questions(policy: Policy, _settings: CheckSettings) -> Iterator[Question]:
    """Ask of every rule of the policy's own whether the decision would ever be another without it."""
    claims = [
        Obligation(f"rule `{r.name}` determines something", policies_of(policy), Matters(r.name), "sat")
        for r in own_rules(policy)
    ]
    yield Question("every rule determines something", policy.span, shadowed, tuple(claims))


def shadowed(prover: Prover) -> Iterator[Diagnostic]:
    """Yield a finding per rule that applies somewhere and changes nothing anywhere.

    Sat for a rule iff without it some observation would get other shares, other norms in
    an open group or other obligations, or be left to `otherwise` instead of being refused.
    """
    rules = own_rules(prover.policies[0])
    found = [rule for rule in rules if prover.possible(Applies(rule.name)) and not _matters(prover, rule)]
    for number, rule in enumerate(found[:MOST_FINDINGS]):
        last = number == MOST_FINDINGS - 1
        rest = len(found) - MOST_FINDINGS if last else 0
        yield _finding(rule, reasons(prover, rule), rest)


def _matters(prover: Prover, rule: Rule) -> bool:
    """Say whether a rule determines something; the solver is asked only about the rules that it meets."""
    answer = prover.quick(Matters(rule.name))
    return _determined(prover, rule, _meeting(prover, rule)) is not None if answer is None else answer


def _meeting(prover: Prover, rule: Rule) -> list[Rule]:
    """Return the rules that apply together with a rule to some observation; all, if any overrides another.

    An override may reach through rules that do not apply.
    """
    others = [other for other in prover.policies[0].rules if other.name != rule.name]
    if any(other.overrides for other in (rule, *others)):
        return others
    meeting = set(prover.meeting(rule.name))
    return [other for other in others if other.name in meeting]


def reasons(prover: Prover, rule: Rule) -> list[Rule]:
    """Return other rules that suffice to shadow a rule, of which none can be spared.

    Where the rule only restricts, all grants stay: without them nothing could be
    restricted at all. Rules that never apply together with it play no part. As long as
    the rule still determines an observation, one that changes this is chosen.
    """
    others = _meeting(prover, rule)
    grants = [other for other in others if other.admit is not None and rule.admit is None]
    fixed = {other.name for other in grants}
    others = [other for other in others if other.name not in fixed]
    chosen: list[Rule] = []
    while (witness := _determined(prover, rule, [*grants, *chosen])) is not None:
        chosen += _settling(prover, rule, witness, others=others, chosen=[*grants, *chosen])
    for other in tuple(chosen):
        rest = [kept for kept in chosen if kept is not other]
        if _determined(prover, rule, [*grants, *rest]) is None:
            chosen = rest
    return [other for other in others if other in chosen]


def _determined(prover: Prover, rule: Rule, others: Sequence[Rule]) -> Observation | None:
    """Return an observation that a rule determines among only some of the others."""
    return prover.about(_among(prover.policies[0], (rule, *others))).witness(Matters(rule.name))


def _settling(
    prover: Prover, rule: Rule, witness: Observation, *, others: Sequence[Rule], chosen: Sequence[Rule]
) -> list[Rule]:
    """Return rules to add so that a rule no longer determines an observation: one if one is enough."""
    known = {other.name for other in chosen}
    left = [other for other in others if other.name not in known]
    applying = [other for other in left if holds(other.when, witness)]
    policies = ((other, _among(prover.policies[0], (rule, *chosen, other))) for other in applying)
    enough = (other for other, policy in policies if not determines(policy, rule, witness))
    one = next(enough, None)
    return [one] if one is not None else applying or left


def determines(policy: Policy, rule: Rule, observation: Observation) -> bool:
    """Say by the evaluator whether the decision on an observation would be another without a rule."""
    rest = _among(policy, [other for other in policy.rules if other.name != rule.name])
    with_it, without = evaluate(policy, observation), evaluate(rest, observation)
    open_norms = [
        (one, other)
        for one, other, share in zip(with_it.norms, without.norms, with_it.shares, strict=True)
        if share > 0
    ]
    owed = [policy.obligations[number][0] for number in with_it.obligations]
    waits = (with_it.effect == "defer") != (without.effect == "defer")
    norms = any(one != other for one, other in open_norms)
    refuses = rule.admit is None and with_it.cause != "default" and without.cause == "default"
    return with_it.shares != without.shares or norms or rule.name in owed or waits or refuses


def _among(policy: Policy, rules: Sequence[Rule]) -> Policy:
    """Return the policy with only some of its rules, in its own order."""
    kept = {rule.name for rule in rules}
    return replace(
        policy,
        rules=tuple(_within(rule, kept) for rule in policy.rules if rule.name in kept),
        budgets=(),  # what is charged follows from the shares
        extends=None,
    )


def _within(rule: Rule, kept: set[str]) -> Rule:
    """Return a rule whose overrides name only rules that are kept."""
    if kept.issuperset(rule.overrides):
        return rule
    return replace(rule, overrides=tuple(name for name in rule.overrides if name in kept))


def _because(others: list[Rule]) -> str:
    if not others:
        return "nothing that it restricts is admitted"
    names = quoted(other.name for other in others)
    return f"{names} decides as much" if len(others) == 1 else f"{names} together decide as much"


def _finding(rule: Rule, others: list[Rule], rest: int) -> Diagnostic:
    """Say what shadows a rule; one that only restricts what nothing admits anyway is a safeguard, not an error."""
    because = _because(others)
    more = (f"{rest} more rules determine nothing; they are not shown",) if rest else ()
    words = ("decides as much", *("together with this one" for _ in others))
    return Diagnostic(
        code="AQ306",
        severity="error" if others else "warning",
        message=f"rule `{rule.name}` never determines anything: {because}",
        labels=(
            Label(rule.span, "could be taken away without any change"),
            *(Label(other.span, word) for other, word in zip(others, words, strict=False)),
        ),
        notes=("what is admitted would be the same without it", *more),
        help=("take the rule away, or change its guard or what it does",),
    )
