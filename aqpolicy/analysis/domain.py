"""The space of observations as the solver sees it: one bounded integer per attribute.

Categories are numbered as declared; numbers are their millionths. Written
independently of the evaluator and of the mask tables, so that the three can be
compared. It knows nothing of rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any as Term

import z3

from aqpolicy.model.policy import Admitted, Atom, Attribute, Category, Condition, Not, Numeric, Taxonomy
from aqpolicy.units import micro_text

Value = str | int
"""A value of an attribute: a category's name, or millionths."""


class Domain:
    """The solver's variables for a taxonomy, and the constraints that keep them to declared values."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        """Make one integer variable per attribute."""
        self.attributes = taxonomy.attributes
        self._types = {attribute.name: attribute.type for attribute in taxonomy.attributes}
        self._variables = {name: z3.Int(f"attribute {name}") for name in self._types}
        self.constraints: tuple[Term, ...] = tuple(
            term for attribute in taxonomy.attributes for term in self._constraints(attribute)
        )

    def _constraints(self, attribute: Attribute) -> Iterator[Term]:
        variable, kind = self._variables[attribute.name], attribute.type
        if isinstance(kind, Category):
            yield z3.And(variable >= 0, variable < len(kind.values))
            return
        yield z3.And(variable >= kind.low, variable <= kind.high)
        if kind.step > 1:
            yield variable == kind.step * z3.Int(f"steps of {attribute.name}")

    def atom(self, atom: Atom) -> Term:
        """Return the comparison of an attribute with a literal."""
        variable, kind = self._variables[atom.attribute], self._types[atom.attribute]
        if isinstance(kind, Category):
            return _ordered_comparison(variable, kind, atom)
        return compare(variable, atom.op, int(atom.value))

    def equals(self, name: str, value: Value) -> Term:
        """Return the statement that an attribute has a value."""
        return self._variables[name] == self._number(name, value)

    def at_most(self, name: str, value: Value) -> Term:
        """Return the statement that an attribute has a value, or one declared before it, or a lesser number."""
        return self._variables[name] <= self._number(name, value)

    def _number(self, name: str, value: Value) -> int:
        kind = self._types[name]
        return kind.values.index(str(value)) if isinstance(kind, Category) else int(value)

    def text(self, observation: Mapping[str, Value]) -> dict[str, str]:
        """Return an observation as its author would write it."""
        return {name: value if isinstance(value, str) else micro_text(value) for name, value in observation.items()}


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


def atoms_of(condition: Condition) -> Iterator[Atom]:
    """Yield every comparison of a condition with an attribute, from left to right."""
    if isinstance(condition, Atom):
        yield condition
    elif isinstance(condition, Not):
        yield from atoms_of(condition.term)
    elif not isinstance(condition, Admitted):
        for term in condition.terms:
            yield from atoms_of(term)


def representatives(attribute: Attribute, conditions: Iterable[Condition]) -> tuple[Value, ...]:
    """Return the least value of every stretch on which no condition can tell two values apart, ascending."""
    kind = attribute.type
    if isinstance(kind, Category):
        return kind.values
    starts = {kind.low}
    for condition in conditions:
        for atom in atoms_of(condition):
            if atom.attribute == attribute.name:
                starts.update(_starts(int(atom.value), atom.op))
    rounded = {-(-start // kind.step) * kind.step for start in starts}
    return tuple(sorted(value for value in rounded if kind.low <= value <= kind.high))


def _starts(threshold: int, op: str) -> tuple[int, ...]:
    """Return where a comparison's truth can change, going up."""
    if op in ("<", ">="):
        return (threshold,)
    return (threshold + 1,) if op in ("<=", ">") else (threshold, threshold + 1)


def atom_text(atom: Atom, kind: Category | Numeric, *, holds: bool) -> str:
    """Return a comparison, or its opposite, as its author would write it."""
    value = atom.value if isinstance(kind, Category) else micro_text(int(atom.value))
    word = "is" if isinstance(kind, Category) else "="
    text = f"{atom.attribute} {word if atom.op == '=' else atom.op} {value}"
    return text if holds else f"not {text}"
