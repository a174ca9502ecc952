"""Where a finding stands, as other tools count: lines and columns from 1, the end not included.

Columns count characters (Unicode code points), as spans do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aqpolicy.diagnostics.diagnostic import Diagnostic, Source, Span


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of a file; `end_column` is the first column behind it."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int


Sources = Source | Mapping[str, Source] | Iterable[Source]
"""The texts that findings point into: one, several by their names, or several."""


def texts_of(sources: Sources) -> dict[str, str]:
    """Return the texts of sources by their names."""
    if isinstance(sources, Source):
        return {sources.name: sources.text}
    given = sources.values() if isinstance(sources, Mapping) else sources
    return {source.name: source.text for source in given}


def place_of(span: Span, texts: Mapping[str, str]) -> Place:
    """Return the place of a span; in a file that is not among `texts`, it is taken to end on its line."""
    covered = texts.get(span.file, "")[span.start : span.end]
    lines = covered.count("\n")
    if lines:
        return Place(span.file, span.line, span.column, span.line + lines, len(covered) - covered.rfind("\n"))
    return Place(span.file, span.line, span.column, span.line, span.column + span.end - span.start)


def primary_place(diagnostic: Diagnostic, texts: Mapping[str, str]) -> Place | None:
    """Return where a diagnostic is, None if it says no place."""
    return place_of(diagnostic.labels[0].span, texts) if diagnostic.labels else None
