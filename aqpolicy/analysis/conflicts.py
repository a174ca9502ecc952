"""AQ301: grants that stand together and give one group different shares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from aqpolicy.analysis.observation import Observation
from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.analysis.query import And, Conflict, Stands
from aqpolicy.analysis.question import Question, confirm, policies_of, replay
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.analysis.wording import quoted, region_notes, shares_text
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.model.policy import Policy, Profile, Rule
from aqpolicy.semantics import evaluate

MOST_FINDINGS = 20
"""How many conflicts are shown; the rest are counted."""

MOST_LABELS = 8
"""How many grants of one conflict are pointed at."""


def questions(policy: Policy, _settings: CheckSettings) -> Iterator[Question]:
    """Ask whether grants can conflict; nothing where the least share is taken."""
    if not policy.combine_min:
        claim = "no two grants conflict"
        yield Question(claim, policy.span, conflicts, (Obligation(claim, policies_of(policy), Conflict()),))


def conflicts(prover: Prover) -> Iterator[Diagnostic]:
    """Yield one finding per set of grants that conflict at a least observation.

    Exact: two grants conflict iff some observation lets both stand, and their shares
    differ. Every pair of them is in one of the sets shown, or counted at the end.
    """
    shown: set[tuple[str, str]] = set()
    found: list[Diagnostic] = []
    rest = 0
    for pair in prover.rivals():
        if pair in shown:
            continue
        if len(found) == MOST_FINDINGS:
            rest += 1
            continue
        witness = prover.witness(And((Stands(pair[0]), Stands(pair[1]))))
        if witness is not None:
            standing = _standing(prover, witness)
            shown.update(combinations([rule.name for rule in standing], 2))
            found.append(_finding(prover, standing, witness))
    for number, finding in enumerate(found):
        yield _with_count(finding, rest) if rest and number == len(found) - 1 else finding


def _standing(prover: Prover, witness: Observation) -> list[Rule]:
    """Return the grants that stand at a witness, as declared: the rules that decide where nothing is restricted."""
    policy = prover.policies[0]
    confirm(replay(prover, witness).cause == "error", "grants conflict")
    grants = {rule.name: rule for rule in policy.rules if rule.admit is not None}
    bare = tuple(replace(rule, restrictions=()) for rule in grants.values())
    return [grants[name] for name in evaluate(replace(policy, rules=bare), witness).rules]


def _profile(rule: Rule) -> Profile:
    assert rule.admit is not None, "only grants are compared"  # noqa: S101 - the callers filter
    return rule.admit


def _finding(prover: Prover, rules: list[Rule], witness: Observation) -> Diagnostic:
    names = prover.policies[0].group_names
    offers = [_profile(rule).shares for rule in rules]
    differing = [g for g in range(len(names)) if len({shares[g] for shares in offers}) > 1]
    groups = tuple(names[g] for g in differing)
    marked = rules[:MOST_LABELS]
    query = And(tuple(Stands(rule.name) for rule in rules))
    left = len(rules) - len(marked)
    return Diagnostic(
        code="AQ301",
        severity="error",
        message=f"grants {quoted(rule.name for rule in rules)} give one update different shares of {quoted(groups)}",
        labels=(
            *(Label(rule.admit_span or rule.span, _grants(rule, groups, differing)) for rule in marked),
            *(
                Label(rule.when_span, "this guard holds" if n == 0 else "and so does this")
                for n, rule in enumerate(marked)
            ),
        ),
        notes=(
            "none of these rules overrides another, so the update would be refused",
            *([f"{left} more grants stand for the same observation"] if left else ()),
            *region_notes(prover.regions(query, 1), "they meet at least"),
        ),
        help=(
            f"say which one wins: write `overrides {rules[0].name}` in rule `{rules[1].name}`, or the other way round",
            "or narrow one of the guards so that they cannot hold together",
            "or let the least share win everywhere: `combine grants by min`",
        ),
        witness=prover.text(witness),
    )


def _grants(rule: Rule, groups: tuple[str, ...], positions: list[int]) -> str:
    return f"`{rule.name}` grants {shares_text(groups, tuple(_profile(rule).shares[g] for g in positions))}"


def _with_count(finding: Diagnostic, rest: int) -> Diagnostic:
    """Add to the last finding how much is not shown."""
    more = f"{rest} more pairs of grants with different shares have guards that meet; they are not shown"
    return replace(finding, notes=(*finding.notes, more))
