"""Draw a diagnostic the way rustc does: source lines, underlines, all places in one message.

It decides about layout and colour only; `words` says how text is made harmless.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TextIO

from aqpolicy.diagnostics.diagnostic import Diagnostic, Label
from aqpolicy.diagnostics.place import Sources, texts_of
from aqpolicy.diagnostics.words import remarks, visible

_STYLES: Final = MappingProxyType(
    {"error": "1;31", "warning": "1;33", "note": "1;36", "frame": "1;34", "second": "1;34", "help": "1;32", "bold": "1"}
)

_MAX_LINES: Final = 4
"""Lines drawn of one label; of a longer one the first lines are shown, and how many follow."""


def wants_color(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether a stream should get colour: a terminal, unless `NO_COLOR` is set (https://no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def render(diagnostic: Diagnostic, sources: Sources, *, color: bool = False) -> str:
    """Return a diagnostic as text for people, without a trailing newline.

    Args:
        diagnostic: What to say.
        sources: The texts that its labels point into; labels of other files are listed without their lines.
        color: Whether to use ANSI colours; `NO_COLOR` in the environment wins.
    """
    return render_all((diagnostic,), sources, color=color)


def render_all(diagnostics: Iterable[Diagnostic], sources: Sources, *, color: bool = False) -> str:
    """Return several diagnostics, a blank line between them."""
    drawing = _Drawing(texts_of(sources), color=color and not os.environ.get("NO_COLOR"))
    return "\n\n".join(drawing.draw(diagnostic) for diagnostic in diagnostics)


@dataclass(frozen=True, slots=True)
class _Mark:
    """One underline on one line; columns count from 0."""

    line: int
    start: int
    end: int
    text: str
    is_primary: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """The labels of one file; `marks` is empty where there is no line to draw."""

    labels: tuple[Label, ...]
    marks: tuple[_Mark, ...]


class _Drawing:
    """Draws over the texts of some files."""

    def __init__(self, texts: Mapping[str, str], *, color: bool) -> None:
        self._texts = texts
        self._lines = {name: text.split("\n") for name, text in texts.items()}
        self._color = color

    def draw(self, diagnostic: Diagnostic) -> str:
        """Return the whole text."""
        severity = self._paint(diagnostic.severity, f"{diagnostic.severity}[{diagnostic.code}]")
        head = f"{severity}{self._paint('bold', f': {visible(diagnostic.message)}')}"
        parts = self._parts(diagnostic)
        gutter = len(str(max((mark.line for part in parts for mark in part.marks), default=1)))
        body = [line for n, part in enumerate(parts) for line in self._part(n, part, gutter, diagnostic.severity)]
        return "\n".join([head, *body, *self._remarks(diagnostic, gutter)])

    def _parts(self, diagnostic: Diagnostic) -> list[_Part]:
        """Sort the labels by file; the file of the primary label comes first."""
        by_file: dict[str, list[Label]] = {}
        for label in diagnostic.labels:
            by_file.setdefault(label.span.file, []).append(label)
        primary = diagnostic.labels[0] if diagnostic.labels else None
        return [
            _Part(tuple(labels), tuple(mark for each in labels for mark in self._marks(each, each is primary)))
            for labels in by_file.values()
        ]

    def _marks(self, label: Label, is_primary: bool) -> list[_Mark]:
        """Split a label into one mark for each line that it touches; its words stand at the last."""
        span, text = label.span, self._texts.get(label.span.file, "")
        lines = self._lines.get(span.file, [])
        if not 1 <= span.line <= len(lines):
            return []
        covered = text[span.start : span.end].rstrip().count("\n") + 1
        shown = min(covered, _MAX_LINES)
        words = label.text + (f" (and {covered - shown} more lines)" if covered > shown else "")
        marks = []
        for number in range(span.line, span.line + shown):
            line = lines[number - 1].rstrip()
            start = span.column - 1 if number == span.line else len(line) - len(line.lstrip())
            end = min(start + span.end - span.start, len(line)) if number == span.line else len(line)
            if number == span.line + covered - 1 and covered > 1:
                last_start = text.rfind("\n", 0, span.end) + 1
                end = min(len(line), max(span.end - last_start, start + 1))
            is_last = number == span.line + shown - 1
            marks.append(_Mark(number, start, max(end, start + 1), words if is_last else "", is_primary))
        return marks

    def _part(self, number: int, part: _Part, gutter: int, severity: str) -> list[str]:
        """Draw what one file has to do with it; a file whose text is not at hand is only named."""
        pad = " " * gutter
        arrow = f"{pad}{self._paint('frame', ':::' if number else '-->')}"
        if part.labels[0].span.file not in self._texts:
            return [f"{arrow} {_where(label)} {visible(label.text)}".rstrip() for label in part.labels]
        bar = self._frame(f"{pad} |")
        opening = [bar] if number else []
        return [*opening, f"{arrow} {_where(part.labels[0])}", bar, *self._source_lines(part, gutter, severity)]

    def _source_lines(self, part: _Part, gutter: int, severity: str) -> list[str]:
        """Draw the source lines from top to bottom, each once, with all its underlines."""
        lines, bar = self._lines[part.labels[0].span.file], self._frame(f"{' ' * gutter} |")
        by_line: dict[int, list[_Mark]] = {}
        for mark in part.marks:
            by_line.setdefault(mark.line, []).append(mark)
        drawn: list[str] = []
        previous: int | None = None
        for line in sorted(by_line):
            if previous is not None and line > previous + 1:
                drawn.append(self._frame("..."))
            text = visible(lines[line - 1].rstrip()).replace("\t", " ")
            drawn.append(f"{self._frame(f'{line:>{gutter}} |')} {text}".rstrip())
            on_line = sorted(by_line[line], key=lambda mark: (mark.start, mark.end))
            drawn += [f"{bar} {row}" for row in self._underlines(on_line, severity)]
            previous = line
        return drawn

    def _underlines(self, marks: list[_Mark], severity: str) -> list[str]:
        """Draw each underline in a row of its own with its words."""
        rows = []
        for mark in marks:
            style = severity if mark.is_primary else "second"
            stroke = ("^" if mark.is_primary else "-") * (mark.end - mark.start)
            words = f"{stroke} {visible(mark.text)}".rstrip()
            rows.append(" " * mark.start + self._paint(style, words))
        return rows

    def _remarks(self, diagnostic: Diagnostic, gutter: int) -> list[str]:
        pad, styles = " " * gutter, {"witness": diagnostic.severity, "note": "bold", "help": "help"}
        lines = [
            f"{pad} {self._frame('=')} {self._paint(styles[kind], kind)}: {text}" for kind, text in remarks(diagnostic)
        ]
        return [self._frame(f"{pad} |"), *lines] if lines and diagnostic.labels else lines

    def _frame(self, text: str) -> str:
        return self._paint("frame", text)

    def _paint(self, style: str, text: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._color else text


def _where(label: Label) -> str:
    return f"{visible(label.span.file)}:{label.span.line}:{label.span.column}"
