"""AQ301: two grants that both stand and give one group different shares."""

from __future__ import annotations

from collections.abc import Iterator

from aqpolicy.analysis.domain import Value
from aqpolicy.analysis.prover import Prover
from aqpolicy.analysis.question import Question, confirm, replay, shares_text
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.model.policy import Policy, Profile, Rule


def questions(policy: Policy) -> Iterator[Question]:
    """Ask of every grant whether it conflicts with a later one; nothing where the least share is taken."""
    grants = [] if policy.combine_min else [rule for rule in policy.rules if rule.admit is not None]
    for number, rule in enumerate(grants):
        later = grants[number + 1 :]

        def findings(prover: Prover, rule: Rule = rule, later: list[Rule] = later) -> Iterator[Diagnostic]:
            return conflicts_with(prover, rule, later)

        yield Question(f"grant `{rule.name}` conflicts with no later grant", rule.span, findings)


def conflicts_with(prover: Prover, rule: Rule, later: list[Rule]) -> Iterator[Diagnostic]:
    """Yield one finding per grant in `later` that conflicts with `rule`.

    Unsat iff no observation lets both grants survive every override and their
    shares differ on a group; grants with equal shares are not asked about.
    """
    survives = prover.encoding.survives
    rivals = [other for other in later if _shares(other) != _shares(rule)]
    with prover.given(survives[rule.name]):
        for other in rivals:
            witness = prover.witness(survives[other.name])
            if witness is not None:
                confirm(replay(prover, witness).cause == "error", f"`{rule.name}` and `{other.name}` conflict")
                yield _finding(prover, rule, other, witness)


def _shares(rule: Rule) -> tuple[int, ...]:
    return _profile(rule).shares


def _profile(rule: Rule) -> Profile:
    assert rule.admit is not None, "only grants are compared"  # noqa: S101 - the callers filter
    return rule.admit


def _finding(prover: Prover, one: Rule, other: Rule, witness: dict[str, Value]) -> Diagnostic:
    names = prover.policy.group_names
    differing = [g for g in range(len(names)) if _shares(one)[g] != _shares(other)[g]]
    groups = tuple(names[g] for g in differing)

    def words(rule: Rule) -> str:
        return shares_text(groups, tuple(_shares(rule)[g] for g in differing))

    return Diagnostic(
        code="AQ301",
        severity="error",
        message=f"grants `{one.name}` and `{other.name}` give one update different shares of {_list(groups)}",
        labels=(
            Label(one.admit_span or one.span, f"`{one.name}` grants {words(one)}"),
            Label(other.admit_span or other.span, f"`{other.name}` grants {words(other)}"),
            Label(one.when_span, "this guard holds"),
            Label(other.when_span, "and so does this one"),
        ),
        notes=("neither rule overrides the other, so the update would be refused",),
        help=(
            f"say which one wins: write `overrides {one.name}` in rule `{other.name}`, or the other way round",
            "or narrow one of the guards so that they cannot hold together",
            "or let the least share win everywhere: `combine grants by min`",
        ),
        witness=prover.encoding.domain.text(witness),
    )


def _list(names: tuple[str, ...]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " and " + quoted[-1]
