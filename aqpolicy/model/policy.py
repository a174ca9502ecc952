"""The typed policy: what resolution makes of a tree, and all that later stages read.

Input: nothing (pure data). Every number is an integer of millionths (`aqpolicy.units`);
a date is a count of days since 1970, in millionths too. Every name has been resolved:
attributes, groups, profiles and budgets exist, definitions and bands are filled in,
and each node keeps the span that an author would point at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aqpolicy.diagnostics import Span

Op = Literal["=", "<", "<=", ">", ">="]
"""Comparison of an attribute with a literal; inequality is `Not` of "="."""

Exhaust = Literal["deny", "defer", "attenuate", "halt"]
"""What becomes of an update that a budget no longer covers."""

Meter = Literal["surprisal", "movement", "drift"]
"""What a budget counts: nats of admitted labels, l2 of realised change, nats of representation drift."""

Window = Literal["update", "step", "epoch", "phase", "run"]
"""The stretch of training over which a limit adds up; `update` is one example of one step."""

Origin = Literal["manifest", "evidence", "run"]
"""Where an attribute's value comes from: what was signed, what is weighed from it, or the state of the run."""


@dataclass(frozen=True, slots=True)
class Category:
    """A closed set of values; the first `ordered` of them ascend, the rest stand outside the order."""

    values: tuple[str, ...]
    ordered: int


@dataclass(frozen=True, slots=True)
class Numeric:
    """Numbers from `low` to `high`, both included, in steps of `step`; all three in millionths.

    `step` is 1 for `number` and one million for the others; a `date` counts days since 1970.
    """

    kind: Literal["number", "integer", "version", "date"]
    low: int
    high: int
    step: int
    unit: str | None = None


AttributeType = Category | Numeric


