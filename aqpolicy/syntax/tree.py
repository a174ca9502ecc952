"""The tree of a policy text: what was written, with spans, before any name is looked up.

It checks nothing and converts no number: `Word.text` and `Number.text` are the
author's own characters, so that messages can quote them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aqpolicy.diagnostics import Span


@dataclass(frozen=True, slots=True)
class Word:
    """A name, a dotted path, or the inside of a text in quotes."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Number:
    """A decimal with the unit written after it."""

    text: str
    unit: Word | None
    span: Span


@dataclass(frozen=True, slots=True)
class Day:
    """A date, as written."""

    text: str
    span: Span


Value = Word | Number | Day


@dataclass(frozen=True, slots=True)
class Anything:
    """The condition that always holds."""

    span: Span


@dataclass(frozen=True, slots=True)
class Named:
    """A defined condition, used by its name."""

    name: Word
    span: Span


@dataclass(frozen=True, slots=True)
class Call:
    """A defined condition with its parameters filled in: `agreed(0.9)`."""

    name: Word
    values: tuple[Value, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class OneOf:
    """`a is v`, `a is one of v, w`, and their negations."""

    attribute: Word
    values: tuple[Value, ...]
    negated: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Compare:
    """`a >= v` and its kin."""

    attribute: Word
    op: Literal["<", "<=", ">", ">="]
    value: Value
    span: Span


@dataclass(frozen=True, slots=True)
class DecidedShare:
    """`admitted(g) > 0.5` or `charged(b) is 1`: a share of the decision, of a group or a budget."""

    kind: Literal["admitted", "charged"]
    name: Word
    op: Literal["<", "<=", ">", ">=", "="]
    share: Number
    span: Span


@dataclass(frozen=True, slots=True)
class Negation:
    """`not c`."""

    term: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Junction:
    """`c and d and ...` or `c or d or ...`."""

    word: Literal["and", "or"]
    terms: tuple[Expression, ...]
    span: Span


Expression = Anything | Named | Call | OneOf | Compare | DecidedShare | Negation | Junction


@dataclass(frozen=True, slots=True)
class Ladder:
    """`a < b < c; d`: ascending values, then those outside the order."""

    rungs: tuple[Word, ...]
    outside: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """`one of a, b`."""

    values: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """`number 0..1 nat`."""

    kind: Literal["number", "integer", "version"]
    low: Number
    high: Number
    unit: str | None


@dataclass(frozen=True, slots=True)
class Days:
    """`date 2020-01-01..2030-12-31`."""

    low: Day
    high: Day


@dataclass(frozen=True, slots=True)
class AttributeDecl:
    """One attribute of a taxonomy."""

    name: Word
    type: Ladder | Choice | Range | Days
    span: Span


@dataclass(frozen=True, slots=True)
class PolicyDecl:
    """`policy NAME version X.Y.Z`."""

    name: Word
    version: str
    span: Span


@dataclass(frozen=True, slots=True)
class TaxonomyDecl:
    """`taxonomy NAME version N { ... }`."""

    name: Word
    version: Number
    attributes: tuple[AttributeDecl, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class BandDecl:
    """`NAME < 0.3` in a `bands` statement; the last has no bound."""

    name: Word
    below: Number | None
    span: Span


@dataclass(frozen=True, slots=True)
class BandsDecl:
    """`bands of ATTRIBUTE { ... }`."""

    attribute: Word
    bands: tuple[BandDecl, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class CertificationDecl:
    """`STAGE requires METRIC >= X`."""

    stage: Word
    metric: Word
    op: Literal["<", "<=", ">", ">="]
    value: Number
    span: Span


@dataclass(frozen=True, slots=True)
class CourseDecl:
    """`phases a < b` or `stages a < b { ... }`."""

    kind: Literal["phase", "stage"]
    ladder: Ladder
    certifications: tuple[CertificationDecl, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class WeighClause:
    """`weigh ATTRIBUTE: VALUE WEIGHT; ...`."""

    attribute: Word
    weights: tuple[tuple[Word, Number], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class OnePerClause:
    """`one per session, model`."""

    names: tuple[Word, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class EvidenceBound:
    """`at least X` or `at most X`."""

    kind: Literal["floor", "ceiling"]
    value: Number
    span: Span


EvidenceClause = WeighClause | OnePerClause | EvidenceBound


@dataclass(frozen=True, slots=True)
class EvidenceDecl:
    """`evidence { ... }` with its clauses as written."""

    clauses: tuple[EvidenceClause, ...]
    span: Span


AddressKind = Literal["modules", "experts", "adapters", "parameters"]


@dataclass(frozen=True, slots=True)
class AddressDecl:
    """One glob, or from one name to another; `kind` is None where it is that of the address before."""

    kind: AddressKind | None
    first: Word
    last: Word | None
    span: Span


@dataclass(frozen=True, slots=True)
class GroupDecl:
    """`NAME = modules ...`."""

    protected: bool
    name: Word
    addresses: tuple[AddressDecl, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class DepthDecl:
    """`depth from input { ... }`."""

    origin: Literal["input", "output"]
    groups: tuple[GroupDecl, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class DefineDecl:
    """`define NAME = condition` or `define NAME(a, b) = condition`."""

    name: Word
    parameters: tuple[Word, ...]
    condition: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Portion:
    """`GROUP SHARE` in a profile, or `amplify GROUP SHARE`; `group` is None for `all`."""

    group: Word | None
    share: Number
    amplified: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Stretch:
    """`GROUP to GROUP SHARE`, or with `tapered over N`: one share from one group to another, falling off beyond."""

    first: Word
    last: Word
    share: Number
    taper: Number | None
    span: Span


@dataclass(frozen=True, slots=True)
class Ramp:
    """`from GROUP SHARE to GROUP SHARE linear`."""

    first: Word
    start: Number
    last: Word
    end: Number
    span: Span


Portions = Portion | Stretch | Ramp


@dataclass(frozen=True, slots=True)
class ProfileDecl:
    """`profile NAME { ... }`."""

    name: Word
    portions: tuple[Portions, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups by name, or `all` of them (`names` is None)."""

    names: tuple[Word, ...] | None
    span: Span


@dataclass(frozen=True, slots=True)
class AdmitClause:
    """`admit PROFILE`."""

    profile: Word
    span: Span


@dataclass(frozen=True, slots=True)
class DenyClause:
    """`deny GROUPS because "..."`."""

    groups: Groups
    because: Word | None
    span: Span


@dataclass(frozen=True, slots=True)
class LimitClause:
    """`limit GROUPS share X` or `limit GROUPS norm X`."""

    groups: Groups
    kind: Literal["share", "norm"]
    limit: Number
    span: Span


@dataclass(frozen=True, slots=True)
class LinearClause:
    """`limit GROUPS share 1 - 0.5 * attribute`; what is not written is None."""

    groups: Groups
    intercept: Number | None
    falls: bool
    factor: Number | None
    attribute: Word
    span: Span


@dataclass(frozen=True, slots=True)
class FrequencyClause:
    """`limit GROUPS frequency N per M steps`."""

    groups: Groups
    updates: Number
    steps: Number
    span: Span


@dataclass(frozen=True, slots=True)
class DeferClause:
    """`defer until condition for at most N epochs then deny`."""

    until: Expression
    epochs: Number
    span: Span


@dataclass(frozen=True, slots=True)
class VerifyClause:
    """`verify METRIC falls at most X within N steps else rollback`."""

    metric: Word
    direction: Literal["falls", "rises"]
    amount: Number
    steps: Number
    remedy: Literal["rollback", "halt", "hold"]
    span: Span


@dataclass(frozen=True, slots=True)
class PromoteClause:
    """`promote after METRIC >= X witnessed by N`."""

    metric: Word
    op: Literal["<", "<=", ">", ">="]
    value: Number
    witnesses: Number | None
    span: Span


Action = (
    AdmitClause | DenyClause | LimitClause | LinearClause | FrequencyClause | DeferClause | VerifyClause | PromoteClause
)


@dataclass(frozen=True, slots=True)
class RuleDecl:
    """`rule NAME "Title" when ... `."""

    name: Word
    title: Word | None
    when: Expression
    until: Day | None
    actions: tuple[Action, ...]
    overrides: tuple[Word, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class CombineDecl:
    """`combine grants by min`."""

    span: Span


@dataclass(frozen=True, slots=True)
class CompleteDecl:
    """`complete`."""

    span: Span


@dataclass(frozen=True, slots=True)
class ForClause:
    """`for condition`."""

    condition: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class OnClause:
    """`on GROUPS`."""

    groups: Groups
    span: Span


@dataclass(frozen=True, slots=True)
class WithinClause:
    """`within BUDGET`."""

    parent: Word
    span: Span


@dataclass(frozen=True, slots=True)
class Cap:
    """`at most N nat per epoch`."""

    amount: Number
    per: Literal["update", "step", "epoch", "phase", "run"]
    span: Span


@dataclass(frozen=True, slots=True)
class MeterClause:
    """`surprisal at most ...`, `movement ...` or `drift ...`: one or more caps."""

    meter: Literal["surprisal", "movement", "drift"]
    caps: tuple[Cap, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ExposuresClause:
    """`exposures at most N per example`."""

    count: Number
    span: Span


@dataclass(frozen=True, slots=True)
class ExhaustClause:
    """`on exhaust deny`."""

    effect: Literal["deny", "defer", "attenuate", "halt"]
    span: Span


Clause = ForClause | OnClause | WithinClause | MeterClause | ExposuresClause | ExhaustClause


@dataclass(frozen=True, slots=True)
class BudgetDecl:
    """`budget NAME ...` with its clauses as written."""

    name: Word
    clauses: tuple[Clause, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class OtherwiseDecl:
    """`otherwise deny because "..."`."""

    because: Word
    span: Span


@dataclass(frozen=True, slots=True)
class Bound:
    """`epochs <= 3`."""

    what: Literal["epochs", "steps", "examples"]
    most: Number
    span: Span


@dataclass(frozen=True, slots=True)
class AssumeDecl:
    """`assume epochs <= 3, examples <= 1000`."""

    bounds: tuple[Bound, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ProveNever:
    """`prove never condition`."""

    never: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class ProveMonotone:
    """`prove admitted(GROUP) rises with ATTRIBUTE`."""

    group: Word
    direction: Literal["rises", "falls"]
    attribute: Word
    span: Span


@dataclass(frozen=True, slots=True)
class ProveSpent:
    """`prove spent(BUDGET) <= N nat given epochs <= 3`."""

    budget: Word
    most: Number
    given: tuple[Bound, ...]
    span: Span


ProveDecl = ProveNever | ProveMonotone | ProveSpent


@dataclass(frozen=True, slots=True)
class ExpectEffect:
    """`expect admit by RULE`."""

    effect: Literal["admit", "modulate", "defer", "deny"]
    rules: tuple[Word, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ExpectThat:
    """`expect that condition`."""

    condition: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class TestDecl:
    """`test "title" { given condition expect ... }`."""

    title: Word
    given: Expression
    expectations: tuple[ExpectEffect | ExpectThat, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ExtendsDecl:
    """`extends NAME from "file"`."""

    name: Word
    file: Word | None
    span: Span


@dataclass(frozen=True, slots=True)
class ImportDecl:
    """`import "file"`."""

    file: Word
    span: Span


Statement = (
    PolicyDecl
    | ExtendsDecl
    | ImportDecl
    | TaxonomyDecl
    | BandsDecl
    | CourseDecl
    | EvidenceDecl
    | DepthDecl
    | DefineDecl
    | ProfileDecl
    | RuleDecl
    | CombineDecl
    | CompleteDecl
    | BudgetDecl
    | AssumeDecl
    | OtherwiseDecl
    | ProveNever
    | ProveMonotone
    | ProveSpent
    | TestDecl
)


@dataclass(frozen=True, slots=True)
class Tree:
    """All statements of one text, in the order written."""

    statements: tuple[Statement, ...]
