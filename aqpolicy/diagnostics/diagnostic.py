"""Spans of a source text and the diagnostics that point at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Source:
    """A text and the name that messages call it by."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of a source: character offsets [start, end), with the 1-based line and column of its start."""

    file: str
    start: int
    end: int
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Label:
    """A span with the words written beside it; the first label of a diagnostic is its primary one."""

    span: Span
    text: str = ""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem: what is wrong in a sentence, everywhere it comes from, and what to do.

    `witness` is a concrete observation that shows the problem, as readable
    attribute and value pairs; it replays in the evaluator.
    """

    code: str
    severity: Severity
    message: str
    labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    help: tuple[str, ...] = ()
    witness: Mapping[str, str] | None = field(default=None, hash=False)
