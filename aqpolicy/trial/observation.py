"""Read observations as people write them: names, decimals and dates as text, or exact JSON numbers.

What is wrong is said in the words that a policy's author would read, and all of it
at once. Numbers never pass through binary fractions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from aqpolicy.diagnostics import Diagnostic, Span
from aqpolicy.diagnostics.words import visible
from aqpolicy.model.numbers import to_micro
from aqpolicy.model.policy import Attribute, Category, Evidence, Numeric, Policy
from aqpolicy.model.problems import Problems
from aqpolicy.model.run_attributes import RESERVED_ATTRIBUTES
from aqpolicy.model.values import literal_of
from aqpolicy.semantics.evidence import Judgment, weigh
from aqpolicy.syntax import tree as t
from aqpolicy.trial.faults import Faults, choices
from aqpolicy.units import value_text

Observation = dict[str, str | int]
"""Values by attribute: names of values, or millionths."""

_NOWHERE: Final = Span("", 0, 0, 1, 1)
_NUMBER: Final = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)(?: ([a-z][a-z0-9]*))?", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_LONGEST: Final = 200
_KINDS: Final = ((bool, "true or false"), (Mapping, "a table"), (list, "a list"), (type(None), "empty"))


class UnfitError(Exception):
    """What is written is no value of its attribute; the message says why."""


def parse_observation(text: str) -> dict[str, object]:
    """Return what `name=value, name=value` writes, unread.

    Raises:
        InputError: A part is no such pair, or a name stands twice.
    """
    faults, found = Faults(), dict[str, object]()
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not (name and equals and value):
            faults.add(f"`{visible(part)}` does not say `attribute=value`")
        elif name in found:
            faults.add(f"`{visible(name)}` is given twice")
        found[name] = value
    faults.stop()
    return found


def missing(policy: Policy, observation: Mapping[str, object]) -> tuple[Attribute, ...]:
    """Return the attributes that an observation lacks; while one is missing, everything is denied."""
    return tuple(attribute for attribute in policy.attributes if attribute.name not in observation)


def read_observation(policy: Policy, written: Mapping[str, object], faults: Faults) -> Observation:
    """Return the values of an observation; what cannot be read is left out, and said in `faults`.

    Args:
        policy: Whose attributes they are.
        written: By attribute.
        faults: Gains every fault.
    """
    attributes = {attribute.name: attribute for attribute in policy.attributes}
    found: Observation = {}
    for name, value in written.items():
        if name not in attributes:
            faults.add(_unknown(name, attributes))
            continue
        try:
            found[name] = read_value(attributes[name], value)
        except UnfitError as error:
            faults.within(name).add(str(error))
    return found


def read_value(attribute: Attribute, written: object) -> str | int:
    """Return a value of an attribute.

    Raises:
        UnfitError: It is none.
    """
    text, problems = scalar_text(written), Problems()
    value = literal_of(attribute, _literal(attribute, text), problems)
    if value is None:
        raise UnfitError(_words(problems.found[0]))
    return value


def read_number(written: object) -> int:
    """Return a plain decimal in millionths.

    Raises:
        UnfitError: It is none, or has no exact place in millionths.
    """
    text, problems = scalar_text(written), Problems()
    match = _NUMBER.fullmatch(text)
    if match is None or match[2]:
        raise UnfitError(f"`{text}` is no number")
    value = to_micro(t.Number(text, None, _NOWHERE), problems)
    if value is None:
        raise UnfitError(_words(problems.found[0]))
    return value


def scalar_text(written: object) -> str:
    """Return a single value as text.

    Raises:
        UnfitError: It is a list, a table, or something else that has no such text.
    """
    kind = next((words for kind, words in _KINDS if isinstance(written, kind)), None)
    if kind is not None:
        raise UnfitError(f"it is {kind}, where one value is needed")
    if isinstance(written, Decimal):
        if not written.is_finite() or abs(written.adjusted()) > 30:
            raise UnfitError("it is not a number that a policy could hold")
        written = f"{written:f}"
    text = visible(str(written).strip())
    if len(text) > _LONGEST:
        raise UnfitError(f"it is longer than {_LONGEST} characters")
    return text


def _literal(attribute: Attribute, text: str) -> t.Value:
    if isinstance(attribute.type, Category):
        return t.Word(text, _NOWHERE)
    if attribute.type.kind == "date":
        if _DATE.fullmatch(text) is None:
            raise UnfitError(f"`{text}` is no date; write year-month-day")
        return t.Day(text, _NOWHERE)
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise UnfitError(f"`{text}` is no number")
    return t.Number(match[1], t.Word(match[2], _NOWHERE) if match[2] else None, _NOWHERE)


def _words(problem: Diagnostic) -> str:
    return "; ".join([problem.message, *(problem.help or (problem.labels[0].text,))])


def _unknown(name: str, attributes: Mapping[str, Attribute]) -> str:
    if name in RESERVED_ATTRIBUTES:
        return f"no condition of the policy asks for `{name}`; leave it out"
    return f"the policy has no attribute `{visible(name)}`; {choices(name, attributes)}"


def values_text(attribute: Attribute) -> str:
    """Return what an attribute can be, for whoever has to say it."""
    kind = attribute.type
    if not isinstance(kind, Numeric):
        return " | ".join(kind.values)
    unit = f" {kind.unit}" if kind.unit else ""
    return f"{value_text(kind.low, kind.kind)}..{value_text(kind.high, kind.kind)}{unit}"


# ---- Evidence


def add_evidence(policy: Policy, judgments: object, observation: Observation, faults: Faults) -> None:
    """Weigh judgments into the attribute `evidence` of an observation, where conditions ask for it.

    Args:
        policy: Says how they are weighed.
        judgments: A list of tables, as written.
        observation: Gains the attribute.
        faults: Gains every fault.
    """
    if policy.evidence is None:
        faults.add("the policy has no `evidence` statement to weigh them by; leave them out")
    elif "evidence" in observation:
        faults.add("`evidence` is given too; leave one of them out")
    elif not isinstance(judgments, list):
        faults.add("it is no list")
    else:
        evidence = policy.evidence
        read = [_judgment(policy, evidence, each, faults.within(f"{n}")) for n, each in enumerate(judgments, start=1)]
        if any(attribute.name == "evidence" for attribute in policy.derived):
            observation["evidence"] = weigh(evidence, read)


def _judgment(policy: Policy, evidence: Evidence, written: object, faults: Faults) -> Judgment:
    if not isinstance(written, Mapping):
        faults.add("it is no table of values")
        return {}
    weighed = {weights.attribute for weights in evidence.weights}
    types = {attribute.name: attribute for attribute in policy.taxonomy.attributes}
    faults.check_keys(written, dict.fromkeys([*sorted(weighed), *evidence.independent_by]))
    found: dict[str, str | int] = {}
    for name, value in written.items():
        try:
            # A key such as a session is no attribute: its text is all that counts.
            found[name] = read_value(types[name], value) if name in types else scalar_text(value)
        except UnfitError as error:
            faults.within(name).add(str(error))
    return found
