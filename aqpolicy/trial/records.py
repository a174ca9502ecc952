"""Files of fixtures as plain data: a header, and one record for each fixture, with its place.

Values are what JSON knows, numbers as exact decimals; of YAML every value is text,
so that `no` and `1e3` stay what was written. What records mean is `fixture`'s question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType
from typing import Final

from aqpolicy.diagnostics import Source, Span
from aqpolicy.errors import InputError
from aqpolicy.trial.faults import Faults

LARGEST_FILE: Final = 16 * 1024 * 1024
"""Characters of the largest file of fixtures."""

HEADER: Final = ("policy", "cases")


@dataclass(frozen=True, slots=True)
class Record:
    """One fixture, unread."""

    value: object
    span: Span


@dataclass(frozen=True, slots=True)
class Records:
    """A file of fixtures: which policy it is about, if it says so, and the fixtures."""

    source: Source
    policy: str | None
    records: tuple[Record, ...]


def read_records(source: Source) -> Records:
    """Return the fixtures of a file, which its ending calls YAML or JSON lines.

    Raises:
        InputError: It is neither, or holds something else; the message says all that is wrong.
    """
    reader = _READERS.get(PurePath(source.name).suffix)
    if reader is None:
        raise InputError(f"`{source.name}` is no file of fixtures; those end in {', '.join(SUFFIXES)}")
    if len(source.text) > LARGEST_FILE:
        raise InputError(f"`{source.name}` is larger than a file of fixtures may be")
    return reader(source)


def line_span(source: Source, line: int, start: int) -> Span:
    """Return the span of the rest of a line; `line` counts from 1, `start` is an offset into the text."""
    end = source.text.find("\n", start)
    column = start - source.text.rfind("\n", 0, start)
    return Span(source.name, start, len(source.text) if end < 0 else end, line, column)


def _jsonl(source: Source) -> Records:
    from aqpolicy.trial.json_lines import read_lines

    faults = Faults()
    records = [Record(value, line_span(source, line, start)) for line, start, value in read_lines(source, faults)]
    faults.stop()
    first = records[0].value if records else None
    if isinstance(first, Mapping) and tuple(first) == ("policy",):
        return Records(source, _policy(first, source), tuple(records[1:]))
    return Records(source, None, tuple(records))


def _yaml(source: Source) -> Records:
    from aqpolicy.trial.yaml_text import read_yaml

    value, lines = read_yaml(source)
    header: Mapping[str, object] = value if isinstance(value, Mapping) else {}
    items = header.get("cases") if header else value
    if header:
        faults = Faults(source.name)
        faults.check_keys(header, HEADER)
        faults.stop()
    if items is None:
        items = []
    if not isinstance(items, list):
        raise InputError(f"{source.name}: it holds no list of cases; write `cases:`, and under it a list")
    places = (lines.get(id(item), (1, 0)) for item in items)
    records = (Record(item, line_span(source, *place)) for item, place in zip(items, places, strict=True))
    return Records(source, _policy(header, source), tuple(records))


def _policy(header: Mapping[str, object], source: Source) -> str | None:
    name = header.get("policy")
    if name is None or isinstance(name, str):
        return name
    raise InputError(f"{source.name}: `policy` is no file name")


_READERS: Final[Mapping[str, Callable[[Source], Records]]] = MappingProxyType(
    {".yaml": _yaml, ".yml": _yaml, ".jsonl": _jsonl}
)

SUFFIXES: Final = tuple(_READERS)
"""How files of fixtures end."""