@dataclass(frozen=True, slots=True)
class Attribute:
    """One typed attribute of an observation, or of the run while the observation is used."""

    name: str
    type: AttributeType
    span: Span
    origin: Origin = "manifest"


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """The customer's own vocabulary of observations, in the order declared."""

    name: str
    version: int
    attributes: tuple[Attribute, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Band:
    """One stretch of an attribute: below `below`, and not below the bands before it; None has no upper end."""

    name: str
    below: int | None
    span: Span


@dataclass(frozen=True, slots=True)
class Bands:
    """Named stretches of one numeric attribute, in the order declared; they should partition its range."""

    attribute: str
    bands: tuple[Band, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Weights:
    """How much one judgment counts, by the value of one categorical attribute; a value not named counts 0."""

    attribute: str
    weights: tuple[tuple[str, int], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Evidence:
    """How the judgments behind an observation are weighed into its attribute `evidence`.

    A judgment counts the product of its weights. Judgments that share a key of
    `independent_by` (a session, a model) are echoes: together they count as
    their strongest. The sum is kept between `floor` and `ceiling`.
    """

    weights: tuple[Weights, ...]
    independent_by: tuple[str, ...]
    floor: int
    ceiling: int
    span: Span


@dataclass(frozen=True, slots=True)
class Certification:
    """What a metric must reach before the run may enter a stage."""

    stage: str
    metric: str
    op: Op
    value: int
    span: Span


@dataclass(frozen=True, slots=True)
class ModuleRange:
    """Part of a model by name: one glob (`last` is None), or from `first` to `last` in the model's order.

    `experts`, `adapters` and `parameters` are narrower addresses: what they name is
    taken out of the groups that reach it as `modules`. Only `parameters` globs over
    names of parameters; all others do over names of modules.
    """

    first: str
    last: str | None
    span: Span
    kind: Literal["modules", "experts", "adapters", "parameters"] = "modules"


@dataclass(frozen=True, slots=True)
class DepthGroup:
    """A named stretch of the model's depth that one share governs."""

    name: str
    modules: tuple[ModuleRange, ...]
    span: Span
    protected: bool = False
    """Whether no single attribute may open it alone (AQ312)."""


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
    """The share that a decision admits to a group, compared with millionths; in `prove` and `test` only."""

    group: str
    op: Op
    value: int
    span: Span


@dataclass(frozen=True, slots=True)
class Charged:
    """The share that a decision charges to a budget, compared with millionths; in `prove` and `test` only."""

    budget: str
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


Condition = Atom | Admitted | Charged | Not | All | Any


@dataclass(frozen=True, slots=True)
class Profile:
    """A share for every depth group, in the order of `Policy.groups`; a group not named has 0.

    A share above 1 amplifies; the author has said `amplify` for it.
    """

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
class LimitLinear:
    """Admit at most `intercept + slope * attribute` to the groups, kept between 0 and 1.

    With everything in millionths the limit is `intercept + floor(slope * value / 10**6)`.
    """

    groups: tuple[str, ...]
    intercept: int
    slope: int
    attribute: str
    span: Span

    def at(self, value: int) -> int:
        """Return the limit in millionths where the attribute has a value."""
        return min(max(self.intercept + self.slope * value // 1_000_000, 0), 1_000_000)


@dataclass(frozen=True, slots=True)
class LimitNorm:
    """Bound what one example writes into each group's gradient, in the l2 norm."""

    groups: tuple[str, ...]
    norm: int
    span: Span


@dataclass(frozen=True, slots=True)
class LimitFrequency:
    """Let each group be written in at most `updates` of any `steps` steps in a row by what the rule matches."""

    groups: tuple[str, ...]
    updates: int
    steps: int
    """Plain counts."""
    span: Span


@dataclass(frozen=True, slots=True)
class Defer:
    """Hold the observation back until `until` holds; deny it once it has waited `epochs` epochs (a plain count)."""

    until: Condition
    epochs: int
    text: str
    """`until` as written."""
    span: Span


@dataclass(frozen=True, slots=True)
class Verify:
    """Check after commit that a metric moves `direction` by at most `amount` within `steps` steps, or else ..."""

    metric: str
    direction: Literal["falls", "rises"]
    amount: int
    steps: int
    """A plain count."""
    remedy: Literal["rollback", "halt", "hold"]
    span: Span


@dataclass(frozen=True, slots=True)
class Promote:
    """Let what was learned leave the run only after a metric passes, before `witnesses` witnesses (a plain count)."""

    metric: str
    op: Op
    value: int
    witnesses: int
    span: Span


Obligation = LimitFrequency | Defer | Verify | Promote
"""What a decision asks of the run beyond this step; `Policy.obligations` numbers them."""

Restriction = Deny | LimitShare | LimitLinear | LimitNorm | LimitFrequency | Defer | Verify | Promote


@dataclass(frozen=True, slots=True)
class Rule:
    """A guard with a grant, restrictions, or both; `overrides` names grants that yield to this one.

    An `until` date of the author's is part of `when`: `today` is not after it.
    """

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
    """At most an amount of a meter over a window; millionths of its unit (nat, or l2 for movement)."""

    meter: Meter
    window: Window
    amount: int
    span: Span


@dataclass(frozen=True, slots=True)
class Budget:
    """What the observations that match `when` may spend on `groups`.

    An update of share w and surprisal s is charged w * s nats, with w the
    largest share among the groups that the budget covers. The limit of surprisal
    per update lowers w until the charge fits; other limits bound the sum over a
    window; `exposures` bounds how often one example may be charged in a run.
    """

    name: str
    when: Condition
    groups: tuple[str, ...]
    within: str | None
    limits: tuple[Limit, ...]
    """At most one for each meter and window."""
    exposures: int | None
    """A plain count, not millionths."""
    on_exhaust: Exhaust
    span: Span

    def limit(self, meter: Meter, window: Window) -> Limit | None:
        """Return the limit of a meter over a window."""
        return next((limit for limit in self.limits if (limit.meter, limit.window) == (meter, window)), None)

    @property
    def per_update(self) -> int | None:
        """The most millionths of a nat that one update is charged."""
        limit = self.limit("surprisal", "update")
        return None if limit is None else limit.amount

    @property
    def windows(self) -> tuple[Limit, ...]:
        """The limits of surprisal that add up over an epoch, a phase or the whole run: those that make it finite."""
        return tuple(
            limit for limit in self.limits if limit.meter == "surprisal" and limit.window in ("epoch", "phase", "run")
        )


@dataclass(frozen=True, slots=True)
class Assumption:
    """The run has at most so many `epochs`, `steps` or `examples` (a plain count)."""

    what: Literal["epochs", "steps", "examples"]
    most: int
    span: Span


@dataclass(frozen=True, slots=True)
class Never:
    """A condition that no observation and its decision may satisfy."""

    never: Condition
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Monotone:
    """The share admitted to a group never falls (or never rises) where a single attribute grows."""

    group: str
    direction: Literal["rises", "falls"]
    attribute: str
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class SpentAtMost:
    """A budget is charged at most an amount (millionths of a nat) over a run of a given length."""

    budget: str
    most: int
    given: tuple[Assumption, ...]
    text: str
    span: Span


Prove = Never | Monotone | SpentAtMost


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a test case expects of every observation that it is given: an effect, deciding rules, a condition."""

    effect: Literal["deny", "defer", "modulate", "admit"] | None
    rules: tuple[str, ...]
    """Rules that must be among those that decide."""
    condition: Condition
    """On the observation and its decision; `All(())` where an effect is expected."""
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Case:
    """A test case: every observation that satisfies `given`, of which there must be one, meets the expectations."""

    title: str
    given: Condition
    expectations: tuple[Expectation, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Otherwise:
    """What happens to observations that no grant admits: they are denied, for this reason."""

    because: str
    span: Span


@dataclass(frozen=True, slots=True)
class Policy:
    """One resolved policy, with all that it imports and extends filled in."""

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
    derived: tuple[Attribute, ...] = ()
    """Attributes that conditions use beyond the taxonomy's: `evidence`, then those of the run."""
    bands: tuple[Bands, ...] = ()
    evidence: Evidence | None = None
    phases: tuple[str, ...] = ()
    """What the run goes through by plan, as declared, whether or not a condition asks for it."""
    stages: tuple[str, ...] = ()
    """What the run goes through by certification, likewise."""
    certifications: tuple[Certification, ...] = ()
    complete: Span | None = None
    """Where the policy says that every observation must be admitted or refused by a rule."""
    assumptions: tuple[Assumption, ...] = ()
    cases: tuple[Case, ...] = ()
    extends: Policy | None = None
    """The policy that this one may only narrow; its rules, budgets and proofs are among this one's."""

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the depth groups, in order of depth."""
        return tuple(group.name for group in self.groups)

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """Everything that conditions may compare: the taxonomy's attributes, then the derived ones."""
        return (*self.taxonomy.attributes, *self.derived)

    @property
    def obligations(self) -> tuple[tuple[str, Obligation], ...]:
        """All obligations with the names of their rules, as declared; decisions name them by position."""
        return tuple(
            (rule.name, restriction)
            for rule in self.rules
            for restriction in rule.restrictions
            if isinstance(restriction, Obligation)
        )
