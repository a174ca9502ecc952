"""A checked policy together with its statements as written, so that sentences keep the author's words.

It computes nothing; statements of imported and extended files are among the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from aqpolicy.model.policy import Budget, Category, Policy, Rule
from aqpolicy.pipeline import Pipeline
from aqpolicy.report.policy_words import Words
from aqpolicy.syntax import tree as t

S = TypeVar("S", bound=t.Statement)


@dataclass(frozen=True)
class Book:
    """A policy with its statements, those of the files that it imports and extends among them."""

    pipeline: Pipeline

    @property
    def policy(self) -> Policy:
        """The policy."""
        return self.pipeline.policy

    @cached_property
    def words(self) -> Words:
        """What says its conditions in sentences."""
        kinds = {attribute.name: attribute.type for attribute in self.policy.attributes}
        return Words({name for name, kind in kinds.items() if isinstance(kind, Category)})

    @property
    def statements(self) -> Iterator[t.Statement]:
        """All statements, those of the extended policy first."""
        return (statement for layer in self.pipeline.stack.layers() for statement in layer.tree.statements)

    def all_of(self, kind: type[S]) -> Iterator[S]:
        """Yield the statements of a kind."""
        return (statement for statement in self.statements if isinstance(statement, kind))

    @cached_property
    def rules(self) -> tuple[tuple[Rule, t.RuleDecl], ...]:
        """Every rule, resolved and as written."""
        written = {decl.name.span: decl for decl in self.all_of(t.RuleDecl)}
        return tuple((rule, written[rule.span]) for rule in self.policy.rules)

    @cached_property
    def budgets(self) -> tuple[tuple[Budget, t.BudgetDecl], ...]:
        """Every budget, resolved and as written."""
        written = {decl.name.span: decl for decl in self.all_of(t.BudgetDecl)}
        return tuple((budget, written[budget.span]) for budget in self.policy.budgets)

    def origin(self, file: str) -> str:
        """Return the name of the extended policy that a file belongs to, or nothing for the policy's own."""
        own = {layer.source.name for layer in (self.pipeline.stack.own, *self.pipeline.stack.imports)}
        return "" if file in own or self.policy.extends is None else self.policy.extends.name
