"""Read `RUN/live.json`: how a run stands, as the training last wrote it.

The file is a convenience of the person who waits. It is not signed and proves
nothing, so it is believed only as far as drawing it is safe: every member has
the right type and a bounded size, no number is infinite, and no text can steer
a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from aqpolicy.bundle.tables import EFFECTS, EXHAUSTS, LARGEST_SHARE
from aqpolicy.errors import InputError
from aqpolicy.report.live_data import LiveBudget, LiveGroup, LiveRun, LiveWait, Point
from aqpolicy.units import DAY_ZERO, LAST_DAY, MICRO

FORMAT: Final = "aqpolicy live 1"
FILE: Final = "live.json"

LARGEST_FILE: Final = 1 << 20
_LARGEST_TEXT: Final = 300
_MOST_ITEMS: Final = 2000
_LARGEST_COUNT: Final = 2**63 - 1
_LARGEST_MASS: Final = 1e300
_LARGEST_TIME: Final = 1e12
_LARGEST_PART: Final = 1.01 * LARGEST_SHARE / MICRO

METERS: Final = ("surprisal", "movement", "drift")
WINDOWS: Final = ("step", "epoch", "phase", "run")
UNITS: Final = ("nat", "l2")

T = TypeVar("T")


def read_live(run: Path) -> LiveRun:
    """Return how a run stands.

    Trust:
        The file is untrusted.

    Raises:
        InputError: There is no such file, or it is not what the training writes.
    """
    path = run / FILE
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except FileNotFoundError as error:
        raise InputError(
            f"`{run}` has no {FILE}; a run writes it from its first step on, if it was given a folder"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read `{path}`: {getattr(error, 'strerror', None) or error}") from error
    try:
        return parse_live(data)
    except InputError as error:
        raise InputError(f"`{path}` is not what a run writes: {error}") from error


def parse_live(data: bytes) -> LiveRun:
    """Return what the bytes say.

    Trust:
        data is untrusted.

    Raises:
        InputError: The bytes are something else.
    """
    if len(data) > LARGEST_FILE:
        _refuse("it is too large")
    try:
        found = json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is no JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        _refuse(f'its "format" is not "{FORMAT}"')
    return _run(_Members(found))


class _Members:
    """The members of the object, each taken by name with its type."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def take(self, name: str, read: Callable[[Any], T]) -> T:
        """Return a member; the error names it."""
        if name not in self._found:
            _refuse(f'it has no "{name}"')
        try:
            return read(self._found[name])
        except InputError as error:
            raise InputError(f'"{name}" {error}') from error


def _run(m: _Members) -> LiveRun:
    return LiveRun(
        policy=m.take("policy", _text),
        written=m.take("written", _seconds),
        elapsed=m.take("elapsed", _seconds),
        ended=m.take("ended", _ended),
        step=m.take("step", _count),
        epoch=m.take("epoch", _count),
        phase=m.take("phase", _text),
        stage=m.take("stage", _text),
        today=m.take("today", _date),
        rate=m.take("rate", _optional(_amount)),
        visits=m.take("visits", _visits),
        by_mass=m.take("measure", _is_mass),
        history=m.take("history", _history),
        groups=m.take("groups", _several(_group)),
        budgets=m.take("budgets", _several(_budget)),
        waiting=m.take("waiting", _count),
        oldest=m.take("oldest", _several(_wait)),
        slow=m.take("slow", _several(_text)),
    )


def _refuse(why: str) -> NoReturn:
    raise InputError(why)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"`{name}` is no number")


def _text(value: object) -> str:
    if not isinstance(value, str):
        _refuse("is no text")
    shown = value if len(value) <= _LARGEST_TEXT else f"{value[:_LARGEST_TEXT]}..."
    return "".join(letter if letter.isprintable() else "?" for letter in shown)


def _number(value: object, largest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
        _refuse("is no amount")
    return float(value)


def _amount(value: object) -> float:
    return _number(value, _LARGEST_COUNT)


def _seconds(value: object) -> float:
    return _number(value, _LARGEST_TIME)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_COUNT:
        _refuse("is no count")
    return value


def _ended(value: object) -> str:
    said = _text(value)
    if said not in ("", "finished") and not said.startswith("halted: "):
        _refuse('is neither empty nor "finished" nor "halted: " and why')
    return said


def _date(value: object) -> date:
    return DAY_ZERO + timedelta(days=min(_count(value), LAST_DAY))


def _optional(read: Callable[[Any], T]) -> Callable[[Any], T | None]:
    return lambda value: None if value is None else read(value)


def _several(read: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    def take(value: object) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) > _MOST_ITEMS:
            _refuse("is no list, or too long")
        return tuple(read(part) for part in value)

    return take


def _parts(value: object, count: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != count:
        _refuse(f"has an item that is not {count} parts")
    return value


def _visits(value: object) -> tuple[int, ...]:
    if not isinstance(value, dict) or set(value) != set(EFFECTS):
        _refuse("does not name the four effects")
    return tuple(_count(value[effect]) for effect in EFFECTS)


def _is_mass(value: object) -> bool:
    if value not in ("mass", "visits"):
        _refuse('is neither "mass" nor "visits"')
    return value == "mass"


def _history(value: object) -> tuple[Point, ...]:
    points = _several(_point)(value)
    for before, after in pairwise(points):
        pairs = zip(before.amounts, after.amounts, strict=True)
        if after.step < before.step or any(later < earlier for earlier, later in pairs):
            _refuse("goes back")
    return points


def _point(value: object) -> Point:
    step, *amounts = _parts(value, 1 + len(EFFECTS))
    return Point(_count(step), tuple(_number(amount, _LARGEST_MASS) for amount in amounts))


def _group(value: object) -> LiveGroup:
    name, admitted = _parts(value, 2)
    return LiveGroup(_text(name), _optional(_part)(admitted))


def _part(value: object) -> float:
    return _number(value, _LARGEST_PART)


def _budget(value: object) -> LiveBudget:
    name, meter, window, unit, spent, limit, then = _parts(value, 7)
    for word, known in ((meter, METERS), (window, WINDOWS), (unit, UNITS), (then, EXHAUSTS)):
        if word not in known:
            _refuse(f"has an item with none of {', '.join(known)}")
    used = None if spent is None else _amount(spent) / MICRO
    return LiveBudget(_text(name), meter, window, unit, used, _amount(limit) / MICRO, then)


def _wait(value: object) -> LiveWait:
    example, why, step, epoch = _parts(value, 4)
    return LiveWait(_text(example), _text(why), _count(step), _count(epoch))
