"""Resolve conditions: type every comparison, fill definitions and bands in, and put orders in plain words.

After this an order over a category is gone: `authority >= attending` has become
"authority is attending, or is board". A value outside the order is in no such
list, which is the whole meaning of standing outside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aqpolicy.diagnostics import Label
from aqpolicy.model.numbers import to_share
from aqpolicy.model.policy import (
    Admitted,
    All,
    Any,
    Atom,
    Attribute,
    Band,
    Bands,
    Charged,
    Condition,
    Not,
    Numeric,
    Op,
)
from aqpolicy.model.problems import Names, Problems
from aqpolicy.model.values import literal_of
from aqpolicy.syntax import tree as t

MAX_NODES: Final = 4096
"""Nodes of one condition with its definitions filled in; definitions that double each other stop here."""

MAX_DEPTH: Final = 64
"""Depth of one condition with its definitions filled in; every later stage may simply recurse."""

_NOTHING: Final = All(())
"""Stands for a condition that has a problem already."""

_Sized = tuple[Condition, int, int]
_Arguments = Mapping[str, t.Value | None]
"""What the parameters of a definition stand for; None while only its names are checked."""


class Vocabulary:
    """Everything that conditions may name; filled in before the first is resolved."""

    def __init__(self, problems: Problems) -> None:
        """Start empty."""
        self.attributes: Names[Attribute | None] = Names("attribute", problems)
        self.derived: dict[str, Attribute] = {}
        """Attributes that the language provides, by name."""
        self.defines: Names[t.DefineDecl] = Names("condition", problems)
        self.bands: Names[tuple[Bands, Band]] = Names("band", problems)
        self.groups: Names[int] = Names("group", problems)
        self.budgets: Names[t.BudgetDecl] = Names("budget", problems)
        self.used: set[str] = set()
        """Names of derived attributes that conditions have asked for."""

    def look_up(self, word: t.Word) -> Attribute | None:
        """Return the attribute of a name, the language's own among them; report an unknown one, and return None."""
        if word.text in self.derived and word.text not in self.attributes:
            self.used.add(word.text)
            return self.derived[word.text]
        return self.attributes.look_up(word)


