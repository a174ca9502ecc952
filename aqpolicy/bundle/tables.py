"""Mask tables: what a policy has become when nothing is left to interpret.

An observation selects one interval per attribute; each interval carries a bit
vector of the rule conjuncts that it satisfies; the AND of these vectors selects
a row (bit-vector packet classification: Lakshman and Stiliadis, SIGCOMM 1998).
A row holds a share and a norm limit for every depth group, what each budget is
charged, and which rules decided.

This module needs neither the solver nor the parser nor torch: it is what the
authoring side writes and the training side reads.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Effect = Literal["deny", "defer", "modulate", "admit"]
"""What happens to an update, from least to most."""

Cause = Literal["granted", "denied", "default", "error"]
"""Why: a grant, a named restriction, no grant at all, or something that cannot be decided."""

EFFECTS: Final[tuple[Effect, ...]] = ("deny", "defer", "modulate", "admit")
CAUSES: Final[tuple[Cause, ...]] = ("granted", "denied", "default", "error")

ERROR_ROW: Final = 0
"""Row of everything that cannot be decided; it denies every group."""

NO_LIMIT: Final = -1
"""A norm limit or budget limit that is not there."""


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


@dataclass(frozen=True, slots=True)
class BudgetTable:
    """One budget; limits are millionths of a nat, `exposures` a plain count; `NO_LIMIT` where there is none."""

    name: str
    groups: tuple[int, ...]
    per_update: int
    per_epoch: int
    per_run: int
    exposures: int
    on_exhaust: Literal["deny", "defer", "attenuate", "halt"]


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables of one policy."""

    groups: tuple[str, ...]
    attributes: tuple[AttributeTable, ...]
    rows: tuple[Row, ...]
    """Row `ERROR_ROW` is the error row; no vector selects it."""
    row_of_vector: Mapping[int, int]
    budgets: tuple[BudgetTable, ...]

    def row_of(self, attributes: Mapping[str, object]) -> int:
        """Return the row number for an observation's attributes.

        Anything missing, ill-typed or out of range selects `ERROR_ROW`. Attributes
        that the policy's taxonomy does not declare are not looked at.
        """
        vector = -1
        for table in self.attributes:
            interval = table.interval_of(attributes.get(table.name))
            if interval is None:
                return ERROR_ROW
            vector &= table.vectors[interval]
        return self.row_of_vector.get(vector, ERROR_ROW)
