"""Find the comments of a policy text, and the line that each speaks for.

It reads no grammar: a comment starts at a `#` outside a text in quotes and ends with
its line, as a text in quotes does too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aqpolicy.diagnostics import Source, Span

_QUOTED_OR_COMMENT: Final = re.compile(r'"[^"\n]*"?|#[^\n]*')


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment; `text` starts with its `#`."""

    text: str
    span: Span
    target: int
    """The line it speaks for: its own, or, where it stands alone, the next that holds more than comments."""


def comments(source: Source) -> Iterator[Comment]:
    """Yield the comments of a text, from first to last."""
    lines = source.text.split("\n")
    starts = [_comment_start(line) for line in lines]
    targets = _targets([line[:start].strip() != "" for line, start in zip(lines, starts, strict=True)])
    offset = 0
    for number, (line, start) in enumerate(zip(lines, starts, strict=True), start=1):
        if start < len(line):
            text = line[start:].rstrip()
            span = Span(source.name, offset + start, offset + start + len(text), number, start + 1)
            yield Comment(text, span, targets[number - 1])
        offset += len(line) + 1


def _comment_start(line: str) -> int:
    """Return the index of a line's comment, or the line's length if it has none."""
    found = (match.start() for match in _QUOTED_OR_COMMENT.finditer(line) if match[0].startswith("#"))
    return next(found, len(line))


def _targets(holds_words: list[bool]) -> list[int]:
    """Return for each line the first from it on that holds more than a comment; behind the last, none does (0)."""
    targets, target = [0] * len(holds_words), 0
    for index in range(len(holds_words) - 1, -1, -1):
        target = index + 1 if holds_words[index] else target
        targets[index] = target
    return targets
