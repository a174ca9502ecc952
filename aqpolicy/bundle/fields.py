"""Read the parts of parsed JSON, each checked for type and range, or refuse the bundle.

It knows no table; `form` and `codec` say which members there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn, TypeVar

from aqpolicy.errors import MalformedBundleError

LARGEST_TEXT: Final = 4096

T = TypeVar("T")
Choice = TypeVar("Choice", bound=str)


def refuse(problem: str) -> NoReturn:
    """Raise what is wrong with a bundle."""
    raise MalformedBundleError(f"this is no bundle that this version reads: {problem}")


def an_object(value: object) -> Mapping[str, object]:
    """Return an object with any members."""
    if not isinstance(value, dict):
        refuse("an object is expected")
    return value


def members(value: object, names: str, what: str) -> Mapping[str, object]:
    """Return an object that has exactly the members named, in alphabetical order."""
    found = an_object(value)
    if sorted(found) != names.split():
        refuse(f"{what} has not exactly the members {names}")
    return found


def items(value: object, item: Callable[[object], T], length: int | None = None) -> tuple[T, ...]:
    """Return a list whose every element `item` reads; with `length`, it has so many."""
    if not isinstance(value, list) or length not in (None, len(value)):
        refuse("a list is expected" if length is None else f"a list of {length} is expected")
    return tuple(item(element) for element in value)


def a_text(value: object) -> str:
    """Return a text of moderate length."""
    if not isinstance(value, str) or len(value) > LARGEST_TEXT:
        refuse("a text is expected, of moderate length")
    return value


def texts_by_name(value: object) -> dict[str, str]:
    """Return an object of texts."""
    return {a_text(name): a_text(text) for name, text in an_object(value).items()}


def integer(value: object, low: int | None = None, high: int | None = None) -> int:
    """Return an integer, not below `low` and not above `high`."""
    if not isinstance(value, int) or isinstance(value, bool):
        refuse("an integer is expected")
    if (low is not None and value < low) or (high is not None and value > high):
        refuse(f"the number {value} is out of range")
    return value


def choice(value: object, choices: Sequence[Choice]) -> Choice:
    """Return one of some words."""
    found = next((one for one in choices if value == one), None)
    if found is None:
        refuse(f"one of {', '.join(choices)} is expected")
    return found


def unique(names: Sequence[str], what: str) -> tuple[str, ...]:
    """Return names of which none is there twice."""
    if len(set(names)) != len(names):
        refuse(f"{what} is named twice")
    return tuple(names)
