"""Read a value as one that an attribute can have: a name of its set, a number in its range and unit, a date."""

from __future__ import annotations

from typing import Final

from aqpolicy.diagnostics import Label
from aqpolicy.model.numbers import to_days, to_micro
from aqpolicy.model.policy import Attribute, Category, Numeric
from aqpolicy.model.problems import Problems
from aqpolicy.syntax import tree as t
from aqpolicy.units import value_text

_FOUND: Final = {t.Word: "a name", t.Number: "a number", t.Day: "a date"}


def literal_of(attribute: Attribute, value: t.Value, problems: Problems) -> str | int | None:
    """Return a value as the attribute holds it; report one that it can never have, and return None."""
    kind = attribute.type
    if isinstance(kind, Category) and isinstance(value, t.Word):
        return _category_value(attribute, kind, value, problems)
    if isinstance(kind, Numeric) and kind.kind == "date" and isinstance(value, t.Day):
        return _in_range(attribute, kind, value, to_days(value, problems), problems)
    if isinstance(kind, Numeric) and kind.kind != "date" and isinstance(value, t.Number):
        fits = _unit_fits(attribute, kind, value, problems)
        number = to_micro(value, problems)
        return _in_range(attribute, kind, value, number, problems) if fits else None
    message = f"`{attribute.name}` is compared with {_wanted(kind)}, not with {_FOUND[type(value)]}"
    problems.add("AQ203", message, Label(value.span, f"this is {_FOUND[type(value)]}"), *_declared(attribute))
    return None


def _wanted(kind: Category | Numeric) -> str:
    if isinstance(kind, Category):
        return "one of its values"
    return "a date" if kind.kind == "date" else "a number"


def _declared(attribute: Attribute) -> tuple[Label, ...]:
    """Point at the declaration; the language's own attributes have none."""
    return (Label(attribute.span, "declared here"),) if attribute.span.file else ()


def _category_value(attribute: Attribute, kind: Category, value: t.Word, problems: Problems) -> str | None:
    if value.text in kind.values:
        return value.text
    message = f"`{value.text}` is not a value of `{attribute.name}`"
    hint = problems.hint(value.text, kind.values, "its values")
    problems.add("AQ204", message, Label(value.span, "not declared"), *_declared(attribute), help=hint)
    return None


def _in_range(
    attribute: Attribute, kind: Numeric, value: t.Number | t.Day, number: int | None, problems: Problems
) -> int | None:
    if number is None:
        return None
    if not kind.low <= number <= kind.high:
        message = f"`{attribute.name}` is never {value.text}"
        label = Label(value.span, f"outside {value_text(kind.low, kind.kind)}..{value_text(kind.high, kind.kind)}")
        problems.add("AQ204", message, label, *_declared(attribute))
        return None
    if number % kind.step:
        message = f"`{attribute.name}` takes whole numbers only"
        problems.add("AQ203", message, Label(value.span, "not a whole number"), *_declared(attribute))
        return None
    return number


def _unit_fits(attribute: Attribute, kind: Numeric, value: t.Number, problems: Problems) -> bool:
    if value.unit is None or value.unit.text == kind.unit:
        return True
    has = f"is in {kind.unit}" if kind.unit else "has no unit"
    message = f"`{attribute.name}` {has}, not in {value.unit.text}"
    label = Label(value.unit.span, "another unit")
    problems.add("AQ207", message, label, *_declared(attribute), notes=("units are never converted",))
    return False
