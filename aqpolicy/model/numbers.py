"""Read decimals exactly: text to integer millionths, never through a float."""

from __future__ import annotations

from datetime import date
from typing import Final

from aqpolicy.diagnostics import Label
from aqpolicy.model.problems import Problems
from aqpolicy.syntax.tree import Day, Number
from aqpolicy.units import DAY_ZERO, MICRO, micro_text

LARGEST: Final = 2**53 - 1
"""Millionths in the largest number: what canonical JSON carries exactly."""


def to_micro(number: Number, problems: Problems) -> int | None:
    """Return a number in millionths; report one that has no exact place there, and return None."""
    sign, digits = (-1, number.text[1:]) if number.text.startswith("-") else (1, number.text)
    whole, _, part = digits.partition(".")
    if len(part.rstrip("0")) > 6:
        message = f"`{_shown(number.text)}` has more than six decimals"
        problems.add("AQ206", message, Label(number.span, "not a whole number of millionths"))
        return None
    if len(whole.lstrip("0")) > 10 or (value := int(whole) * MICRO + int(part[:6].ljust(6, "0"))) > LARGEST:
        message = f"`{_shown(number.text)}` is larger than any number of a policy"
        problems.add("AQ206", message, Label(number.span, f"the largest is {micro_text(LARGEST)}"))
        return None
    return sign * value


AMPLIFY_MOST: Final = 100 * MICRO
"""The largest share that `amplify` can give."""


def to_days(day: Day, problems: Problems) -> int | None:
    """Return a date as days since 1970, in millionths; report one that the calendar lacks, and return None."""
    try:
        days = (date.fromisoformat(day.text) - DAY_ZERO).days
    except ValueError:
        days = -1
    if days >= 0:
        return days * MICRO
    message = f"`{day.text}` is no date from {DAY_ZERO.isoformat()} on"
    problems.add("AQ204", message, Label(day.span, "not in the calendar"), help=("write year-month-day",))
    return None


def to_amplified(number: Number, problems: Problems) -> int | None:
    """Return a share above 1 in millionths; report any other, and return None."""
    value = to_micro(number, problems)
    if value is None or MICRO < value <= AMPLIFY_MOST:
        return value
    label = Label(number.span, f"`amplify` takes a share above 1, at most {micro_text(AMPLIFY_MOST)}")
    problems.add("AQ205", f"share `{number.text}` amplifies nothing, or too much", label)
    return None


def to_share(number: Number, problems: Problems) -> int | None:
    """Return a share in millionths; report one outside 0..1, and return None."""
    value = to_micro(number, problems)
    if value is None or 0 <= value <= MICRO:
        return value
    label = Label(number.span, "a share is between 0 and 1")
    advice = ("to give more than the whole gradient, say so: `amplify GROUP SHARE`",) if value > MICRO else ()
    problems.add("AQ205", f"share `{number.text}` is not between 0 and 1", label, help=advice)
    return None


def to_share_limit(number: Number, problems: Problems) -> int | None:
    """Return a share as a limit; report 0 too, since `deny` is the one way to say that."""
    value = to_share(number, problems)
    if value == 0:
        label = Label(number.span, "leaves nothing")
        problems.add("AQ205", "a limit of share 0 is a denial", label, help=("write `deny` and the groups",))
    return value or None


def to_positive(number: Number, what: str, problems: Problems) -> int | None:
    """Return a number in millionths that is at least 0; report a negative one, and return None."""
    value = to_micro(number, problems)
    if value is None or value >= 0:
        return value
    problems.add("AQ204", f"{what} `{number.text}` is below 0", Label(number.span, "must be at least 0"))
    return None


def to_count(number: Number, what: str, problems: Problems) -> int | None:
    """Return a plain whole number that is at least 1; report anything else, and return None."""
    value = to_micro(number, problems)
    if value is None or (value >= MICRO and value % MICRO == 0):
        return None if value is None else value // MICRO
    label = Label(number.span, "must be a whole number, at least 1")
    problems.add("AQ204", f"{what} `{number.text}` is not a whole number from 1 on", label)
    return None


def _shown(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."
