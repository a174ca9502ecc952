"""Collect everything that is wrong with a policy, and look names up while doing so.

Resolution never stops at the first problem: a lookup that fails says so here and
returns None, and whoever asked goes on without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Generic, TypeVar

from aqpolicy.diagnostics import Diagnostic, Label, Span, did_you_mean
from aqpolicy.syntax.mistakes import STATEMENTS
from aqpolicy.syntax.tree import Word

T = TypeVar("T")

RESERVED: Final = frozenset((*STATEMENTS, "all", "anything", "and", "or", "not"))
"""Words that no declaration may take as its name: a reader could not tell the two apart."""

_MOST_HINTS: Final = 100
"""Problems for which a hint is looked for; a file with more has another trouble than spelling."""


class Problems:
    """The diagnostics of one resolution."""

    def __init__(self) -> None:
        self._found: list[Diagnostic] = []

    def add(self, code: str, message: str, *labels: Label, notes: Iterable[str] = (), help: Iterable[str] = ()) -> None:  # noqa: A002 - the word that authors read
        """Record an error; the first label is where it is."""
        self.report(Diagnostic(code, "error", message, labels, tuple(notes), tuple(help)))

    def report(self, diagnostic: Diagnostic) -> None:
        """Record a diagnostic."""
        self._found.append(diagnostic)

    def hint(self, word: str, candidates: Sequence[str], what: str) -> tuple[str, ...]:
        """Return a help line for an unknown word: the one probably meant, or what there is to choose from."""
        if len(self._found) > _MOST_HINTS:
            return ()
        listing = f"{what}: {', '.join(f'`{name}`' for name in candidates)}"
        return did_you_mean(word, candidates) or ((listing,) if 0 < len(candidates) <= 12 else ())

    @property
    def found(self) -> tuple[Diagnostic, ...]:
        """All problems, in the order of the text."""
        return tuple(sorted(self._found, key=lambda problem: (problem.labels[0].span, problem.code)))


class Names(Generic[T]):
    """The declared names of one kind: attributes, groups, profiles, rules, ..."""

    def __init__(self, kind: str, problems: Problems) -> None:
        """Name the kind as messages call it."""
        self.kind = kind
        self.is_known = True
        """False where the declaration that holds the names is missing; lookups then fail silently."""
        self._problems = problems
        self._values: dict[str, tuple[Span, T]] = {}
        self._names: tuple[str, ...] = ()

    def declare(self, name: Word, value: T) -> None:
        """Enter a name; the first of two equal ones stays."""
        if name.text in RESERVED:
            message = f"`{name.text}` is a word of the language and cannot name {_article(self.kind)}"
            self._problems.add("AQ104", message, Label(name.span, "choose another name"))
        if name.text in self._values:
            first, _ = self._values[name.text]
            message = f"{self.kind} `{name.text}` is declared twice"
            self._problems.add(
                "AQ202", message, Label(name.span, "declared again"), Label(first, "first declared here")
            )
        else:
            self._values[name.text] = (name.span, value)

    def look_up(self, name: Word) -> T | None:
        """Return what a name stands for; report an unknown name, and return None."""
        if name.text in self._values:
            return self._values[name.text][1]
        if self.is_known:
            message = f"unknown {self.kind} `{name.text}`"
            hint = self._problems.hint(name.text, self.names(), "declared")
            self._problems.add("AQ201", message, Label(name.span, "not declared"), help=hint)
        return None

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def span(self, name: str) -> Span:
        """Return where a name was declared."""
        return self._values[name][0]

    def values(self) -> tuple[T, ...]:
        """Return all values, as declared."""
        return tuple(value for _, value in self._values.values())

    def names(self) -> tuple[str, ...]:
        """Return all names, as declared."""
        if len(self._names) != len(self._values):
            self._names = tuple(self._values)
        return self._names


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
