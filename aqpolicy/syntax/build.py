"""Turn lark's parse tree into the tree of this package; one method per rule of the grammar.

It looks up nothing and checks nothing; that is `model.resolve`'s task.
"""

# ruff: noqa: D102, N802 - a method is named after its grammar rule or token, and the rule says what it is

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from lark import Token
from lark import Tree as ParseTree
from lark.tree import Meta

from aqpolicy.diagnostics import Span
from aqpolicy.syntax import tree as t

_NAMED: Final = ("AUTHORITY", "REVIEW", "TIER")
"""Words of the language that name an attribute where they stand."""

_Term = tuple[t.Number | None, t.Word]
"""A factor and an attribute."""

_Linear = tuple[t.Number | None, bool, _Term]
"""What a term is added to, or (with True) subtracted from."""

_RELATION: Final[Mapping[str, Any]] = MappingProxyType({"is": "="})


def token_span(file: str, token: Token) -> Span:
    """Return the span of a token."""
    start = token.start_pos or 0
    return Span(file, start, start + len(token), token.line or 1, token.column or 1)


class TreeBuilder:
    """Builds the tree of one text, from its leaves up; the grammar fixes how deep that goes."""

    def __init__(self, file: str) -> None:
        """Keep the file's name for the spans."""
        self._file = file
        self._tokens = {name: getattr(self, name) for name in ("NAME", "STRING", "DECIMAL", "DATE", *_NAMED)}

    def transform(self, tree: ParseTree[Token]) -> t.Tree:
        """Return the tree that a parse tree stands for."""
        built: t.Tree = self._built(tree)
        return built

    def _built(self, node: ParseTree[Token]) -> Any:
        """Call the method of a node's rule with what its children have become, whose types the grammar fixes."""
        children = [
            self._built(child) if isinstance(child, ParseTree) else self._leaf(child) for child in node.children
        ]
        return getattr(self, node.data)(node.meta, *children)

    def _leaf(self, token: Token | None) -> Any:
        build = None if token is None else self._tokens.get(token.type)
        return token if build is None else build(token)

    def _span(self, meta: Meta) -> Span:
        return Span(self._file, meta.start_pos, meta.end_pos, meta.line, meta.column)

    # ---- Words, numbers, lists

    def NAME(self, token: Token) -> t.Word:
        return t.Word(str(token), token_span(self._file, token))

    def STRING(self, token: Token) -> t.Word:
        return t.Word(str(token[1:-1]), token_span(self._file, token))

    def DECIMAL(self, token: Token) -> t.Number:
        return t.Number(str(token), None, token_span(self._file, token))

    def DATE(self, token: Token) -> t.Day:
        return t.Day(str(token), token_span(self._file, token))

    AUTHORITY = REVIEW = TIER = NAME

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

    relation = order

    def value(self, meta: Meta, value: t.Value, unit: t.Word | None = None) -> t.Value:
        return t.Number(value.text, unit, self._span(meta)) if isinstance(value, t.Number) else value

    # ---- Statements

    def start(self, _meta: Meta, *statements: t.Statement) -> t.Tree:
        return t.Tree(statements)

    def policy(self, meta: Meta, name: t.Word, version: Token) -> t.PolicyDecl:
        return t.PolicyDecl(name, str(version), self._span(meta))

    def extends(self, meta: Meta, name: t.Word, file: t.Word | None) -> t.ExtendsDecl:
        return t.ExtendsDecl(name, file, self._span(meta))

    def import_(self, meta: Meta, file: t.Word) -> t.ImportDecl:
        return t.ImportDecl(file, self._span(meta))

    def taxonomy(self, meta: Meta, name: t.Word, version: t.Number, *attributes: t.AttributeDecl) -> t.TaxonomyDecl:
        return t.TaxonomyDecl(name, version, attributes, self._span(meta))

    def attribute(self, meta: Meta, name: t.Word, kind: t.Ladder | t.Choice | t.Range | t.Days) -> t.AttributeDecl:
        return t.AttributeDecl(name, kind, self._span(meta))

    def ladder(self, _meta: Meta, *parts: t.Word | tuple[t.Word, ...] | None) -> t.Ladder:
        *rungs, outside = parts
        return t.Ladder(tuple(rung for rung in rungs if isinstance(rung, t.Word)), _tuple(outside))

    def choice(self, _meta: Meta, values: tuple[t.Word, ...]) -> t.Choice:
        return t.Choice(values)

    def numeric(self, _meta: Meta, kind: Any, low: t.Number, high: t.Number, unit: t.Word | None) -> t.Range:
        return t.Range(kind.value, low, high, unit.text if unit else None)

    def dates(self, _meta: Meta, low: t.Day, high: t.Day) -> t.Days:
        return t.Days(low, high)

    def bands(self, meta: Meta, attribute: t.Word, *bands: t.BandDecl) -> t.BandsDecl:
        return t.BandsDecl(attribute, bands, self._span(meta))

    def band(self, meta: Meta, name: t.Word, below: t.Number | None, unit: t.Word | None) -> t.BandDecl:
        bound = None if below is None else t.Number(below.text, unit, below.span)
        return t.BandDecl(name, bound, self._span(meta))

    def phases(self, meta: Meta, ladder: t.Ladder) -> t.CourseDecl:
        return t.CourseDecl("phase", ladder, (), self._span(meta))

    def stages(self, meta: Meta, ladder: t.Ladder, *certifications: t.CertificationDecl | None) -> t.CourseDecl:
        found = tuple(certification for certification in certifications if certification is not None)
        return t.CourseDecl("stage", ladder, found, self._span(meta))

    def certification(self, meta: Meta, stage: t.Word, metric: t.Word, op: Any, value: t.Number) -> t.CertificationDecl:
        return t.CertificationDecl(stage, metric, op, value, self._span(meta))

    def evidence(self, meta: Meta, *clauses: t.EvidenceClause) -> t.EvidenceDecl:
        return t.EvidenceDecl(clauses, self._span(meta))

    def weigh(self, meta: Meta, attribute: t.Word, *weights: tuple[t.Word, t.Number]) -> t.WeighClause:
        return t.WeighClause(attribute, weights, self._span(meta))

    def weight(self, _meta: Meta, value: t.Word, weight: t.Number) -> tuple[t.Word, t.Number]:
        return value, weight

    def one_per(self, meta: Meta, names: tuple[t.Word, ...]) -> t.OnePerClause:
        return t.OnePerClause(names, self._span(meta))

    def floor(self, meta: Meta, value: t.Number) -> t.EvidenceBound:
        return t.EvidenceBound("floor", value, self._span(meta))

    def ceiling(self, meta: Meta, value: t.Number) -> t.EvidenceBound:
        return t.EvidenceBound("ceiling", value, self._span(meta))

    def depth(self, meta: Meta, origin: Any, *groups: t.GroupDecl) -> t.DepthDecl:
        return t.DepthDecl(origin.value, groups, self._span(meta))

    def group(self, meta: Meta, protected: Token | None, name: t.Word, *addresses: t.AddressDecl) -> t.GroupDecl:
        return t.GroupDecl(protected is not None, name, addresses, self._span(meta))

    def address(self, meta: Meta, kind: Any, first: t.Word, last: t.Word | None) -> t.AddressDecl:
        return t.AddressDecl(None if kind is None else kind.value, first, last, self._span(meta))

    def define(self, meta: Meta, name: t.Word, parameters: Any, condition: t.Expression) -> t.DefineDecl:
        return t.DefineDecl(name, _tuple(parameters), condition, self._span(meta))

    def profile(self, meta: Meta, name: t.Word, *portions: t.Portions) -> t.ProfileDecl:
        return t.ProfileDecl(name, portions, self._span(meta))

    def portion(self, meta: Meta, group: t.Word | Token, share: t.Number) -> t.Portion:
        return t.Portion(group if isinstance(group, t.Word) else None, share, amplified=False, span=self._span(meta))

    def amplify(self, meta: Meta, group: t.Word | Token, share: t.Number) -> t.Portion:
        return t.Portion(group if isinstance(group, t.Word) else None, share, amplified=True, span=self._span(meta))

    def stretch(self, meta: Meta, first: t.Word, last: t.Word, share: t.Number, taper: t.Number | None) -> t.Stretch:
        return t.Stretch(first, last, share, taper, self._span(meta))

    def ramp(self, meta: Meta, first: t.Word, start: t.Number, last: t.Word, end: t.Number) -> t.Ramp:
        return t.Ramp(first, start, last, end, self._span(meta))

    def rule(self, meta: Meta, name: t.Word, title: t.Word | None, when: t.Expression, *rest: Any) -> t.RuleDecl:
        until, *actions, overrides = rest
        return t.RuleDecl(name, title, when, until, tuple(actions), _tuple(overrides), self._span(meta))

    def admit(self, meta: Meta, profile: t.Word) -> t.AdmitClause:
        return t.AdmitClause(profile, self._span(meta))

    def deny(self, meta: Meta, groups: t.Groups, because: t.Word | None) -> t.DenyClause:
        return t.DenyClause(groups, because, self._span(meta))

    def limit_share(self, meta: Meta, groups: t.Groups, amount: t.Number | _Linear) -> t.LimitClause | t.LinearClause:
        if isinstance(amount, t.Number):
            return t.LimitClause(groups, "share", amount, self._span(meta))
        intercept, falls, (factor, attribute) = amount
        return t.LinearClause(groups, intercept, falls, factor, attribute, self._span(meta))

    def constant(self, _meta: Meta, share: t.Number) -> t.Number:
        return share

    def term_(self, _meta: Meta, factor: t.Number | None, attribute: t.Word) -> _Term:
        return factor, attribute

    def linear(self, _meta: Meta, *parts: Any) -> _Linear:
        """Bring `a - b * x`, `b * x + a` and `b * x` to one form; a subtracted constant stays in its own text."""
        if len(parts) == 1:
            return None, False, parts[0]
        left, sign, right = parts
        if isinstance(left, t.Number):
            return left, str(sign) == "-", right
        return (_negated(right) if str(sign) == "-" else right), False, left

    def limit_norm(self, meta: Meta, groups: t.Groups, limit: t.Number) -> t.LimitClause:
        return t.LimitClause(groups, "norm", limit, self._span(meta))

    def limit_frequency(self, meta: Meta, groups: t.Groups, updates: t.Number, steps: t.Number) -> t.FrequencyClause:
        return t.FrequencyClause(groups, updates, steps, self._span(meta))

    def defer(self, meta: Meta, until: t.Expression, epochs: t.Number) -> t.DeferClause:
        return t.DeferClause(until, epochs, self._span(meta))

    def verify(self, meta: Meta, metric: t.Word, *rest: Any) -> t.VerifyClause:
        direction, amount, steps, remedy = rest
        return t.VerifyClause(metric, direction.value, amount, steps, remedy.value, self._span(meta))

    def promote(self, meta: Meta, metric: t.Word, *rest: Any) -> t.PromoteClause:
        op, value, witnesses = rest
        return t.PromoteClause(metric, op, value, witnesses, self._span(meta))

    def combine(self, meta: Meta) -> t.CombineDecl:
        return t.CombineDecl(self._span(meta))

    def complete(self, meta: Meta) -> t.CompleteDecl:
        return t.CompleteDecl(self._span(meta))

    def budget(self, meta: Meta, name: t.Word, *clauses: t.Clause) -> t.BudgetDecl:
        return t.BudgetDecl(name, clauses, self._span(meta))

    def budget_for(self, meta: Meta, condition: t.Expression) -> t.ForClause:
        return t.ForClause(condition, self._span(meta))

    def budget_on(self, meta: Meta, groups: t.Groups) -> t.OnClause:
        return t.OnClause(groups, self._span(meta))

    def budget_within(self, meta: Meta, parent: t.Word) -> t.WithinClause:
        return t.WithinClause(parent, self._span(meta))

    def budget_meter(self, meta: Meta, meter: Any, *caps: t.Cap) -> t.MeterClause:
        return t.MeterClause(meter.value, caps, self._span(meta))

    def cap(self, meta: Meta, amount: t.Number, unit: t.Word, per: Any) -> t.Cap:
        return t.Cap(t.Number(amount.text, unit, amount.span), per.value, self._span(meta))

    def budget_exposures(self, meta: Meta, count: t.Number) -> t.ExposuresClause:
        return t.ExposuresClause(count, self._span(meta))

    def budget_exhaust(self, meta: Meta, effect: Any) -> t.ExhaustClause:
        return t.ExhaustClause(effect.value, self._span(meta))

    def otherwise(self, meta: Meta, because: t.Word) -> t.OtherwiseDecl:
        return t.OtherwiseDecl(because, self._span(meta))

    def assume(self, meta: Meta, *bounds: t.Bound) -> t.AssumeDecl:
        return t.AssumeDecl(bounds, self._span(meta))

    def bound(self, meta: Meta, what: Any, most: t.Number) -> t.Bound:
        return t.Bound(what.value, most, self._span(meta))

    def prove_never(self, meta: Meta, never: t.Expression) -> t.ProveNever:
        return t.ProveNever(never, self._span(meta))

    def prove_monotone(self, meta: Meta, group: t.Word, direction: Any, attribute: t.Word) -> t.ProveMonotone:
        return t.ProveMonotone(group, direction.value, attribute, self._span(meta))

    def prove_spent(self, meta: Meta, budget: t.Word, *rest: Any) -> t.ProveSpent:
        amount, unit, *given = rest
        most = t.Number(amount.text, unit, amount.span)
        return t.ProveSpent(budget, most, tuple(bound for bound in given if bound is not None), self._span(meta))

    def test(self, meta: Meta, title: t.Word, given: t.Expression, *expectations: Any) -> t.TestDecl:
        return t.TestDecl(title, given, expectations, self._span(meta))

    def expect_effect(self, meta: Meta, effect: Any, rules: Any) -> t.ExpectEffect:
        return t.ExpectEffect(effect.value, _tuple(rules), self._span(meta))

    def expect_that(self, meta: Meta, condition: t.Expression) -> t.ExpectThat:
        return t.ExpectThat(condition, self._span(meta))

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

    def call(self, meta: Meta, name: t.Word, *values: t.Value) -> t.Call:
        return t.Call(name, values, self._span(meta))

    def admitted(self, meta: Meta, group: t.Word, op: Any, share: t.Number) -> t.DecidedShare:
        return t.DecidedShare("admitted", group, _RELATION.get(op, op), share, self._span(meta))

    def charged(self, meta: Meta, budget: t.Word, op: Any, share: t.Number) -> t.DecidedShare:
        return t.DecidedShare("charged", budget, _RELATION.get(op, op), share, self._span(meta))

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


def _negated(number: t.Number) -> t.Number:
    text = number.text.removeprefix("-") if number.text.startswith("-") else f"-{number.text}"
    return t.Number(text, None, number.span)
