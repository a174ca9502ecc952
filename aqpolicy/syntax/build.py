"""Turn lark's parse tree into the tree of this package; one method per rule of the grammar.

It looks up nothing and checks nothing; that is `model.resolve`'s task.
"""

# ruff: noqa: D102, N802 - a method is named after its grammar rule or token, and the rule says what it is

from __future__ import annotations

from typing import Any, Literal

from lark import Token, Transformer, v_args
from lark.tree import Meta

from aqpolicy.diagnostics import Span
from aqpolicy.syntax import tree as t


def token_span(file: str, token: Token) -> Span:
    """Return the span of a token."""
    start = token.start_pos or 0
    return Span(file, start, start + len(token), token.line or 1, token.column or 1)


# The methods are called by lark with the children of a rule, whose types the grammar fixes.
@v_args(meta=True, inline=True)
class TreeBuilder(Transformer[Token, t.Tree]):
    """Builds the tree of one text."""

    def __init__(self, file: str) -> None:
        """Keep the file's name for the spans."""
        super().__init__()
        self._file = file

    def _span(self, meta: Meta) -> Span:
        return Span(self._file, meta.start_pos, meta.end_pos, meta.line, meta.column)

    # ---- Words, numbers, lists

    def NAME(self, token: Token) -> t.Word:
        return t.Word(str(token), token_span(self._file, token))

    def STRING(self, token: Token) -> t.Word:
        return t.Word(str(token[1:-1]), token_span(self._file, token))

    def DECIMAL(self, token: Token) -> t.Number:
        return t.Number(str(token), None, token_span(self._file, token))

    def AUTHORITY(self, token: Token) -> t.Word:
        return self.NAME(token)

    REVIEW = AUTHORITY
    TIER = AUTHORITY

    def path(self, meta: Meta, *parts: t.Word) -> t.Word:
        return t.Word(".".join(part.text for part in parts), self._span(meta))

    def names(self, _meta: Meta, *names: t.Word) -> tuple[t.Word, ...]:
        return names

    def groups(self, meta: Meta, which: tuple[t.Word, ...] | Token) -> t.Groups:
        return t.Groups(which if isinstance(which, tuple) else None, self._span(meta))

    def unit(self, meta: Meta, token: Token) -> t.Word:
        return t.Word(str(token), self._span(meta))

    def order(self, _meta: Meta, token: Token) -> str:
        return str(token)

    def value(self, meta: Meta, value: t.Value, unit: t.Word | None = None) -> t.Value:
        return value if isinstance(value, t.Word) else t.Number(value.text, unit, self._span(meta))

    # ---- Statements

    def start(self, _meta: Meta, *statements: t.Statement) -> t.Tree:
        return t.Tree(statements)

    def policy(self, meta: Meta, name: t.Word, version: Token) -> t.PolicyDecl:
        return t.PolicyDecl(name, str(version), self._span(meta))

    def taxonomy(self, meta: Meta, name: t.Word, version: t.Number, *attributes: t.AttributeDecl) -> t.TaxonomyDecl:
        return t.TaxonomyDecl(name, version, attributes, self._span(meta))

    def attribute(self, meta: Meta, name: t.Word, kind: t.Ladder | t.Choice | t.Range) -> t.AttributeDecl:
        return t.AttributeDecl(name, kind, self._span(meta))

    def ladder(self, _meta: Meta, *parts: t.Word | tuple[t.Word, ...] | None) -> t.Ladder:
        *rungs, outside = parts
        return t.Ladder(tuple(rung for rung in rungs if isinstance(rung, t.Word)), _tuple(outside))

    def choice(self, _meta: Meta, values: tuple[t.Word, ...]) -> t.Choice:
        return t.Choice(values)

    def numeric(self, _meta: Meta, kind: Any, low: t.Number, high: t.Number, unit: t.Word | None) -> t.Range:
        return t.Range(kind.value, low, high, unit.text if unit else None)

    def depth(self, meta: Meta, origin: Any, *groups: t.GroupDecl) -> t.DepthDecl:
        return t.DepthDecl(origin.value, groups, self._span(meta))

    def group(self, meta: Meta, name: t.Word, *modules: t.ModulesDecl) -> t.GroupDecl:
        return t.GroupDecl(name, modules, self._span(meta))

    def modules(self, meta: Meta, first: t.Word, last: t.Word | None) -> t.ModulesDecl:
        return t.ModulesDecl(first, last, self._span(meta))

    def define(self, meta: Meta, name: t.Word, condition: t.Expression) -> t.DefineDecl:
        return t.DefineDecl(name, condition, self._span(meta))

    def profile(self, meta: Meta, name: t.Word, *portions: t.Portion) -> t.ProfileDecl:
        return t.ProfileDecl(name, portions, self._span(meta))

    def portion(self, meta: Meta, group: t.Word | Token, share: t.Number) -> t.Portion:
        return t.Portion(group if isinstance(group, t.Word) else None, share, self._span(meta))

    def rule(self, meta: Meta, name: t.Word, title: t.Word | None, when: t.Expression, *rest: Any) -> t.RuleDecl:
        *actions, overrides = rest
        return t.RuleDecl(name, title, when, tuple(actions), _tuple(overrides), self._span(meta))

    def admit(self, meta: Meta, profile: t.Word) -> t.AdmitClause:
        return t.AdmitClause(profile, self._span(meta))

    def deny(self, meta: Meta, groups: t.Groups, because: t.Word | None) -> t.DenyClause:
        return t.DenyClause(groups, because, self._span(meta))

    def limit_share(self, meta: Meta, groups: t.Groups, limit: t.Number) -> t.LimitClause:
        return t.LimitClause(groups, "share", limit, self._span(meta))

    def limit_norm(self, meta: Meta, groups: t.Groups, limit: t.Number) -> t.LimitClause:
        return t.LimitClause(groups, "norm", limit, self._span(meta))

    def combine(self, meta: Meta) -> t.CombineDecl:
        return t.CombineDecl(self._span(meta))

    def budget(self, meta: Meta, name: t.Word, *clauses: t.Clause) -> t.BudgetDecl:
        return t.BudgetDecl(name, clauses, self._span(meta))

    def budget_for(self, meta: Meta, condition: t.Expression) -> t.ForClause:
        return t.ForClause(condition, self._span(meta))

    def budget_on(self, meta: Meta, groups: t.Groups) -> t.OnClause:
        return t.OnClause(groups, self._span(meta))

    def budget_within(self, meta: Meta, parent: t.Word) -> t.WithinClause:
        return t.WithinClause(parent, self._span(meta))

    def budget_surprisal(self, meta: Meta, *caps: t.Cap) -> t.SurprisalClause:
        return t.SurprisalClause(caps, self._span(meta))

    def cap(self, meta: Meta, amount: t.Number, unit: t.Word, per: Any) -> t.Cap:
        return t.Cap(t.Number(amount.text, unit, amount.span), per.value, self._span(meta))

    def budget_exposures(self, meta: Meta, count: t.Number) -> t.ExposuresClause:
        return t.ExposuresClause(count, self._span(meta))

    def budget_exhaust(self, meta: Meta, effect: Any) -> t.ExhaustClause:
        return t.ExhaustClause(effect.value, self._span(meta))

    def otherwise(self, meta: Meta, because: t.Word) -> t.OtherwiseDecl:
        return t.OtherwiseDecl(because, self._span(meta))

    def prove(self, meta: Meta, never: t.Expression) -> t.ProveDecl:
        return t.ProveDecl(never, self._span(meta))

    # ---- Conditions

    def anything(self, meta: Meta) -> t.Anything:
        return t.Anything(self._span(meta))

    def word(self, meta: Meta, name: t.Word) -> t.Named:
        return t.Named(name, self._span(meta))

    def is_(self, meta: Meta, attribute: t.Word, *values: t.Value) -> t.OneOf:
        return t.OneOf(attribute, values, negated=False, span=self._span(meta))

    def is_not(self, meta: Meta, attribute: t.Word, *values: t.Value) -> t.OneOf:
        return t.OneOf(attribute, values, negated=True, span=self._span(meta))

    is_one_of = is_
    is_not_one_of = is_not

    def compare(self, meta: Meta, attribute: t.Word, op: Any, value: t.Value) -> t.Compare:
        return t.Compare(attribute, op, value, self._span(meta))

    def admitted(self, meta: Meta, group: t.Word, op: Any, share: t.Number) -> t.AdmittedShare:
        return t.AdmittedShare(group, op, share, self._span(meta))

    def not_(self, meta: Meta, term: t.Expression) -> t.Negation:
        return t.Negation(term, self._span(meta))

    def and_(self, meta: Meta, *terms: t.Expression) -> t.Junction:
        return self._junction(meta, "and", terms)

    def or_(self, meta: Meta, *terms: t.Expression) -> t.Junction:
        return self._junction(meta, "or", terms)

    def _junction(self, meta: Meta, word: Literal["and", "or"], terms: tuple[t.Expression, ...]) -> t.Junction:
        return t.Junction(word, terms, self._span(meta))


def _tuple(names: object) -> tuple[t.Word, ...]:
    return names if isinstance(names, tuple) else ()
