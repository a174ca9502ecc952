"""Resolve conditions: type every comparison, fill definitions in, and put orders in plain words.

After this an order over a category is gone: `authority >= attending` has become
"authority is attending, or is board". A value outside the order is in no such
list, which is the whole meaning of standing outside it.
"""

from __future__ import annotations

from typing import Final

from aqpolicy.diagnostics import Label
from aqpolicy.model.numbers import to_micro, to_share
from aqpolicy.model.policy import Admitted, All, Any, Atom, Attribute, Category, Condition, Not, Numeric, Op
from aqpolicy.model.problems import Names, Problems
from aqpolicy.syntax import later
from aqpolicy.syntax import tree as t
from aqpolicy.units import micro_text

MAX_NODES: Final = 4096
"""Nodes of one condition with its definitions filled in; definitions that double each other stop here."""

MAX_DEPTH: Final = 64
"""Depth of one condition with its definitions filled in; every later stage may simply recurse."""

_NOTHING: Final = All(())
"""Stands for a condition that has a problem already."""

_Sized = tuple[Condition, int, int]


class Conditions:
    """Resolves the conditions of one policy; each definition once."""

    def __init__(self, attributes: Names[Attribute | None], groups: Names[int], problems: Problems) -> None:
        """Keep what conditions may name; `defines` is filled by the caller before anything is resolved."""
        self.defines: Names[t.DefineDecl] = Names("condition", problems)
        self._attributes = attributes
        self._groups = groups
        self._problems = problems
        self._done: dict[str, _Sized | None] = {}
        self._path: list[t.DefineDecl] = []
        self._in_prove = False

    def resolve(self, tree: t.Expression, *, in_prove: bool = False) -> Condition:
        """Return the condition; `admitted(...)` is allowed in a `prove` statement only."""
        self._in_prove = in_prove
        return self._sized(tree)[0]

    def check_definitions(self) -> None:
        """Resolve every definition, used or not, so that its problems are told."""
        self._in_prove = False
        for decl in self.defines.values():
            self._definition(decl)

    def _sized(self, tree: t.Expression) -> _Sized:
        """Return a condition with its number of nodes and its depth."""
        match tree:
            case t.Anything():
                return All(()), 1, 1
            case t.Named():
                return self._named(tree)
            case t.OneOf():
                return _leaf(self._one_of(tree))
            case t.Compare():
                return _leaf(self._compare(tree))
            case t.AdmittedShare():
                return _leaf(self._admitted(tree))
            case t.Negation():
                term, nodes, depth = self._sized(tree.term)
                return self._bounded(tree, Not(term), nodes + 1, depth + 1)
            case t.Junction():
                parts = [self._sized(term) for term in tree.terms]
                terms = tuple(part[0] for part in parts)
                whole = All(terms) if tree.word == "and" else Any(terms)
                return self._bounded(tree, whole, 1 + sum(p[1] for p in parts), 1 + max(p[2] for p in parts))

    def _bounded(self, tree: t.Expression, condition: Condition, nodes: int, depth: int) -> _Sized:
        if nodes <= MAX_NODES and depth <= MAX_DEPTH:
            return condition, nodes, depth
        message = f"the condition has more than {MAX_NODES} parts, or is nested deeper than {MAX_DEPTH}"
        label = Label(tree.span, "too large once its definitions are filled in")
        self._problems.add("AQ218", message, label, help=("split the rule, or simplify the definitions",))
        return _NOTHING, 1, 1

    # ---- Definitions

    def _named(self, tree: t.Named) -> _Sized:
        word = tree.name
        if word.text in self._attributes and word.text not in self.defines:
            label = Label(word.span, "an attribute needs a comparison")
            help_text = f"write `{word.text} is ...`, or `{word.text} >= ...`"
            self._problems.add("AQ203", f"attribute `{word.text}` is not a condition", label, help=(help_text,))
            return _NOTHING, 1, 1
        decl = self.defines.look_up(word)
        return (decl and self._definition(decl)) or (_NOTHING, 1, 1)

    def _definition(self, decl: t.DefineDecl) -> _Sized | None:
        """Return a definition's condition; None where it has a problem of its own kind, told once."""
        name = decl.name.text
        if name in self._done:
            return self._done[name]
        if decl in self._path:
            self._cycle(self._path[self._path.index(decl) :])
            return None
        if len(self._path) >= MAX_DEPTH:
            label = Label(decl.name.span, "too many definitions lead here")
            self._problems.add("AQ218", f"definition `{name}` is more than {MAX_DEPTH} definitions deep", label)
            return None
        outer, self._in_prove = self._in_prove, False
        self._path.append(decl)
        self._done[name] = self._sized(decl.condition)
        self._path.pop()
        self._in_prove = outer
        return self._done[name]

    def _cycle(self, path: list[t.DefineDecl]) -> None:
        labels = [
            Label(decl.name.span, f"uses `{used.name.text}`")
            for decl, used in zip(path, [*path[1:], path[0]], strict=True)
        ]
        self._problems.add("AQ216", f"definition `{path[0].name.text}` uses itself", *labels)

    # ---- Comparisons

    def _one_of(self, tree: t.OneOf) -> Condition:
        attribute = self._attribute(tree.attribute)
        if attribute is None:
            return _NOTHING
        atoms = [self._equal(attribute, value, tree) for value in tree.values]
        found = tuple(atom for atom in atoms if atom is not None)
        positive = found[0] if len(found) == 1 else Any(found)
        return Not(positive) if tree.negated else positive

    def _equal(self, attribute: Attribute, value: t.Value, tree: t.OneOf) -> Atom | None:
        literal = self._literal(attribute, value)
        return None if literal is None else Atom(attribute.name, "=", literal, tree.span)

    def _compare(self, tree: t.Compare) -> Condition:
        attribute = self._attribute(tree.attribute)
        literal = None if attribute is None else self._literal(attribute, tree.value)
        if attribute is None or literal is None:
            return _NOTHING
        if isinstance(attribute.type, Numeric) or isinstance(literal, int):
            return Atom(attribute.name, tree.op, literal, tree.span)
        ladder = attribute.type.values[: attribute.type.ordered]
        if literal not in ladder:
            self._unordered(attribute, literal, tree)
            return _NOTHING
        chosen = _part_of(ladder, tree.op, ladder.index(literal))
        atoms = tuple(Atom(attribute.name, "=", value, tree.span) for value in chosen)
        return atoms[0] if len(atoms) == 1 else Any(atoms)

    def _unordered(self, attribute: Attribute, literal: str, tree: t.Compare) -> None:
        label = Label(tree.span, f"`{tree.op}` needs an order")
        declared = Label(attribute.span, "declared here")
        help_text = f"write `{attribute.name} is {literal}` or `{attribute.name} is one of ...`"
        message = f"`{literal}` of `{attribute.name}` stands in no order"
        self._problems.add("AQ212", message, label, declared, help=(help_text,))

    def _attribute(self, word: t.Word) -> Attribute | None:
        if word.text in self.defines and word.text not in self._attributes:
            label = Label(word.span, "a definition is a condition already")
            self._problems.add("AQ203", f"`{word.text}` is not an attribute", label, help=("use the name alone",))
            return None
        if word.text == "band" and word.text not in self._attributes:
            self._problems.report(later("band", word.span))
            return None
        return self._attributes.look_up(word)

    def _literal(self, attribute: Attribute, value: t.Value) -> str | int | None:
        kind = attribute.type
        if isinstance(kind, Category) and isinstance(value, t.Word):
            return self._category_value(attribute, kind, value)
        if isinstance(kind, Numeric) and isinstance(value, t.Number):
            return self._number(attribute, kind, value)
        wanted, found = ("a number", "a name") if isinstance(kind, Numeric) else ("one of its values", "a number")
        message = f"`{attribute.name}` is compared with {wanted}, not with {found}"
        labels = (Label(value.span, f"this is {found}"), Label(attribute.span, "declared here"))
        self._problems.add("AQ203", message, *labels)
        return None

    def _category_value(self, attribute: Attribute, kind: Category, value: t.Word) -> str | None:
        if value.text in kind.values:
            return value.text
        message = f"`{value.text}` is not a value of `{attribute.name}`"
        hint = self._problems.hint(value.text, kind.values, "its values")
        labels = (Label(value.span, "not declared"), Label(attribute.span, "declared here"))
        self._problems.add("AQ204", message, *labels, help=hint)
        return None

    def _number(self, attribute: Attribute, kind: Numeric, value: t.Number) -> int | None:
        number = to_micro(value, self._problems)
        if number is None or not self._unit_fits(attribute, kind, value):
            return None
        declared = Label(attribute.span, "declared here")
        if not kind.low <= number <= kind.high:
            message = f"`{attribute.name}` is never {value.text}"
            label = Label(value.span, f"outside {micro_text(kind.low)}..{micro_text(kind.high)}")
            self._problems.add("AQ204", message, label, declared)
            return None
        if number % kind.step:
            message = f"`{attribute.name}` takes whole numbers only"
            self._problems.add("AQ203", message, Label(value.span, "not a whole number"), declared)
            return None
        return number

    def _unit_fits(self, attribute: Attribute, kind: Numeric, value: t.Number) -> bool:
        if value.unit is None or value.unit.text == kind.unit:
            return True
        has = f"is in {kind.unit}" if kind.unit else "has no unit"
        message = f"`{attribute.name}` {has}, not in {value.unit.text}"
        labels = (Label(value.unit.span, "another unit"), Label(attribute.span, "declared here"))
        self._problems.add("AQ207", message, *labels, notes=("units are never converted",))
        return False

    def _admitted(self, tree: t.AdmittedShare) -> Condition:
        if not self._in_prove:
            message = "`admitted(...)` may stand directly in a `prove` statement only"
            notes = ("a guard decides what is admitted, so it cannot ask for it",)
            self._problems.add("AQ214", message, Label(tree.span, "asks for the decision"), notes=notes)
            return _NOTHING
        index, share = self._groups.look_up(tree.group), to_share(tree.share, self._problems)
        if index is None or share is None:
            return _NOTHING
        return Admitted(tree.group.text, tree.op, share, tree.span)


def _leaf(condition: Condition) -> _Sized:
    """Measure what one comparison has become: at most a negated list of alternatives."""
    inner = condition.term if isinstance(condition, Not) else condition
    nodes = 1 + (len(inner.terms) if isinstance(inner, Any | All) else 0)
    return condition, nodes, 3


def _part_of(ladder: tuple[str, ...], op: Op, at: int) -> tuple[str, ...]:
    ends = {">=": ladder[at:], ">": ladder[at + 1 :], "<=": ladder[: at + 1], "<": ladder[:at], "=": (ladder[at],)}
    return ends[op]
