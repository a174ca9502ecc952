"""The typed policy: what resolution makes of a tree, and all that later stages read.

Input: nothing (pure data). Every number is an integer of millionths (`aqpolicy.units`).
Every name has been resolved: attributes, groups, profiles and budgets exist,
defines are inlined, and each node keeps the span that an author would point at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aqpolicy.diagnostics import Span

Op = Literal["=", "<", "<=", ">", ">="]
"""Comparison of an attribute with a literal; inequality is `Not` of "="."""

Exhaust = Literal["deny", "defer", "attenuate", "halt"]
"""What becomes of an update that a budget no longer covers."""

Window = Literal["epoch", "run"]
"""The stretch of training over which a budget's spending adds up."""


@dataclass(frozen=True, slots=True)
class Category:
    """A closed set of values; the first `ordered` of them ascend, the rest stand outside the order."""

    values: tuple[str, ...]
    ordered: int


@dataclass(frozen=True, slots=True)
class Numeric:
    """Numbers from `low` to `high`, both included, in steps of `step`; all three in millionths.

    `step` is 1 for `number` and one million for `integer` and `version`.
    """

    kind: Literal["number", "integer", "version"]
    low: int
    high: int
    step: int
    unit: str | None = None


AttributeType = Category | Numeric


@dataclass(frozen=True, slots=True)
class Attribute:
    """One typed attribute of an observation."""

    name: str
    type: AttributeType
    span: Span


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """The customer's own vocabulary of observations, in the order declared."""

    name: str
    version: int
    attributes: tuple[Attribute, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ModuleRange:
    """Modules of a model: one glob (`last` is None), or from `first` to `last` in the model's order."""

    first: str
    last: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class DepthGroup:
    """A named stretch of the model's depth that one share governs."""

    name: str
    modules: tuple[ModuleRange, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Atom:
    """Attribute compared with a literal: a value's name for a category, millionths for a number.

    Under an order a value outside it satisfies no comparison but "=" with itself.
    """

    attribute: str
    op: Op
    value: str | int
    span: Span


@dataclass(frozen=True, slots=True)
class Admitted:
    """The share that a decision admits to a group, compared with millionths; in `prove` only."""

    group: str
    op: Op
    value: int
    span: Span


@dataclass(frozen=True, slots=True)
class Not:
    """True where its term is false."""

    term: Condition


@dataclass(frozen=True, slots=True)
class All:
    """True where every term is; `All(())` is true."""

    terms: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """True where some term is; `Any(())` is false."""

    terms: tuple[Condition, ...]


Condition = Atom | Admitted | Not | All | Any


@dataclass(frozen=True, slots=True)
class Profile:
    """A share for every depth group, in the order of `Policy.groups`; a group not named has 0."""

    name: str
    shares: tuple[int, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Deny:
    """Close the groups."""

    groups: tuple[str, ...]
    because: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class LimitShare:
    """Admit at most this share to the groups."""

    groups: tuple[str, ...]
    share: int
    span: Span


@dataclass(frozen=True, slots=True)
class LimitNorm:
    """Bound what one example writes into each group's gradient, in the l2 norm."""

    groups: tuple[str, ...]
    norm: int
    span: Span


Restriction = Deny | LimitShare | LimitNorm


@dataclass(frozen=True, slots=True)
class Rule:
    """A guard with a grant, restrictions, or both; `overrides` names grants that yield to this one."""

    name: str
    title: str | None
    when: Condition
    admit: Profile | None
    restrictions: tuple[Restriction, ...]
    overrides: tuple[str, ...]
    span: Span
    """The rule's name."""
    when_span: Span
    admit_span: Span | None


@dataclass(frozen=True, slots=True)
class Limit:
    """A number of nats over a window."""

    window: Window
    nats: int
    span: Span


@dataclass(frozen=True, slots=True)
class Budget:
    """What the observations that match `when` may spend on `groups`.

    An update of share w and surprisal s is charged w * s nats, with w the
    largest share among the groups that the budget covers. `per_update` lowers w
    until the charge fits; `limits` bound the sum over a window; `exposures`
    bounds how often one example may be charged in a run.
    """

    name: str
    when: Condition
    groups: tuple[str, ...]
    within: str | None
    per_update: int | None
    limits: tuple[Limit, ...]
    exposures: int | None
    """A plain count, not millionths."""
    on_exhaust: Exhaust
    span: Span


@dataclass(frozen=True, slots=True)
class Prove:
    """A condition that no observation and its decision may satisfy."""

    never: Condition
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Otherwise:
    """What happens to observations that no grant admits: they are denied, for this reason."""

    because: str
    span: Span


@dataclass(frozen=True, slots=True)
class Policy:
    """One resolved policy."""

    name: str
    version: str
    taxonomy: Taxonomy
    origin: Literal["input", "output"]
    """Where depth is counted from."""
    groups: tuple[DepthGroup, ...]
    rules: tuple[Rule, ...]
    budgets: tuple[Budget, ...]
    proofs: tuple[Prove, ...]
    otherwise: Otherwise
    combine_min: bool
    """Whether grants that differ on a group combine to the least share."""
    span: Span

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the depth groups, in order of depth."""
        return tuple(group.name for group in self.groups)
