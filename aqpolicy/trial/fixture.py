"""Fixtures: one observation each, and what is expected of the decision on it.

Reading says everything that is wrong with a file at once. Whether a fixture holds
is `outcome`'s question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from aqpolicy.bundle import tables
from aqpolicy.diagnostics import Span
from aqpolicy.model.policy import Defer, LimitFrequency, Obligation, Policy, Verify
from aqpolicy.trial.faults import Faults, choices
from aqpolicy.trial.observation import Observation, UnfitError, add_evidence, read_number, read_observation, scalar_text
from aqpolicy.trial.records import Record, Records

MEMBERS: Final = ("name", "observation", "judgments", "expect")
NO_NORM: Final = ("none", "null", "~")
"""How `norms` says that a group has no limit."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected of a decision; None, and what a table does not name, is not asked."""

    effect: str | None = None
    cause: str | None = None
    rules: tuple[str, ...] | None = None
    """All that decide."""
    by: tuple[str, ...] = ()
    """Some that decide."""
    reason: str | None = None
    shares: Mapping[str, int] = field(default_factory=dict)
    norms: Mapping[str, int | None] = field(default_factory=dict)
    charges: Mapping[str, int] = field(default_factory=dict)
    obligations: tuple[str, ...] | None = None
    """All that is asked of the run, as `obligation_names` writes it."""


@dataclass(frozen=True, slots=True)
class Fixture:
    """One observation and what is expected."""

    name: str
    observation: Observation
    expected: Expected
    span: Span


def obligation_names(policy: Policy) -> tuple[str, ...]:
    """Return how fixtures call the obligations of a policy: `verify by RULE`, `defer by RULE`, ..."""
    return tuple(f"{obligation_kind(asked)} by {rule}" for rule, asked in policy.obligations)


def obligation_kind(obligation: Obligation) -> str:
    """Return the word by which a policy asks for an obligation."""
    if isinstance(obligation, LimitFrequency):
        return "frequency"
    if isinstance(obligation, Defer):
        return "defer"
    return "verify" if isinstance(obligation, Verify) else "promote"


def read_fixtures(policy: Policy, records: Records) -> tuple[Fixture, ...]:
    """Return the fixtures of a file, read for a policy.

    Raises:
        InputError: With everything that is wrong with the file.
    """
    faults = Faults()
    reader = _Reader(policy)
    found = [
        reader.fixture(record, faults.within(f"{record.span.file}:{record.span.line}: case {number}"))
        for number, record in enumerate(records.records, start=1)
    ]
    faults.stop()
    return tuple(fixture for fixture in found if fixture is not None)


class _Reader:
    """Reads the fixtures of one file."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._names: set[str] = set()
        rules, budgets = (tuple(item.name for item in items) for items in (policy.rules, policy.budgets))
        self._expectations: Mapping[str, Callable[[object, Faults], object]] = {
            "effect": _choice(tables.EFFECTS),
            "cause": _choice(tables.CAUSES),
            "rules": _list("rule", rules),
            "by": _list("rule", rules),
            "reason": _text,
            "shares": _table("group", policy.group_names, read_number),
            "norms": _table("group", policy.group_names, _norm),
            "charges": _table("budget", budgets, read_number),
            "obligations": _list("obligation", obligation_names(policy)),
        }

    def fixture(self, record: Record, faults: Faults) -> Fixture | None:
        """Return a fixture; None where it has faults that leave nothing of it."""
        if not isinstance(record.value, Mapping):
            faults.add(f"a case is a table with {', '.join(f'`{name}`' for name in MEMBERS)}")
            return None
        members = cast("Mapping[str, object]", record.value)
        faults.check_keys(members, MEMBERS)
        name, observation = self._name(members, faults), self._observation(members, faults)
        return Fixture(name, observation, self._expected(members, faults), record.span)

    def _name(self, members: Mapping[str, object], faults: Faults) -> str:
        part, name = faults.within("name", ": "), members.get("name")
        text = "" if name is None else _text(name, part)
        if text == "":
            part.add("give the case a name that says what it shows")
        elif text in self._names:
            part.add(f"another case is called `{text}` too")
        self._names.add(text or "")
        return text or ""

    def _observation(self, members: Mapping[str, object], faults: Faults) -> Observation:
        part, written = faults.within("observation", ": "), members.get("observation")
        if not isinstance(written, Mapping):
            part.add("it is missing, or no table of `attribute: value`")
            return {}
        observation = read_observation(self._policy, written, part)
        if members.get("judgments") is not None:
            add_evidence(self._policy, members["judgments"], observation, faults.within("judgments", ": "))
        return observation

    def _expected(self, members: Mapping[str, object], faults: Faults) -> Expected:
        part, written = faults.within("expect", ": "), members.get("expect")
        if not isinstance(written, Mapping) or not written:
            part.add(f"it is missing or empty; expect one or more of {', '.join(self._expectations)}")
            return Expected()
        part.check_keys(written, self._expectations)
        read = {
            key: self._expectations[key](value, part.within(key))
            for key, value in written.items()
            if key in self._expectations
        }
        return Expected(**{key: value for key, value in read.items() if value is not None})  # type: ignore[arg-type]  # each reader returns its member's type


def _text(value: object, faults: Faults) -> str | None:
    try:
        return scalar_text(value)
    except UnfitError as error:
        faults.add(str(error))
        return None


def _choice(words: Iterable[str]) -> Callable[[object, Faults], object]:
    """Return a reader of one of several words."""
    known = tuple(words)

    def read(value: object, faults: Faults) -> object:
        text = _text(value, faults)
        if text is not None and text not in known:
            faults.add(f"`{text}` is not one of {', '.join(f'`{word}`' for word in known)}")
        return text

    return read


def _list(kind: str, names: tuple[str, ...]) -> Callable[[object, Faults], object]:
    """Return a reader of a list of names, or of one name alone."""

    def read(value: object, faults: Faults) -> object:
        items = value if isinstance(value, list) else [value]
        found = [text for item in items if (text := _text(item, faults)) is not None]
        for text in found:
            if text not in names:
                faults.add(f"the policy has no {kind} `{text}`; {choices(text, names)}")
        return tuple(found)

    return read


def _table(kind: str, names: tuple[str, ...], number: Callable[[object], object]) -> Callable[[object, Faults], object]:
    """Return a reader of numbers by name."""

    def read(value: object, faults: Faults) -> object:
        if not isinstance(value, Mapping):
            faults.add(f"it is no table of `{kind}: number`")
            return None
        found: dict[str, object] = {}
        for name, written in value.items():
            if name not in names:
                faults.add(f"the policy has no {kind} `{name}`; {choices(name, names)}")
                continue
            try:
                found[name] = number(written)
            except UnfitError as error:
                faults.within(name).add(str(error))
        return found

    return read


def _norm(written: object) -> int | None:
    return None if written is None or written in NO_NORM else read_number(written)
