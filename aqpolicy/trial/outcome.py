"""What came of a test: it held, or findings say what was expected and what happened instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from aqpolicy.analysis.observation import observation_text
from aqpolicy.diagnostics import Diagnostic, Label, Span
from aqpolicy.model.policy import Policy
from aqpolicy.semantics import Decision, evaluate
from aqpolicy.trial.fixture import Expected, Fixture, obligation_names
from aqpolicy.trial.observation import missing
from aqpolicy.units import micro_text

UNDECIDED: Final = "AQ300"
FAILED: Final = "AQ319"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test case or fixture, with what is wrong with it."""

    title: str
    kind: Literal["case", "fixture"]
    span: Span
    findings: tuple[Diagnostic, ...]

    @property
    def word(self) -> Literal["passed", "failed", "undecided"]:
        """What came of it; what was not decided is never a pass."""
        if not self.findings:
            return "passed"
        return "undecided" if any(finding.code == UNDECIDED for finding in self.findings) else "failed"


def run_fixtures(policy: Policy, fixtures: Iterable[Fixture]) -> tuple[Outcome, ...]:
    """Return what comes of each fixture."""
    return tuple(_run(policy, fixture) for fixture in fixtures)


def _run(policy: Policy, fixture: Fixture) -> Outcome:
    decision = evaluate(policy, fixture.observation)
    wrong = tuple(mismatches(policy, fixture.expected, decision))
    findings = (_finding(policy, fixture, decision, wrong),) if wrong else ()
    return Outcome(fixture.name, "fixture", fixture.span, findings)


def _finding(policy: Policy, fixture: Fixture, decision: Decision, wrong: tuple[str, ...]) -> Diagnostic:
    deciding = (rule for rule in policy.rules if rule.name in decision.rules)
    shown = observation_text(policy.attributes, fixture.observation)
    asked = ", ".join(f"{name}={value}" for name, value in shown.items())
    absent = ", ".join(f"`{attribute.name}`" for attribute in missing(policy, fixture.observation))
    return Diagnostic(
        code=FAILED,
        severity="error",
        message=f"fixture `{fixture.name}`: {wrong[0]}",
        labels=(Label(fixture.span, "expected here"), *(Label(rule.span, "decides") for rule in deciding)),
        notes=(
            *wrong[1:],
            f"the decision is {decision.effect}, {decision.cause}: {decision.reason}",
            *((f"the observation lacks {absent}",) if absent else ()),
        ),
        help=(f"`aqpolicy why {policy.span.file} --observation '{asked}'` shows how this is decided",),
        witness=shown,
    )


def mismatches(policy: Policy, expected: Expected, decision: Decision) -> Iterator[str]:
    """Yield everything in which a decision is not as expected, in words."""
    for word, wanted, found in (
        ("effect", expected.effect, decision.effect),
        ("cause", expected.cause, decision.cause),
        ("reason", expected.reason, decision.reason),
    ):
        if wanted is not None and wanted != found:
            yield f"expected {word} `{wanted}`, got `{found}`"
    groups, budgets = policy.group_names, tuple(budget.name for budget in policy.budgets)
    yield from _numbers("share of", expected.shares, dict(zip(groups, decision.shares, strict=True)))
    yield from _numbers("norm limit of", expected.norms, dict(zip(groups, decision.norms, strict=True)))
    yield from _numbers("charged share of", expected.charges, dict(zip(budgets, decision.charged, strict=True)))
    if expected.rules is not None:
        yield from _names("rules", expected.rules, decision.rules)
    yield from (f"expected `{rule}` to decide, got {_listed(decision.rules)}" for rule in _lacking(expected, decision))
    if expected.obligations is not None:
        names = obligation_names(policy)
        yield from _names("obligations", expected.obligations, tuple(names[number] for number in decision.obligations))


def _lacking(expected: Expected, decision: Decision) -> list[str]:
    return [rule for rule in expected.by if rule not in decision.rules]


def _numbers(what: str, wanted: Mapping[str, int | None], found: Mapping[str, int | None]) -> Iterator[str]:
    for name, number in wanted.items():
        if number != found[name]:
            yield f"expected {what} `{name}` {_text(number)}, got {_text(found[name])}"


def _names(what: str, wanted: tuple[str, ...], found: tuple[str, ...]) -> Iterator[str]:
    if sorted(wanted) != sorted(found):
        yield f"expected {what} {_listed(wanted)}, got {_listed(found)}"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _text(number: int | None) -> str:
    return "none" if number is None else micro_text(number)
