"""Mask tables: what a policy has become when nothing is left to interpret.

An observation selects one interval per attribute; each interval carries a bit
vector of the rule conjuncts that it satisfies; the AND of these vectors selects
a row (bit-vector packet classification: Lakshman and Stiliadis, SIGCOMM 1998).
A row holds a share and a norm limit for every depth group, what each budget is
charged, which rules decided, and what is asked beyond the step. Shares that are
linear in an attribute are the only thing left to compute (`Tables.decide`).

This module needs neither the solver nor the parser nor torch: it is what the
authoring side writes and the training side reads.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from aqpolicy.units import MICRO

Effect = Literal["deny", "defer", "modulate", "admit"]
"""What happens to an update, from least to most."""

Cause = Literal["granted", "denied", "default", "error"]
"""Why: a grant, a named restriction, no grant at all, or something that cannot be decided."""

Origin = Literal["manifest", "evidence", "run"]
"""Where an attribute's value comes from: what was signed, what is weighed from it, or the state of the run."""

ObligationKind = Literal["frequency", "defer", "verify", "promote"]

Exhaust = Literal["deny", "defer", "attenuate", "halt"]

EFFECTS: Final[tuple[Effect, ...]] = ("deny", "defer", "modulate", "admit")
CAUSES: Final[tuple[Cause, ...]] = ("granted", "denied", "default", "error")
ORIGINS: Final[tuple[Origin, ...]] = ("manifest", "evidence", "run")
OBLIGATION_KINDS: Final[tuple[ObligationKind, ...]] = ("frequency", "defer", "verify", "promote")
EXHAUSTS: Final[tuple[Exhaust, ...]] = ("deny", "defer", "attenuate", "halt")
COMPARISONS: Final = ("=", "<", "<=", ">", ">=")

ERROR_ROW: Final = 0
"""Row of everything that cannot be decided; it denies every group."""

NO_LIMIT: Final = -1
"""A norm limit or budget limit that is not there."""

LARGEST_SHARE: Final = 100 * MICRO
"""The largest share; above 1 it amplifies."""


@dataclass(frozen=True, slots=True)
class AttributeTable:
    """Intervals of one attribute, with the bit vector of each.

    For a category `values` names the intervals. For a number `breaks` holds the
    lower ends in ascending order; the last interval ends at `high`. Numbers are
    millionths and multiples of `step`.
    """

    name: str
    kind: Literal["category", "numeric"]
    values: tuple[str, ...]
    breaks: tuple[int, ...]
    high: int
    step: int
    vectors: tuple[int, ...]
    origin: Origin = "manifest"

    def interval_of(self, value: object) -> int | None:
        """Return the interval that holds a value, or None where the value is not of this attribute's type."""
        if self.kind == "category":
            return self.values.index(value) if isinstance(value, str) and value in self.values else None
        if not isinstance(value, int) or isinstance(value, bool) or value % self.step:
            return None
        if not self.breaks[0] <= value <= self.high:
            return None
        return bisect_right(self.breaks, value) - 1


@dataclass(frozen=True, slots=True)
class Row:
    """One decision. Shares, norms and budget shares are millionths.

    `linear` holds limits that depend on an attribute's value: group, position of
    the attribute, intercept, slope. Shares, charges and effect are those before
    these limits; wherever the row is selected, each of them leaves something.

    Shapes:
        shares (g), norms (g), charged (number of budgets).
    """

    effect: Effect
    cause: Cause
    shares: tuple[int, ...]
    norms: tuple[int, ...]
    """Per group, `NO_LIMIT` where there is none."""
    charged: tuple[int, ...]
    """Per budget, the largest share among the groups that it covers; 0 where it does not apply."""
    rules: tuple[str, ...]
    """Rules whose guards hold and that were not overridden, as declared."""
    reason: str
    linear: tuple[tuple[int, int, int, int], ...] = ()
    obligations: tuple[int, ...] = ()
    """Positions in `Tables.obligations`, ascending; where the effect is `defer`, what it waits for."""


