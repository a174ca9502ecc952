"""Resolve what a policy speaks about: attributes, bands, the course of the run, evidence, and depth groups."""

from __future__ import annotations

from aqpolicy.diagnostics import Label, Span
from aqpolicy.model.conditions import Vocabulary
from aqpolicy.model.numbers import LARGEST, to_count, to_days, to_micro, to_positive
from aqpolicy.model.policy import (
    Attribute,
    AttributeType,
    Band,
    Bands,
    Category,
    Certification,
    DepthGroup,
    Evidence,
    ModuleRange,
    Numeric,
    Taxonomy,
    Weights,
)
from aqpolicy.model.problems import Names, Problems
from aqpolicy.model.run_attributes import RESERVED_ATTRIBUTES, course_attribute
from aqpolicy.model.values import literal_of
from aqpolicy.syntax import tree as t
from aqpolicy.units import MICRO

JUDGMENT_KEYS = ("session", "annotator", "model", "source")
"""What judgments may share beside attributes of the taxonomy, so that they are echoes of one another."""


def resolve_taxonomy(decl: t.TaxonomyDecl, attributes: Names[Attribute | None], problems: Problems) -> Taxonomy:
    """Return the taxonomy; enter each of its attributes, those without a sound type as None."""
    for item in decl.attributes:
        if item.name.text in RESERVED_ATTRIBUTES:
            message = f"`{item.name.text}` is provided by the language and cannot be declared"
            problems.add("AQ225", message, Label(item.name.span, "choose another name"))
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
    if isinstance(item.type, t.Days):
        return _dates(item.type, item.span, problems)
    ladder = item.type if isinstance(item.type, t.Ladder) else t.Ladder((), item.type.values)
    return _category(ladder, problems)


def _category(ladder: t.Ladder, problems: Problems) -> Category:
    values: Names[str] = Names("value", problems)
    for word in (*ladder.rungs, *ladder.outside):
        values.declare(word, word.text)
    return Category(values.values(), min(len(ladder.rungs), len(values.values())))


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
    return _ranged(Numeric(decl.kind, low, high, step, decl.unit), (decl.low.text, decl.high.text), span, problems)


def _dates(decl: t.Days, span: Span, problems: Problems) -> Numeric | None:
    low, high = to_days(decl.low, problems), to_days(decl.high, problems)
    if low is None or high is None:
        return None
    return _ranged(Numeric("date", low, high, MICRO), (decl.low.text, decl.high.text), span, problems)


def _ranged(kind: Numeric, ends: tuple[str, str], span: Span, problems: Problems) -> Numeric | None:
    if kind.low <= kind.high:
        return kind
    message = f"nothing is in {ends[0]}..{ends[1]}"
    problems.add("AQ219", message, Label(span, "the range is empty"), help=("write the lower bound first",))
    return None


def _a(kind: str) -> str:
    return f"an `{kind}`" if kind == "integer" else f"a `{kind}`"


def resolve_bands(decl: t.BandsDecl, vocabulary: Vocabulary, problems: Problems) -> Bands | None:
    """Return the bands; enter each with its statement. Whether they partition the range is the checker's question."""
    attribute = vocabulary.look_up(decl.attribute)
    if attribute is None:
        return None
    if not isinstance(attribute.type, Numeric):
        label = Label(decl.attribute.span, "has names already")
        problems.add("AQ203", f"`{attribute.name}` is no number, so it has no bands", label)
        return None
    if not decl.bands:
        problems.add("AQ219", f"`bands of {attribute.name}` names no band", Label(decl.span, "no band in here"))
    found = tuple(_band(item, attribute, problems) for item in decl.bands)
    bands = Bands(attribute.name, found, decl.span)
    for item, band in zip(decl.bands, found, strict=True):
        vocabulary.bands.declare(item.name, (bands, band))
    return bands


def _band(item: t.BandDecl, attribute: Attribute, problems: Problems) -> Band:
    below = None if item.below is None else literal_of(attribute, item.below, problems)
    return Band(item.name.text, None if below is None else int(below), item.span)


def resolve_course(
    decl: t.CourseDecl, vocabulary: Vocabulary, problems: Problems
) -> tuple[Attribute, tuple[Certification, ...]]:
    """Return the attribute that `phases` or `stages` make, and what each stage requires."""
    kind = _category(decl.ladder, problems)
    attribute = course_attribute(decl.kind, kind, decl.span)
    vocabulary.derived[decl.kind] = attribute
    found = [_certification(item, attribute, problems) for item in decl.certifications]
    return attribute, tuple(certification for certification in found if certification is not None)


