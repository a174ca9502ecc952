"""Draw a diagnostic the way rustc does: source lines, underlines, all places in one message.

It decides about layout and colour only. Text that comes from a policy is shown with
hidden characters replaced, so that a message cannot be made to lie to a terminal.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TextIO

from aqpolicy.diagnostics.diagnostic import Diagnostic, Label, Source

_STYLES: Final = MappingProxyType(
    {"error": "1;31", "warning": "1;33", "note": "1;36", "frame": "1;34", "second": "1;34", "help": "1;32", "bold": "1"}
)

_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)

_MAX_LINES: Final = 4
"""Lines drawn of one label; of a longer one the first lines are shown, and how many follow."""


def wants_color(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether a stream should get colour: a terminal, unless `NO_COLOR` is set (https://no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def render(diagnostic: Diagnostic, source: Source, *, color: bool = False) -> str:
    """Return a diagnostic as text for people, without a trailing newline.

    Args:
        diagnostic: What to say.
        source: The text that its labels point into; labels of other files are listed without their lines.
        color: Whether to use ANSI colours; `NO_COLOR` in the environment wins.
    """
    return _Drawing(source, color=color and not os.environ.get("NO_COLOR")).draw(diagnostic)


def render_all(diagnostics: Iterable[Diagnostic], source: Source, *, color: bool = False) -> str:
    """Return several diagnostics, a blank line between them."""
    drawing = _Drawing(source, color=color and not os.environ.get("NO_COLOR"))
    return "\n\n".join(drawing.draw(diagnostic) for diagnostic in diagnostics)


@dataclass(frozen=True, slots=True)
class _Mark:
    """One underline on one line; columns count from 0."""

    line: int
    start: int
    end: int
    text: str
    is_primary: bool


class _Drawing:
    """Draws over one source."""

    def __init__(self, source: Source, *, color: bool) -> None:
        self._source = source
        self._lines = source.text.split("\n")
        self._color = color

    def draw(self, diagnostic: Diagnostic) -> str:
        """Return the whole text."""
        severity = self._paint(diagnostic.severity, f"{diagnostic.severity}[{diagnostic.code}]")
        head = f"{severity}{self._paint('bold', f': {_visible(diagnostic.message)}')}"
        here = [label for label in diagnostic.labels if label.span.file == self._source.name]
        marks = [mark for n, label in enumerate(diagnostic.labels) for mark in self._marks(label, is_primary=n == 0)]
        gutter = len(str(max((mark.line for mark in marks), default=1)))
        body = self._places(here, marks, gutter, diagnostic.severity)
        away = (label for label in diagnostic.labels if label.span.file != self._source.name)
        elsewhere = [self._elsewhere(label, gutter) for label in away]
        return "\n".join([head, *body, *elsewhere, *self._remarks(diagnostic, gutter)])

    def _marks(self, label: Label, *, is_primary: bool) -> list[_Mark]:
        """Split a label into one mark for each line that it touches; its words stand at the last."""
        span = label.span
        if span.file != self._source.name or not 1 <= span.line <= len(self._lines):
            return []
        covered = self._source.text[span.start : span.end].rstrip().count("\n") + 1
        shown = min(covered, _MAX_LINES)
        words = label.text + (f" (and {covered - shown} more lines)" if covered > shown else "")
        marks = []
        for line in range(span.line, span.line + shown):
            text = self._lines[line - 1].rstrip()
            start = span.column - 1 if line == span.line else len(text) - len(text.lstrip())
            end = min(start + span.end - span.start, len(text)) if line == span.line else len(text)
            if line == span.line + covered - 1 and covered > 1:
                last_start = self._source.text.rfind("\n", 0, span.end) + 1
                end = min(len(text), max(span.end - last_start, start + 1))
            is_last = line == span.line + shown - 1
            marks.append(_Mark(line, start, max(end, start + 1), words if is_last else "", is_primary))
        return marks

    def _places(self, here: list[Label], marks: list[_Mark], gutter: int, severity: str) -> list[str]:
        """Draw the source lines from top to bottom, each once, with all its underlines."""
        if not here:
            return []
        first = here[0].span
        pad = " " * gutter
        arrow = f"{pad}{self._paint('frame', '-->')} {_visible(first.file)}:{first.line}:{first.column}"
        drawn = [arrow, self._frame(f"{pad} |")]
        previous: int | None = None
        by_line: dict[int, list[_Mark]] = {}
        for mark in marks:
            by_line.setdefault(mark.line, []).append(mark)
        for line in sorted(by_line):
            if previous is not None and line > previous + 1:
                drawn.append(self._frame("..."))
            text = _visible(self._lines[line - 1].rstrip()).replace("\t", " ")
            drawn.append(f"{self._frame(f'{line:>{gutter}} |')} {text}".rstrip())
            on_line = sorted(by_line[line], key=lambda mark: (mark.start, mark.end))
            drawn += [f"{self._frame(f'{pad} |')} {row}" for row in self._underlines(on_line, severity)]
            previous = line
        return drawn

    def _underlines(self, marks: list[_Mark], severity: str) -> list[str]:
        """Draw each underline in a row of its own with its words; equal places share one row."""
        rows = []
        for mark in marks:
            style = severity if mark.is_primary else "second"
            stroke = ("^" if mark.is_primary else "-") * (mark.end - mark.start)
            words = f"{stroke} {_visible(mark.text)}".rstrip()
            rows.append(" " * mark.start + self._paint(style, words))
        return rows

    def _elsewhere(self, label: Label, gutter: int) -> str:
        span = label.span
        place = f"{_visible(span.file)}:{span.line}:{span.column}"
        return f"{' ' * gutter}{self._paint('frame', ':::')} {place} {_visible(label.text)}".rstrip()

    def _remarks(self, diagnostic: Diagnostic, gutter: int) -> list[str]:
        pad = " " * gutter
        remarks: list[tuple[str, str, str]] = []
        if diagnostic.witness:
            remarks.append((diagnostic.severity, "witness", _witness(diagnostic.witness)))
        remarks += [("bold", "note", note) for note in diagnostic.notes]
        remarks += [("help", "help", advice) for advice in diagnostic.help]
        lines = [
            f"{pad} {self._frame('=')} {self._paint(style, kind)}: {_visible(text)}" for style, kind, text in remarks
        ]
        return [self._frame(f"{pad} |"), *lines] if lines and diagnostic.labels else lines

    def _frame(self, text: str) -> str:
        return self._paint("frame", text)

    def _paint(self, style: str, text: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._color else text


def _witness(witness: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in witness.items())


def _visible(text: str) -> str:
    """Return text with every character that a terminal would act on, or hide, replaced."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\n", " "))
