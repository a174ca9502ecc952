"""Read JSON lines exactly: numbers as decimals, no key twice, no number that is none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import NoReturn

from aqpolicy.diagnostics import Source
from aqpolicy.trial.faults import Faults


def read_lines(source: Source, faults: Faults) -> Iterator[tuple[int, int, object]]:
    """Yield each line that is not empty: number, offset, and what it holds; faults are said, and passed over."""
    start = 0
    for number, line in enumerate(source.text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, start, exact_json(line)
            except (ValueError, ArithmeticError, RecursionError) as error:
                faults.within(f"{source.name}:{number}").add(f"not JSON: {_reason(error)}")
        start += len(line) + 1


def exact_json(text: str) -> object:
    """Return what JSON text holds, with all numbers as decimals.

    Raises:
        ValueError: It is not JSON, says a key twice, or holds a number that JSON does not have.
        ArithmeticError: A number is too large to be held.
        RecursionError: It is nested too deep.
    """
    return json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse, object_pairs_hook=_object)


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        again = next(name for position, name in enumerate(names) if name in names[:position])
        raise ValueError(f"`{again}` is given twice")
    return found


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.lower()} at column {error.colno}"
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)
