"""A condition as its author wrote it, with a mark at every part: true or false of one observation.

The written tree and the resolved condition have the same shape, but for definitions,
which are filled in; walking both at once quotes the one and evaluates the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from aqpolicy.analysis.observation import attribute_text
from aqpolicy.diagnostics import Span
from aqpolicy.model import Stack
from aqpolicy.model.policy import All, Any, Atom, Condition, LimitLinear, Not, Policy
from aqpolicy.model.text import Texts
from aqpolicy.semantics import holds
from aqpolicy.syntax import tree as t
from aqpolicy.trial.observation import Observation

ALL: Final = "all of"
ANY: Final = "any of"


@dataclass(frozen=True, slots=True)
class Mark:
    """One part of a condition."""

    text: str
    """As written; `all of` and `any of` stand for `and` and `or`."""
    holds: bool
    found: str
    """What the observation has where the part compares it, such as `consensus = 0.7`."""
    span: Span
    parts: tuple[Mark, ...] = ()
    defined: Span | None = None
    """Where the definition stands, if the part uses one."""


class Marker:
    """Marks the conditions of one policy for one observation."""

    def __init__(self, policy: Policy, stack: Stack, observation: Observation) -> None:
        """Keep what is asked about; the observation is complete."""
        self._attributes = {attribute.name: attribute for attribute in policy.attributes}
        self._observation = observation
        statements = [statement for layer in stack.layers() for statement in layer.tree.statements]
        self._definitions = {item.name.text: item for item in statements if isinstance(item, t.DefineDecl)}
        self.texts = Texts(stack.sources())

    def mark(self, tree: t.Expression, condition: Condition, arguments: Mapping[str, str] | None = None) -> Mark:
        """Return the marks of a condition.

        Args:
            tree: As written.
            condition: As resolved.
            arguments: What the parameters of the definition around it stand for.
        """
        known = arguments or {}
        match tree, condition:
            case t.Junction(word, terms), All(conditions) | Any(conditions):
                pairs = zip(terms, conditions, strict=True)
                parts = tuple(self.mark(term, inner, known) for term, inner in pairs)
                return self._made(ALL if word == "and" else ANY, tree, condition, parts=parts)
            case t.Negation(term), Not(inner):
                return self._made("not", tree, condition, parts=(self.mark(term, inner, known),))
            case ((t.Named() | t.Call()), _):
                return self._definition(tree, condition, known)
        used = ", ".join([*self._found(condition), *_passed(tree, known)])
        return self._made(self.texts.of(tree.span), tree, condition, used)

    def value(self, name: str) -> str:
        """Return what the observation has for an attribute, as its author would write it."""
        return f"{name} = {attribute_text(self._attributes[name], self._observation[name])}"

    def linear(self, limit: LimitLinear) -> int:
        """Return a linear limit in millionths."""
        return limit.at(int(self._observation[limit.attribute]))

    def _made(
        self, text: str, tree: t.Expression, condition: Condition, found: str = "", parts: tuple[Mark, ...] = ()
    ) -> Mark:
        return Mark(text, holds(condition, self._observation), found, tree.span, parts)

    def _definition(self, tree: t.Named | t.Call, condition: Condition, known: Mapping[str, str]) -> Mark:
        """Return the mark of a definition's use, with what it is defined as below it."""
        decl = self._definitions[tree.name.text]
        values = tree.values if isinstance(tree, t.Call) else ()
        names = (parameter.text for parameter in decl.parameters)
        passed = {name: known.get(value.text, value.text) for name, value in zip(names, values, strict=True)}
        inner = self.mark(decl.condition, condition, passed)
        used = ", ".join(_passed(tree, known))
        return replace(self._made(self.texts.of(tree.span), tree, condition, used, (inner,)), defined=decl.name.span)

    def _found(self, condition: Condition) -> Iterator[str]:
        names = dict.fromkeys(atom.attribute for atom in _atoms(condition))
        return (self.value(name) for name in names)


def _atoms(condition: Condition) -> Iterator[Atom]:
    match condition:
        case Atom():
            yield condition
        case Not(term):
            yield from _atoms(term)
        case All(terms) | Any(terms):
            for term in terms:
                yield from _atoms(term)


def _passed(tree: t.Expression, known: Mapping[str, str]) -> Iterator[str]:
    """Yield what the parameters in a part stand for."""
    return (f"{name} = {known[name]}" for name in dict.fromkeys(_words(tree)) if name in known)


def _words(tree: t.Expression) -> Iterable[str]:
    match tree:
        case t.Call() | t.OneOf():
            return (value.text for value in tree.values)
        case t.Compare():
            return (tree.value.text,)
    return ()
