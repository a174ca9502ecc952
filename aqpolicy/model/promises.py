"""Resolve what a policy promises: `prove` statements, and the expectations of test cases."""

from __future__ import annotations

from dataclasses import dataclass

from aqpolicy.diagnostics import Label
from aqpolicy.model.budgets import resolve_bounds
from aqpolicy.model.conditions import Conditions, Vocabulary
from aqpolicy.model.numbers import to_positive
from aqpolicy.model.policy import All, Case, Expectation, Monotone, Never, Numeric, Prove, Rule, SpentAtMost
from aqpolicy.model.problems import Names, Problems
from aqpolicy.model.text import Texts
from aqpolicy.syntax import tree as t


@dataclass(frozen=True, slots=True)
class PromiseResolver:
    """Turns declarations into promises; holds what they may name."""

    vocabulary: Vocabulary
    conditions: Conditions
    rules: Names[Rule]
    texts: Texts
    problems: Problems

    def proof(self, decl: t.ProveDecl) -> Prove | None:
        """Return the statement to be proved; None where it has a problem already."""
        match decl:
            case t.ProveNever():
                condition = self.conditions.resolve(decl.never, asks_decision=True)
                return Never(condition, self.texts.of(decl.never.span), decl.span)
            case t.ProveMonotone():
                return self._monotone(decl)
            case t.ProveSpent():
                return self._spent(decl)

    def _monotone(self, decl: t.ProveMonotone) -> Monotone | None:
        group, attribute = self.vocabulary.groups.look_up(decl.group), self.vocabulary.look_up(decl.attribute)
        if group is None or attribute is None:
            return None
        if not isinstance(attribute.type, Numeric) and attribute.type.ordered < 2:
            label = Label(decl.attribute.span, "stands in no order")
            self.problems.add("AQ212", f"nothing {decl.direction} with `{attribute.name}`, which has no order", label)
            return None
        text = self.texts.of(decl.span).removeprefix("prove ")
        return Monotone(decl.group.text, decl.direction, attribute.name, text, decl.span)

    def _spent(self, decl: t.ProveSpent) -> SpentAtMost | None:
        budget, unit = self.vocabulary.budgets.look_up(decl.budget), decl.most.unit
        most = to_positive(decl.most, "limit", self.problems)
        given = resolve_bounds(decl.given, self.problems)
        if unit is not None and unit.text != "nat":
            label = Label(unit.span, "what is spent is counted in nat")
            notes = ("units are never converted",)
            self.problems.add("AQ207", f"what is spent is in nat, not in {unit.text}", label, notes=notes)
        if budget is None or most is None:
            return None
        text = self.texts.of(decl.span).removeprefix("prove ")
        return SpentAtMost(decl.budget.text, most, given, text, decl.span)

    def case(self, decl: t.TestDecl) -> Case:
        """Return the test case."""
        given = self.conditions.resolve(decl.given)
        return Case(decl.title.text, given, tuple(self._expectation(item) for item in decl.expectations), decl.span)

    def _expectation(self, item: t.ExpectEffect | t.ExpectThat) -> Expectation:
        text = self.texts.of(item.span).removeprefix("expect ")
        if isinstance(item, t.ExpectThat):
            condition = self.conditions.resolve(item.condition, asks_decision=True)
            return Expectation(None, (), condition, text, item.span)
        for name in item.rules:
            self.rules.look_up(name)
        return Expectation(item.effect, tuple(name.text for name in item.rules), All(()), text, item.span)