@dataclass(frozen=True, slots=True)
class ObligationTable:
    """Something that a decision asks of the run beyond the step.

    `parameters` is exact: `groups`, `updates`, `steps` of a frequency; `epochs` of
    a deferral, which is released where another row is selected; `metric`,
    `direction`, `amount`, `steps`, `remedy` of a verification; `metric`, `op`,
    `value`, `witnesses` of a promotion.
    """

    kind: ObligationKind
    rule: str
    text: str
    """For people."""
    parameters: Mapping[str, str | int | tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class EvidenceTable:
    """How judgments are weighed into the attribute `evidence`; see docs/language.md."""

    weights: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    """Per weighed attribute its values with their weights; a value that is not named counts 0."""
    independent_by: tuple[str, ...]
    floor: int
    ceiling: int


@dataclass(frozen=True, slots=True)
class BudgetTable:
    """One budget; limits are millionths of a nat, `exposures` a plain count; `NO_LIMIT` where there is none."""

    name: str
    groups: tuple[int, ...]
    per_update: int
    per_epoch: int
    per_run: int
    exposures: int
    on_exhaust: Exhaust
    meters: tuple[tuple[str, str, int], ...] = ()
    """All other limits: meter, window, millionths of the meter's unit."""


@dataclass(frozen=True, slots=True)
class StageTable:
    """A stage of the run, and what must hold of metrics before the run may enter it."""

    name: str
    requires: tuple[tuple[str, str, int], ...] = ()
    """Metric, comparison (one of `COMPARISONS`), millionths; all of them must hold."""


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables of one policy."""

    groups: tuple[str, ...]
    attributes: tuple[AttributeTable, ...]
    rows: tuple[Row, ...]
    """Row `ERROR_ROW` is the error row; no vector selects it."""
    row_of_vector: Mapping[int, int]
    budgets: tuple[BudgetTable, ...]
    obligations: tuple[ObligationTable, ...] = ()
    requires: tuple[str, ...] = ()
    """Features that a gate must enforce (`aqpolicy.bundle.capabilities`), sorted."""
    evidence: EvidenceTable | None = None
    phases: tuple[str, ...] = ()
    """What the run goes through by plan, in the order declared; the first is where it begins."""
    stages: tuple[StageTable, ...] = ()
    """What the run goes through by certification, in the order declared; the first is where it begins."""

    def row_of(self, attributes: Mapping[str, object]) -> int:
        """Return the row number for an observation's attributes.

        Anything missing, ill-typed or out of range selects `ERROR_ROW`. Attributes
        that the policy does not have are not looked at.
        """
        vector = -1
        for table in self.attributes:
            interval = table.interval_of(attributes.get(table.name))
            if interval is None:
                return ERROR_ROW
            vector &= table.vectors[interval]
        return self.row_of_vector.get(vector, ERROR_ROW)

    def decide(self, attributes: Mapping[str, object]) -> Row:
        """Return the decision for an observation's attributes, its linear limits resolved."""
        row = self.rows[self.row_of(attributes)]
        if not row.linear:
            return row
        shares = list(row.shares)
        for group, position, intercept, slope in row.linear:
            value = attributes[self.attributes[position].name]
            if isinstance(value, int):  # no other selects a row but the error row
                shares[group] = min(shares[group], linear_limit(intercept, slope, value))
        return self._lowered(row, tuple(shares))

    def _lowered(self, row: Row, shares: tuple[int, ...]) -> Row:
        """Return a row with lower shares; what follows from them follows."""
        if not any(shares):
            unspent = (0,) * len(self.budgets)
            return Row("deny", "denied", shares, row.norms, unspent, row.rules, "nothing is left")
        charged = tuple(
            max((shares[group] for group in budget.groups), default=0) if share else 0
            for budget, share in zip(self.budgets, row.charged, strict=True)
        )
        whole = all(share == MICRO for share in shares) and max(row.norms) == NO_LIMIT
        return replace(row, effect="admit" if whole else "modulate", shares=shares, charged=charged, linear=())


def linear_limit(intercept: int, slope: int, value: int) -> int:
    """Return the share limit `intercept + slope * value` in millionths, kept between 0 and 1."""
    return min(max(intercept + slope * value // MICRO, 0), MICRO)
