"""What is wrong with an input, all of it: each fault with the path to where it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aqpolicy.diagnostics import did_you_mean
from aqpolicy.errors import InputError


@dataclass(slots=True)
class Faults:
    """Faults found so far; `within` makes paths longer."""

    path: str = ""
    found: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        """Record a fault here."""
        self.found.append(f"{self.path}: {problem}" if self.path else problem)

    def within(self, name: str, joint: str = ".") -> Faults:
        """Return a view on a part of the input, which adds to the same faults."""
        return Faults(f"{self.path}{joint if self.path else ''}{name}", self.found)

    def check_keys(self, given: Mapping[str, object], known: Iterable[str]) -> None:
        """Record every key that is not known."""
        names = tuple(known)
        for key in given:
            if key not in names:
                self.add(f"unknown key `{key}`; {choices(key, names)}")

    def stop(self) -> None:
        """Stop if there are faults.

        Raises:
            InputError: With all of them, a line each.
        """
        if self.found:
            raise InputError("\n  ".join([f"{len(self.found)} faults:", *self.found] if self.found[1:] else self.found))


def choices(word: str, names: Iterable[str]) -> str:
    """Return what an unknown word may have meant, or what there is to choose from."""
    known = tuple(names)
    listed = f"known are {', '.join(f'`{name}`' for name in known)}" if known else "there are none"
    return next(iter(did_you_mean(word, known)), listed)
