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


Value = Word | Number


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
class AdmittedShare:
    """`admitted(g) > 0.5`."""

    group: Word
    op: Literal["<", "<=", ">", ">="]
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


Expression = Anything | Named | OneOf | Compare | AdmittedShare | Negation | Junction


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
class AttributeDecl:
    """One attribute of a taxonomy."""

    name: Word
    type: Ladder | Choice | Range
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
class ModulesDecl:
    """One glob, or from one module to another."""

    first: Word
    last: Word | None
    span: Span


@dataclass(frozen=True, slots=True)
class GroupDecl:
    """`NAME = modules ...`."""

    name: Word
    modules: tuple[ModulesDecl, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class DepthDecl:
    """`depth from input { ... }`."""

    origin: Literal["input", "output"]
    groups: tuple[GroupDecl, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class DefineDecl:
    """`define NAME = condition`."""

    name: Word
    condition: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Portion:
    """`GROUP SHARE` in a profile; `group` is None for `all`."""

    group: Word | None
    share: Number
    span: Span


@dataclass(frozen=True, slots=True)
class ProfileDecl:
    """`profile NAME { ... }`."""

    name: Word
    portions: tuple[Portion, ...]
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


Action = AdmitClause | DenyClause | LimitClause


@dataclass(frozen=True, slots=True)
class RuleDecl:
    """`rule NAME "Title" when ... `."""

    name: Word
    title: Word | None
    when: Expression
    actions: tuple[Action, ...]
    overrides: tuple[Word, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class CombineDecl:
    """`combine grants by min`."""

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
    per: Literal["epoch", "run", "update"]
    span: Span


@dataclass(frozen=True, slots=True)
class SurprisalClause:
    """`surprisal at most ...`, one or more caps."""

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


Clause = ForClause | OnClause | WithinClause | SurprisalClause | ExposuresClause | ExhaustClause


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
class ProveDecl:
    """`prove never condition`."""

    never: Expression
    span: Span


Statement = (
    PolicyDecl
    | TaxonomyDecl
    | DepthDecl
    | DefineDecl
    | ProfileDecl
    | RuleDecl
    | CombineDecl
    | BudgetDecl
    | OtherwiseDecl
    | ProveDecl
)


@dataclass(frozen=True, slots=True)
class Tree:
    """All statements of one text, in the order written."""

    statements: tuple[Statement, ...]
