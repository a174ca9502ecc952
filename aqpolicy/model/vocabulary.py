"""Resolve what a policy speaks about: the taxonomy's attributes and the depth groups."""

from __future__ import annotations

from aqpolicy.diagnostics import Label, Span
from aqpolicy.model.numbers import to_count, to_micro
from aqpolicy.model.policy import Attribute, AttributeType, Category, DepthGroup, ModuleRange, Numeric, Taxonomy
from aqpolicy.model.problems import Names, Problems
from aqpolicy.syntax import tree as t
from aqpolicy.units import MICRO


def resolve_taxonomy(decl: t.TaxonomyDecl, attributes: Names[Attribute | None], problems: Problems) -> Taxonomy:
    """Return the taxonomy; enter each of its attributes, those without a sound type as None."""
    for item in decl.attributes:
        kind = _type(item, problems)
        attributes.declare(item.name, None if kind is None else Attribute(item.name.text, kind, item.name.span))
    if not decl.attributes:
        label = Label(decl.span, "no attribute in here")
        problems.add("AQ219", f"taxonomy `{decl.name.text}` declares no attribute", label)
    version = to_count(decl.version, "taxonomy version", problems)
    sound = tuple(attribute for attribute in attributes.values() if attribute is not None)
    return Taxonomy(decl.name.text, version or 0, sound, decl.name.span)


def _type(item: t.AttributeDecl, problems: Problems) -> AttributeType | None:
    if isinstance(item.type, t.Range):
        return _numeric(item.type, item.span, problems)
    ordered = item.type.rungs if isinstance(item.type, t.Ladder) else ()
    others = item.type.outside if isinstance(item.type, t.Ladder) else item.type.values
    values: Names[str] = Names("value", problems)
    for word in (*ordered, *others):
        values.declare(word, word.text)
    return Category(values.values(), min(len(ordered), len(values.values())))


def _numeric(decl: t.Range, span: Span, problems: Problems) -> Numeric | None:
    step = 1 if decl.kind == "number" else MICRO
    low, high = (to_micro(bound, problems) for bound in (decl.low, decl.high))
    if low is None or high is None:
        return None
    for bound, value in ((decl.low, low), (decl.high, high)):
        if value % step:
            label = Label(bound.span, "must be a whole number")
            problems.add("AQ203", f"`{bound.text}` cannot bound {_a(decl.kind)} attribute", label)
            return None
    if low > high:
        message = f"no number is in {decl.low.text}..{decl.high.text}"
        problems.add("AQ219", message, Label(span, "the range is empty"), help=("write the lower bound first",))
        return None
    return Numeric(decl.kind, low, high, step, decl.unit)


def _a(kind: str) -> str:
    return f"an `{kind}`" if kind == "integer" else f"a `{kind}`"


def resolve_depth(decl: t.DepthDecl, groups: Names[int], problems: Problems) -> tuple[DepthGroup, ...]:
    """Return the depth groups in order; enter each with its index."""
    for index, item in enumerate(decl.groups):
        groups.declare(item.name, index)
    if not decl.groups:
        problems.add("AQ219", "`depth` declares no group", Label(decl.span, "no group in here"))
    return tuple(DepthGroup(item.name.text, _ranges(item, problems), item.name.span) for item in decl.groups)


def _ranges(item: t.GroupDecl, problems: Problems) -> tuple[ModuleRange, ...]:
    for part in item.modules:
        for word in (part.first, part.last):
            if word is not None and not word.text.strip():
                problems.add("AQ219", "a module's name is empty", Label(word.span, "names nothing"))
    return tuple(ModuleRange(m.first.text, m.last.text if m.last else None, m.span) for m in item.modules)


def resolve_groups(which: t.Groups, groups: Names[int], problems: Problems) -> tuple[str, ...]:
    """Return the names of the groups in order of depth; `all` stands for every one."""
    if which.names is None:
        return groups.names()
    chosen: set[int] = set()
    for name in which.names:
        index = groups.look_up(name)
        if index in chosen:
            problems.add("AQ202", f"group `{name.text}` is named twice", Label(name.span, "named again"))
        if index is not None:
            chosen.add(index)
    return tuple(groups.names()[index] for index in sorted(chosen))