class Conditions:
    """Resolves the conditions of one policy; each definition without parameters once."""

    def __init__(self, vocabulary: Vocabulary, problems: Problems) -> None:
        """Keep what conditions may name."""
        self._words = vocabulary
        self._problems = problems
        self._done: dict[str, tuple[_Sized | None, frozenset[str]]] = {}
        """Each definition with what it asks for of the attributes that the language provides."""
        self._path: list[t.DefineDecl] = []
        self._arguments: _Arguments = {}
        self._asks_decision = False

    def resolve(self, tree: t.Expression, *, asks_decision: bool = False) -> Condition:
        """Return the condition; `admitted(...)` and `charged(...)` are allowed where it may ask for the decision."""
        self._asks_decision = asks_decision
        return self._sized(tree)[0]

    def check_definitions(self) -> None:
        """Resolve every definition, used or not, so that its problems are told."""
        self._asks_decision = False
        used = set(self._words.used)
        for decl in self._words.defines.values():
            self._filled_in(decl, dict.fromkeys((word.text for word in decl.parameters), None))
        self._words.used = used  # a definition asks for an attribute where it is used

    def _sized(self, tree: t.Expression) -> _Sized:
        """Return a condition with its number of nodes and its depth."""
        match tree:
            case t.Anything():
                return All(()), 1, 1
            case t.Named():
                return self._used(tree, tree.name, ())
            case t.Call():
                return self._used(tree, tree.name, tree.values)
            case t.OneOf():
                return _leaf(self._one_of(tree))
            case t.Compare():
                return _leaf(self._compare(tree))
            case t.DecidedShare():
                return _leaf(self._decided(tree))
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

    def _used(self, tree: t.Expression, word: t.Word, values: tuple[t.Value, ...]) -> _Sized:
        """Return what a use of a definition stands for."""
        if word.text not in self._words.defines and self._is_attribute(word):
            label = Label(word.span, "an attribute needs a comparison")
            help_text = f"write `{word.text} is ...`, or `{word.text} >= ...`"
            self._problems.add("AQ203", f"attribute `{word.text}` is not a condition", label, help=(help_text,))
            return _NOTHING, 1, 1
        decl = self._words.defines.look_up(word)
        if decl is None:
            return _NOTHING, 1, 1
        if len(values) != len(decl.parameters):
            self._wrong_arguments(tree, decl, len(values))
            return _NOTHING, 1, 1
        passed = [self._passed(value) for value in values]
        names = (parameter.text for parameter in decl.parameters)
        return self._filled_in(decl, dict(zip(names, passed, strict=True))) or (_NOTHING, 1, 1)

    def _passed(self, value: t.Value) -> t.Value | None:
        """Return a value as it is, or what it stands for as a parameter of the definition that uses it."""
        return self._arguments[value.text] if isinstance(value, t.Word) and value.text in self._arguments else value

    def _wrong_arguments(self, tree: t.Expression, decl: t.DefineDecl, given: int) -> None:
        names = ", ".join(parameter.text for parameter in decl.parameters)
        wanted = f"{decl.name.text}({names})" if names else decl.name.text
        count = len(decl.parameters)
        message = f"`{decl.name.text}` takes {count or 'no'} value{'' if count == 1 else 's'}, not {given}"
        labels = (Label(tree.span, f"gives {given}"), Label(decl.name.span, f"declared as `{wanted}`"))
        self._problems.add("AQ220", message, *labels)

    def _filled_in(self, decl: t.DefineDecl, arguments: _Arguments) -> _Sized | None:
        """Return a definition's condition; None where it has a problem of its own kind, told once."""
        name = decl.name.text
        if not arguments and name in self._done:
            done, asked = self._done[name]
            self._words.used |= asked
            return done
        if decl in self._path:
            self._cycle(self._path[self._path.index(decl) :])
            return None
        if len(self._path) >= MAX_DEPTH:
            label = Label(decl.name.span, "too many definitions lead here")
            self._problems.add("AQ218", f"definition `{name}` is more than {MAX_DEPTH} definitions deep", label)
            return None
        outer = self._asks_decision, self._arguments, self._words.used
        self._asks_decision, self._arguments, self._words.used = False, arguments, set()
        self._path.append(decl)
        result = self._sized(decl.condition)
        self._path.pop()
        asked = frozenset(self._words.used)
        self._asks_decision, self._arguments, self._words.used = outer
        self._words.used |= asked
        if not arguments:
            self._done[name] = result, asked
        return result

    def _cycle(self, path: list[t.DefineDecl]) -> None:
        labels = [
            Label(decl.name.span, f"uses `{used.name.text}`")
            for decl, used in zip(path, [*path[1:], path[0]], strict=True)
        ]
        self._problems.add("AQ216", f"definition `{path[0].name.text}` uses itself", *labels)

    # ---- Comparisons

    def _one_of(self, tree: t.OneOf) -> Condition:
        if tree.attribute.text == "band":
            found = [self._band(value) for value in tree.values]
        else:
            attribute = self._attribute(tree.attribute)
            if attribute is None:
                return _NOTHING
            found = [self._equal(attribute, value, tree) for value in tree.values]
        parts = tuple(part for part in found if part is not None)
        positive = parts[0] if len(parts) == 1 else Any(parts)
        return Not(positive) if tree.negated else positive

    def _band(self, value: t.Value) -> Condition | None:
        """Return the condition that an attribute lies in a band."""
        passed = self._passed(value)
        if not isinstance(passed, t.Word):
            if passed is not None:
                self._problems.add("AQ203", "a band has a name", Label(passed.span, "this is no name"))
            return None
        found = self._words.bands.look_up(passed)
        if found is None:
            return None
        bands, band = found
        self._words.look_up(t.Word(bands.attribute, passed.span))
        before = [other.below for other in bands.bands[: bands.bands.index(band)] if other.below is not None]
        ends = [Atom(bands.attribute, ">=", bound, passed.span) for bound in (max(before),)] if before else []
        if band.below is not None:
            ends.append(Atom(bands.attribute, "<", band.below, passed.span))
        return ends[0] if len(ends) == 1 else All(tuple(ends))

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

    def _is_attribute(self, word: t.Word) -> bool:
        return word.text in self._words.attributes or word.text in self._words.derived

    def _attribute(self, word: t.Word) -> Attribute | None:
        if word.text in self._words.defines and not self._is_attribute(word):
            label = Label(word.span, "a definition is a condition already")
            self._problems.add("AQ203", f"`{word.text}` is not an attribute", label, help=("use the name alone",))
            return None
        if word.text == "band":
            label = Label(word.span, "a band is compared with `is`")
            self._problems.add("AQ203", "a band stands in no order of its own", label, help=("write `band is NAME`",))
            return None
        return self._words.look_up(word)

    def _literal(self, attribute: Attribute, value: t.Value) -> str | int | None:
        passed = self._passed(value)
        return None if passed is None else literal_of(attribute, passed, self._problems)

    def _decided(self, tree: t.DecidedShare) -> Condition:
        if not self._asks_decision:
            message = f"`{tree.kind}(...)` may stand directly in a `prove` or `test` statement only"
            notes = ("a guard decides what is admitted, so it cannot ask for it",)
            self._problems.add("AQ214", message, Label(tree.span, "asks for the decision"), notes=notes)
            return _NOTHING
        names: Names[int] | Names[t.BudgetDecl] = self._words.groups if tree.kind == "admitted" else self._words.budgets
        found, share = names.look_up(tree.name), to_share(tree.share, self._problems)
        if found is None or share is None:
            return _NOTHING
        if tree.kind == "admitted":
            return Admitted(tree.name.text, tree.op, share, tree.span)
        return Charged(tree.name.text, tree.op, share, tree.span)


def _leaf(condition: Condition) -> _Sized:
    """Measure what one comparison has become: at most a negated list of alternatives, each a pair of ends."""
    inner = condition.term if isinstance(condition, Not) else condition
    nodes = 1 + (3 * len(inner.terms) if isinstance(inner, Any | All) else 0)
    return condition, nodes, 4


def _part_of(ladder: tuple[str, ...], op: Op, at: int) -> tuple[str, ...]:
    ends = {">=": ladder[at:], ">": ladder[at + 1 :], "<=": ladder[: at + 1], "<": ladder[:at], "=": (ladder[at],)}
    return ends[op]
