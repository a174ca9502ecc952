"""Resolve a tree to a typed policy, or report everything that is wrong with it.

It decides names, types, units and shapes. Whether the rules make sense together
is the checker's question (`analysis`), not this module's.
"""

from __future__ import annotations

import re
from typing import Literal, TypeVar

from aqpolicy.diagnostics import Label, Source, Span
from aqpolicy.errors import PolicyError
from aqpolicy.model.budgets import check_parents, resolve_budget
from aqpolicy.model.conditions import Conditions
from aqpolicy.model.policy import (
    Attribute,
    Budget,
    DepthGroup,
    Otherwise,
    Policy,
    Profile,
    Prove,
    Rule,
    Taxonomy,
)
from aqpolicy.model.problems import Names, Problems
from aqpolicy.model.rules import check_overrides, resolve_profile, resolve_rule
from aqpolicy.model.vocabulary import resolve_depth, resolve_taxonomy
from aqpolicy.syntax import Tree, parse
from aqpolicy.syntax import tree as t

S = TypeVar("S", bound=t.Statement)


def load_policy(source: Source) -> Policy:
    """Parse and resolve a policy text.

    Raises:
        PolicyError: With every syntax error, or else every error of names, types and units.
    """
    return resolve(parse(source), source)


def resolve(tree: Tree, source: Source) -> Policy:
    """Return the typed policy of a tree.

    Raises:
        PolicyError: With all diagnostics AQ2xx, in the order of the text.
    """
    return _Resolution(tree, source).policy()


class _Resolution:
    """One run over one tree; its tables of names fill in the order that they are needed."""

    def __init__(self, tree: Tree, source: Source) -> None:
        self._tree = tree
        self._source = source
        self._problems = Problems()
        self._attributes: Names[Attribute | None] = Names("attribute", self._problems)
        self._groups: Names[int] = Names("group", self._problems)
        self._profiles: Names[Profile] = Names("profile", self._problems)
        self._rules: Names[Rule] = Names("rule", self._problems)
        self._budgets: Names[Budget] = Names("budget", self._problems)
        self._conditions = Conditions(self._attributes, self._groups, self._problems)

    def policy(self) -> Policy:
        """Return the policy, or raise with everything found."""
        header, otherwise = self._one(t.PolicyDecl, "policy"), self._one(t.OtherwiseDecl, "otherwise")
        origin, groups = self._depth()
        taxonomy = self._taxonomy()
        self._definitions()
        rules, budgets, proofs = self._all_rules(), self._all_budgets(), self._all_proofs()
        combine_min = self._at_most_one(t.CombineDecl, "combine") is not None
        if header is None or otherwise is None or taxonomy is None or self._problems.found:
            raise PolicyError(self._problems.found)
        return Policy(
            name=header.name.text,
            version=header.version,
            taxonomy=taxonomy,
            origin=origin,
            groups=groups,
            rules=rules,
            budgets=budgets,
            proofs=proofs,
            otherwise=Otherwise(otherwise.because.text, otherwise.span),
            combine_min=combine_min,
            span=header.name.span,
        )

    # ---- Statements that stand once

    def _statements(self, kind: type[S]) -> tuple[S, ...]:
        return tuple(statement for statement in self._tree.statements if isinstance(statement, kind))

    def _at_most_one(self, kind: type[S], word: str) -> S | None:
        found = self._statements(kind)
        for again in found[1:]:
            labels = (Label(_head(again, word), "again"), Label(_head(found[0], word), "first"))
            self._problems.add("AQ211", f"a policy has one `{word}` statement", *labels)
        return found[0] if found else None

    def _one(self, kind: type[S], word: str) -> S | None:
        found = self._at_most_one(kind, word)
        if found is None:
            start = Span(self._source.name, 0, 0, 1, 1)
            message, advice = f"the policy has no `{word}` statement", f"write it: `{_MODELS[word]}`"
            self._problems.add("AQ210", message, Label(start, "missing from this file"), help=(advice,))
        return found

    def _taxonomy(self) -> Taxonomy | None:
        decl = self._one(t.TaxonomyDecl, "taxonomy")
        self._attributes.is_known = decl is not None
        return resolve_taxonomy(decl, self._attributes, self._problems) if decl else None

    def _depth(self) -> tuple[Literal["input", "output"], tuple[DepthGroup, ...]]:
        decl = self._one(t.DepthDecl, "depth")
        self._groups.is_known = decl is not None
        return (decl.origin, resolve_depth(decl, self._groups, self._problems)) if decl else ("input", ())

    # ---- Statements that stand many times

    def _definitions(self) -> None:
        for decl in self._statements(t.DefineDecl):
            self._conditions.defines.declare(decl.name, decl)
            if decl.name.text in self._attributes:
                first = Label(self._attributes.span(decl.name.text), "the attribute")
                message = f"`{decl.name.text}` is an attribute already"
                self._problems.add("AQ202", message, Label(decl.name.span, "defined here"), first)
        self._conditions.check_definitions()

    def _all_rules(self) -> tuple[Rule, ...]:
        for profile in self._statements(t.ProfileDecl):
            self._profiles.declare(profile.name, resolve_profile(profile, self._groups, self._problems))
        decls = self._statements(t.RuleDecl)
        for decl in decls:
            rule = resolve_rule(decl, self._conditions, self._profiles, self._groups, self._problems)
            self._rules.declare(decl.name, rule)
        check_overrides(decls, self._rules, self._problems)
        if not decls:
            label = Label(Span(self._source.name, 0, 0, 1, 1), "no `rule` in this file")
            self._problems.add("AQ215", "the policy has no rules", label)
        return self._rules.values()

    def _all_budgets(self) -> tuple[Budget, ...]:
        decls = self._statements(t.BudgetDecl)
        for decl in decls:
            budget = resolve_budget(decl, self._conditions, self._groups, self._problems)
            self._budgets.declare(decl.name, budget)
        check_parents(decls, self._budgets, self._problems)
        return self._budgets.values()

    def _all_proofs(self) -> tuple[Prove, ...]:
        return tuple(self._proof(decl) for decl in self._statements(t.ProveDecl))

    def _proof(self, decl: t.ProveDecl) -> Prove:
        text = self._source.text[decl.never.span.start : decl.never.span.end]
        plain = " ".join(re.sub(r"#[^\n]*", "", text).split())
        return Prove(self._conditions.resolve(decl.never, in_prove=True), plain, decl.span)


_MODELS = {
    "policy": "policy NAME version 1.0.0",
    "taxonomy": "taxonomy NAME version 1 { ... }",
    "depth": "depth from input { NAME = modules ... }",
    "otherwise": 'otherwise deny because "..."',
}


def _head(statement: t.Statement, word: str) -> Span:
    """Return the opening word of a statement."""
    span = statement.span
    return Span(span.file, span.start, span.start + len(word), span.line, span.column)
