"""What a policy asks of the gate, by feature, and the refusal of what the gate of this version cannot enforce.

A demand is a fact about the policy; whether it can be met is the gate's own
declaration (`aqpolicy.bundle.capabilities`). Proofs, test cases and assumptions
ask nothing of the gate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from aqpolicy.bundle.capabilities import ATTRIBUTE_FEATURES, ENFORCED, FEATURES, meter_feature
from aqpolicy.diagnostics import Diagnostic, Label, Severity, Span
from aqpolicy.model.policy import (
    Budget,
    Condition,
    Defer,
    Deny,
    LimitFrequency,
    LimitLinear,
    LimitNorm,
    LimitShare,
    Policy,
    Profile,
    Promote,
    Restriction,
    Rule,
    Verify,
)
from aqpolicy.space.partition import comparisons
from aqpolicy.units import MICRO


@dataclass(frozen=True, slots=True)
class Demand:
    """A feature, and the construct that asks for it."""

    feature: str
    span: Span


_RESTRICTIONS: Final[Mapping[type[Restriction], str]] = MappingProxyType(
    {
        Deny: "share",
        LimitShare: "share",
        LimitLinear: "linear share",
        LimitNorm: "norm",
        LimitFrequency: "frequency limit",
        Defer: "deferral",
        Verify: "verification",
        Promote: "promotion",
    }
)


def demands(policy: Policy) -> tuple[Demand, ...]:
    """Return everything that a policy asks of the gate, each once, in the order of the policy's parts."""
    derived = frozenset(attribute.name for attribute in policy.derived)
    found = (
        *(demand for profile in _profiles(policy) for demand in _of_profile(profile)),
        *(demand for rule in policy.rules for demand in _of_rule(rule, derived)),
        *(demand for budget in policy.budgets for demand in _of_budget(budget, derived)),
        *(Demand("evidence weighting", part.span) for part in (policy.evidence,) if part is not None),
        *(Demand("stages", certification.span) for certification in policy.certifications),
    )
    return tuple(dict.fromkeys(found))


def features(asked: Iterable[Demand]) -> tuple[str, ...]:
    """Return the names of the features that are asked for, sorted."""
    return tuple(sorted({demand.feature for demand in asked}))


def unenforceable(policy: Policy, severity: Severity = "error") -> tuple[Diagnostic, ...]:
    """Return a finding for every feature that a policy asks for and the gate of this version does not enforce."""
    return beyond_the_gate(demands(policy), severity)


def beyond_the_gate(asked: Iterable[Demand], severity: Severity = "error") -> tuple[Diagnostic, ...]:
    """Return a finding for every feature asked for that the gate of this version does not enforce."""
    spans: dict[str, list[Span]] = {feature: [] for feature in FEATURES if feature not in ENFORCED}
    for demand in asked:
        if demand.feature in spans:
            spans[demand.feature].append(demand.span)
    return tuple(_finding(feature, places, severity) for feature, places in spans.items() if places)


def _finding(feature: str, spans: list[Span], severity: Severity) -> Diagnostic:
    return Diagnostic(
        code="AQ322",
        severity=severity,
        message=f"the gate of this version cannot {FEATURES[feature]}",
        labels=tuple(Label(span, f"asks for `{feature}`") for span in spans),
        notes=("a policy is enforced as a whole or not at all; it can be checked and tested all the same",),
    )


def _profiles(policy: Policy) -> Iterator[Profile]:
    """Yield the profiles that rules admit."""
    yield from dict.fromkeys(rule.admit for rule in policy.rules if rule.admit is not None)


def _of_profile(profile: Profile) -> Iterator[Demand]:
    yield Demand("share", profile.span)
    if max(profile.shares) > MICRO:
        yield Demand("amplify", profile.span)


def _of_rule(rule: Rule, derived: frozenset[str]) -> Iterator[Demand]:
    yield from _of_condition(rule.when, derived)
    for restriction in rule.restrictions:
        yield Demand(_RESTRICTIONS[type(restriction)], restriction.span)
        if isinstance(restriction, LimitLinear) and restriction.attribute in derived:
            yield Demand(ATTRIBUTE_FEATURES[restriction.attribute], restriction.span)
        if isinstance(restriction, Defer):
            yield from _of_condition(restriction.until, derived)


def _of_budget(budget: Budget, derived: frozenset[str]) -> Iterator[Demand]:
    yield from _of_condition(budget.when, derived)
    for limit in budget.limits:
        yield Demand(meter_feature(limit.meter, limit.window), limit.span)
    if budget.exposures is not None:
        yield Demand("exposures", budget.span)


def _of_condition(condition: Condition, derived: frozenset[str]) -> Iterator[Demand]:
    for atom in comparisons(condition):
        if atom.attribute in derived:
            yield Demand(ATTRIBUTE_FEATURES[atom.attribute], atom.span)