def _certification(item: t.CertificationDecl, stages: Attribute, problems: Problems) -> Certification | None:
    stage, value = literal_of(stages, item.stage, problems), to_micro(item.value, problems)
    if stage is None or value is None:
        return None
    return Certification(str(stage), item.metric.text, item.op, value, item.span)


def resolve_evidence(decl: t.EvidenceDecl, vocabulary: Vocabulary, problems: Problems) -> Evidence:
    """Return how judgments are weighed; floor and ceiling are mandatory, since they are the range of `evidence`."""
    weighed = [clause for clause in decl.clauses if isinstance(clause, t.WeighClause)]
    if not weighed:
        problems.add("AQ219", "`evidence` weighs nothing", Label(decl.span, "no `weigh` in here"))
    keys = [name for clause in decl.clauses if isinstance(clause, t.OnePerClause) for name in clause.names]
    for name in keys:
        if name.text not in JUDGMENT_KEYS:
            vocabulary.attributes.look_up(name)
    floor, ceiling = (_evidence_bound(decl, kind, problems) for kind in ("floor", "ceiling"))
    if floor > ceiling:
        labels = [Label(clause.span, clause.kind) for clause in decl.clauses if isinstance(clause, t.EvidenceBound)]
        problems.add("AQ303", "the floor of `evidence` is above its ceiling", *(labels or [Label(decl.span, "here")]))
        floor, ceiling = 0, max(floor, LARGEST)  # whatever it is compared with, the bounds are what is wrong
    found = tuple(_weights(clause, vocabulary, problems) for clause in weighed)
    return Evidence(found, tuple(dict.fromkeys(name.text for name in keys)), floor, ceiling, decl.span)


def _evidence_bound(decl: t.EvidenceDecl, kind: str, problems: Problems) -> int:
    found = [clause for clause in decl.clauses if isinstance(clause, t.EvidenceBound) and clause.kind == kind]
    for again in found[1:]:
        labels = (Label(again.span, "again"), Label(found[0].span, "first"))
        problems.add("AQ211", f"`evidence` has two {kind}s", *labels)
    if found:
        return to_positive(found[0].value, kind, problems) or 0
    if kind == "ceiling":
        label = Label(decl.span, "has no `at most`")
        problems.add("AQ217", "`evidence` lacks `at most`", label, help=("say how much evidence counts at most",))
    return 0


def _weights(clause: t.WeighClause, vocabulary: Vocabulary, problems: Problems) -> Weights:
    attribute = vocabulary.attributes.look_up(clause.attribute)
    if attribute is not None and not isinstance(attribute.type, Category):
        label = Label(clause.attribute.span, "is a number")
        problems.add("AQ203", f"`{attribute.name}` has no named values to weigh", label)
        attribute = None
    weights: dict[str, int] = {}
    for value, weight in clause.weights:
        amount = to_positive(weight, "weight", problems) or 0
        if attribute is not None and literal_of(attribute, value, problems) is not None:
            if value.text in weights:
                problems.add("AQ202", f"`{value.text}` is weighed twice", Label(value.span, "weighed again"))
            weights.setdefault(value.text, amount)
    return Weights(clause.attribute.text, tuple(weights.items()), clause.span)


def resolve_depth(decl: t.DepthDecl, groups: Names[int], problems: Problems) -> tuple[DepthGroup, ...]:
    """Return the depth groups in order; enter each with its index."""
    for index, item in enumerate(decl.groups):
        groups.declare(item.name, index)
    if not decl.groups:
        problems.add("AQ219", "`depth` declares no group", Label(decl.span, "no group in here"))
    return tuple(
        DepthGroup(item.name.text, _addresses(item, problems), item.name.span, item.protected) for item in decl.groups
    )


def _addresses(item: t.GroupDecl, problems: Problems) -> tuple[ModuleRange, ...]:
    kind: t.AddressKind | None = None
    found = []
    for part in item.addresses:
        kind = part.kind or kind
        if kind is None:
            label = Label(part.span, "the address of what?")
            advice = ("write `modules`, `experts`, `adapters` or `parameters` before the text",)
            problems.add("AQ217", f"group `{item.name.text}` does not say what it names", label, help=advice)
        for word in (part.first, part.last):
            if word is not None and not word.text.strip():
                problems.add("AQ219", "a module's name is empty", Label(word.span, "names nothing"))
        found.append(ModuleRange(part.first.text, part.last.text if part.last else None, part.span, kind or "modules"))
    return tuple(found)


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
