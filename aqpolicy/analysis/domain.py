"""The space of observations as the solver sees it: one bounded integer per attribute.

Categories are numbered as declared; numbers are their millionths. Written
independently of the evaluator, the bit sets and the mask tables, so that they can
be compared. It knows nothing of rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any as Term

import z3

from aqpolicy.analysis.observation import Value
from aqpolicy.errors import InternalError
from aqpolicy.model.policy import All, Any, Atom, Attribute, Category, Condition, Not, Numeric


class Domain:
    """The solver's variables for attributes, and the constraints that keep them to declared values."""

    def __init__(self, attributes: Sequence[Attribute]) -> None:
        """Make one integer variable per attribute."""
        self.attributes = tuple(attributes)
        self._types = {attribute.name: attribute.type for attribute in attributes}
        self._variables = {name: z3.Int(f"attribute {name}") for name in self._types}
        self._known: dict[int, tuple[Condition, Term]] = {}
        self.constraints: list[Term] = [term for attribute in attributes for term in self._constraints(attribute)]

    def _constraints(self, attribute: Attribute) -> Iterator[Term]:
        variable, kind = self._variables[attribute.name], attribute.type
        if isinstance(kind, Category):
            yield z3.And(variable >= 0, variable < len(kind.values))
            return
        yield z3.And(variable >= kind.low, variable <= kind.high)
        if kind.step > 1:
            yield variable == kind.step * z3.Int(f"steps of {attribute.name}")

    def condition(self, condition: Condition) -> Term:
        """Return a condition on attributes; one that was met before is not built again."""
        key = id(condition)
        if key not in self._known:
            # The condition is kept too, so that its identity stays its own.
            self._known[key] = condition, self._term(condition)
        return self._known[key][1]

    def _term(self, condition: Condition) -> Term:
        if isinstance(condition, Atom):
            return self._atom(condition)
        if isinstance(condition, Not):
            return z3.Not(self._term(condition.term))
        if not isinstance(condition, All | Any):
            raise InternalError("a condition on attributes asks for a decision")
        terms = [self._term(term) for term in condition.terms]
        return every(terms) if isinstance(condition, All) else some(terms)

    def _atom(self, atom: Atom) -> Term:
        variable, kind = self._variables[atom.attribute], self._types[atom.attribute]
        if isinstance(kind, Category):
            return _ordered_comparison(variable, kind, atom)
        return compare(variable, atom.op, int(atom.value))

    def variable(self, name: str) -> Term:
        """Return the variable of an attribute."""
        return self._variables[name]

    def before(self, name: str, other: str) -> Term:
        """Return the statement that an attribute is less than another of its type; outside the order nothing is."""
        kind, less = self._types[name], self._variables[name] < self._variables[other]
        return z3.And(less, self._variables[other] < kind.ordered) if isinstance(kind, Category) else less

    def equals(self, name: str, value: Value) -> Term:
        """Return the statement that an attribute has a value."""
        return self._variables[name] == number_of(self._types[name], value)

    def linear(self, attribute: str, intercept: int, slope: int) -> Term:
        """Return `intercept + floor(slope * attribute / 10**6)`, kept between 0 and one million.

        The quotient is a variable of its own, so that every term stays linear.
        """
        quotient, product = z3.Int(f"{slope} millionths of {attribute}"), slope * self._variables[attribute]
        tie = z3.And(1_000_000 * quotient <= product, product < 1_000_000 * quotient + 1_000_000)
        if not any(tie.eq(known) for known in self.constraints):
            self.constraints.append(tie)
        value = intercept + quotient
        return z3.If(value < 0, 0, z3.If(value > 1_000_000, 1_000_000, value))


def number_of(kind: Category | Numeric, value: Value) -> int:
    """Return the integer that stands for a value."""
    return kind.values.index(str(value)) if isinstance(kind, Category) else int(value)


def every(terms: Sequence[Term]) -> Term:
    """Return a conjunction; without terms the constant, since an empty `and` is no SMT-LIB."""
    return z3.And(terms) if terms else z3.BoolVal(True)


def some(terms: Sequence[Term]) -> Term:
    """Return a disjunction; without terms the constant, since an empty `or` is no SMT-LIB."""
    return z3.Or(terms) if terms else z3.BoolVal(False)


def compare(left: Term, op: str, right: int) -> Term:
    """Return a comparison of integers."""
    if op == "=":
        return left == right
    if op == "<":
        return left < right
    if op == "<=":
        return left <= right
    return left > right if op == ">" else left >= right


def _ordered_comparison(variable: Term, kind: Category, atom: Atom) -> Term:
    """Compare within the order; a value that stands outside it is only ever equal to itself."""
    position = kind.values.index(str(atom.value))
    if atom.op == "=":
        return variable == position
    if position >= kind.ordered:
        return z3.BoolVal(False)
    return z3.And(variable < kind.ordered, compare(variable, atom.op, position))
