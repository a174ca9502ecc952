"""Canonical JSON: one value, one sequence of bytes (RFC 8785, without floats).

It does not read lenient JSON: a file that differs from the canonical form of
its own value by one byte is refused, so no two readers can see two values in
the bytes that were signed. Numbers are integers of at most 53 bits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NoReturn

from aqpolicy.errors import CanonicalError

LARGEST_INTEGER: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly."""

LARGEST_DEPTH: Final = 64
"""How deep lists and objects may nest."""


def canonical_json(value: object) -> bytes:
    """Return the only bytes that stand for a value.

    Args:
        value: Strings, booleans, None, integers, and lists, tuples and
            string-keyed mappings of them.

    Raises:
        CanonicalError: The value holds something else (a float, say), an
            integer beyond 53 bits, a lone surrogate, or nests too deep.

    Source:
        RFC 8785, 3.2; keys are sorted by their UTF-16 code units.
    """
    parts: list[str] = []
    _write(value, parts, LARGEST_DEPTH)
    try:
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError as error:
        raise CanonicalError("a string holds a lone surrogate") from error


def parse_canonical(data: bytes) -> object:
    """Return the value that canonical bytes stand for.

    Trust:
        data is untrusted.

    Raises:
        CanonicalError: The bytes are not the canonical form of any value.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_integer,
        )
    except (ValueError, RecursionError) as error:
        raise CanonicalError("the bytes are not JSON that can be read") from error
    if canonical_json(value) != data:
        raise CanonicalError("the bytes are not the canonical form of the value that they hold")
    return value


def _write(value: object, parts: list[str], depth: int) -> None:
    if value is None:
        parts.append("null")
    elif isinstance(value, bool):
        parts.append("true" if value else "false")
    elif isinstance(value, str):
        parts.append(json.dumps(value, ensure_ascii=False))
    elif isinstance(value, int):
        parts.append(_integer_text(value))
    elif depth == 0:
        raise CanonicalError(f"a value nests deeper than {LARGEST_DEPTH}")
    elif isinstance(value, (list, tuple)):
        _write_list(value, parts, depth - 1)
    elif isinstance(value, Mapping):
        _write_object(value, parts, depth - 1)
    else:
        raise CanonicalError(f"a `{type(value).__name__}` has no canonical form; use integers and strings")


def _write_list(items: list[object] | tuple[object, ...], parts: list[str], depth: int) -> None:
    parts.append("[")
    for number, item in enumerate(items):
        if number:
            parts.append(",")
        _write(item, parts, depth)
    parts.append("]")


def _write_object(members: Mapping[object, object], parts: list[str], depth: int) -> None:
    names = [name for name in members if isinstance(name, str)]
    if len(names) != len(members):
        raise CanonicalError("a key of an object is not a string")
    parts.append("{")
    for number, name in enumerate(sorted(names, key=_utf16)):
        parts.append(("," if number else "") + json.dumps(name, ensure_ascii=False) + ":")
        _write(members[name], parts, depth)
    parts.append("}")


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")


def _integer_text(value: int) -> str:
    if abs(value) > LARGEST_INTEGER:
        raise CanonicalError("an integer is beyond 53 bits")
    return int.__repr__(value)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise CanonicalError("an object has one key twice")
    return members


def _integer(text: str) -> int:
    # "-" and 16 digits; refused before int() would work on a hostile million of them.
    if len(text) > 17:
        raise CanonicalError("an integer is beyond 53 bits")
    return int(text)


def _refuse_number(text: str) -> NoReturn:
    raise CanonicalError(f"`{text[:32]}` is not an integer")
