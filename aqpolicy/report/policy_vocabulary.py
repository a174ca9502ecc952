"""Say what the words of a policy mean, and which parts of a model it governs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from aqpolicy.model.policy import Attribute, Category, ModuleRange, Policy
from aqpolicy.report.data import Table
from aqpolicy.report.policy_book import Book
from aqpolicy.report.policy_words import listed, sentence
from aqpolicy.report.sheet import Block, Items, Paragraph
from aqpolicy.syntax import tree as t
from aqpolicy.units import micro_text, value_text

_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {"number": "a number", "integer": "a whole number", "version": "an edition", "date": "a date"}
)
_ORIGINS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "manifest": "signed with the observation",
        "evidence": "weighed from the judgments behind the label",
        "run": "the state of training when the observation is used",
    }
)


def vocabulary(book: Book) -> Iterator[Block]:
    """Yield attributes, definitions, bands, evidence, and what the run must show."""
    policy = book.policy
    rows = tuple((attribute.name, _type(attribute), _ORIGINS[attribute.origin]) for attribute in policy.attributes)
    yield Table("What is known of an observation", ("attribute", "values", "where it comes from"), rows)
    definitions = tuple((_signature(decl), book.words.condition(decl.condition)) for decl in book.all_of(t.DefineDecl))
    if definitions:
        yield Table("What the policy defines", ("word", "holds when"), definitions)
    for bands in policy.bands:
        ends = tuple((band.name, _band(band.below)) for band in bands.bands)
        yield Table(f"Bands of {bands.attribute}, from its least value", ("band", "up to"), ends)
    yield from _evidence(book)
    certified = tuple(
        sentence(f"the run may enter the stage {each.stage.text} once {each.metric.text} {each.op} {each.value.text}")
        for course in book.all_of(t.CourseDecl)
        for each in course.certifications
    )
    if certified:
        yield Items("What the run must show:", certified)


def _signature(decl: t.DefineDecl) -> str:
    parameters = ", ".join(parameter.text for parameter in decl.parameters)
    return f"{decl.name.text} ({parameters})" if parameters else decl.name.text


def _type(attribute: Attribute) -> str:
    kind = attribute.type
    if isinstance(kind, Category):
        ladder = " < ".join(kind.values[: kind.ordered])
        beside = listed(kind.values[kind.ordered :], "or")
        if not ladder:
            return beside
        return f"{ladder}{f'; outside the order: {beside}' if beside else ''}"
    unit = f" {kind.unit}" if kind.unit else ""
    return f"{_KINDS[kind.kind]} from {value_text(kind.low, kind.kind)} to {value_text(kind.high, kind.kind)}{unit}"


def _band(below: int | None) -> str:
    return "the greatest value" if below is None else f"below {micro_text(below)}"


def _evidence(book: Book) -> Iterator[Block]:
    evidence = book.policy.evidence
    if evidence is None:
        return
    items = [
        f"By {weights.attribute}, one judgment counts "
        f"{listed([f'{micro_text(weight)} ({value})' for value, weight in weights.weights])}."
        for weights in evidence.weights
    ]
    if evidence.independent_by:
        shared = listed(evidence.independent_by, "or")
        items.append(f"Judgments that share a {shared} count together as their strongest.")
    items.append(f"The sum is kept between {micro_text(evidence.floor)} and {micro_text(evidence.ceiling)}.")
    yield Items("How the judgments behind a label are weighed into its evidence:", tuple(items))


def governed(policy: Policy) -> Iterator[Block]:
    """Yield the depth groups."""
    yield Paragraph(f"Depth is counted from the model's {policy.origin}: the first group is the one nearest to it.")
    rows = tuple(
        (
            group.name,
            "; ".join(_address(address) for address in group.modules),
            "no single attribute may open it" if group.protected else "",
        )
        for group in policy.groups
    )
    columns = ("depth group", "parts of the model", "protected")
    yield Table("Depth groups, in order", columns if any(row[2] for row in rows) else columns[:2], _trimmed(rows))


def _trimmed(rows: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """Leave out the last column where it is empty."""
    return rows if any(row[-1] for row in rows) else tuple(row[:-1] for row in rows)


def _address(address: ModuleRange) -> str:
    return f"{address.kind} {address.first}{f' to {address.last}' if address.last else ''}"
