"""The attributes that the language itself provides: what is weighed from judgments, and the state of the run.

A taxonomy cannot declare them. A policy carries those that its conditions use,
always in this order; they follow the taxonomy's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aqpolicy.diagnostics import Span
from aqpolicy.model.policy import Attribute, Category, Evidence, Numeric
from aqpolicy.units import LAST_DAY, MICRO

_NOWHERE: Final = Span("", 0, 0, 1, 1)

LARGEST_SURPRISAL: Final = 2**31 - 1
"""Micro-nats at which a surprisal is clipped, in conditions and in budgets."""

ALWAYS: Final[Mapping[str, Attribute]] = MappingProxyType(
    {
        attribute.name: attribute
        for attribute in (
            Attribute("surprisal", Numeric("number", 0, LARGEST_SURPRISAL, 1, "nat"), _NOWHERE, "run"),
            Attribute("predictive_entropy", Numeric("number", 0, 100 * MICRO, 1, "nat"), _NOWHERE, "run"),
            Attribute("step", Numeric("integer", 0, 10**9 * MICRO, MICRO, "steps"), _NOWHERE, "run"),
            Attribute("epoch", Numeric("integer", 0, 10**6 * MICRO, MICRO, "epochs"), _NOWHERE, "run"),
            Attribute("today", Numeric("date", 0, LAST_DAY * MICRO, MICRO), _NOWHERE, "run"),
        )
    }
)
"""What every run has."""

ORDER: Final = ("evidence", "surprisal", "predictive_entropy", "phase", "stage", "step", "epoch", "today")
"""The order in which a policy lists what it uses of them."""

RESERVED_ATTRIBUTES: Final = frozenset((*ORDER, "band"))
"""Names that no taxonomy may give to an attribute."""


def evidence_attribute(evidence: Evidence) -> Attribute:
    """Return the attribute that an `evidence` statement makes."""
    return Attribute("evidence", Numeric("number", evidence.floor, evidence.ceiling, 1), evidence.span, "evidence")


def course_attribute(name: str, kind: Category, span: Span) -> Attribute:
    """Return the attribute that `phases` or `stages` make."""
    return Attribute(name, kind, span, "run")
