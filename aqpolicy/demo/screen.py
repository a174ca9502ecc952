"""What the demo says: the story on one stream, progress on the other.

On a terminal progress is a bar that redraws itself; elsewhere it is a plain line
when something starts and when it is done. It keeps the time of each chapter.
"""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Sequence
from typing import Final, TextIO

_WIDTH: Final = 88
_BAR: Final = 28


class Screen:
    """Two streams and a clock."""

    def __init__(self, story: TextIO | None = None, progress: TextIO | None = None) -> None:
        """Tell the story on `story` (standard output) and progress on `progress` (standard error)."""
        self._story, self._progress = story or sys.stdout, progress or sys.stderr
        self._live = self._progress.isatty()
        self._since = self._start = time.perf_counter()
        self._number = 0
        self.times: list[tuple[str, float]] = []
        self._title = ""

    def chapter(self, title: str) -> None:
        """Begin a chapter, and end the one before."""
        self._end()
        self._number += 1
        self._title = title
        self._write(f"\n{self._number}. {title}\n{'-' * (len(title) + 3)}")

    def close(self) -> float:
        """End the last chapter and return the seconds that the whole took."""
        self._end()
        return time.perf_counter() - self._start

    def say(self, text: str) -> None:
        """Say a paragraph; one that ends in a colon stands apart from what came before."""
        if text.endswith(":"):
            self._write("")
        self._write(textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False))

    def show(self, text: str) -> None:
        """Show lines as they are, indented."""
        self._write(textwrap.indent(text, "    "))

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Show rows in columns; the first row is the heading."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (
            "  ".join(cell.ljust(width) if not at else cell.rjust(width) for at, (cell, width) in enumerate(pairs))
            for pairs in (tuple(zip(row, widths, strict=True)) for row in rows)
        )
        self.show("\n".join(lines))

    def progress(self, done: int, total: int, what: str) -> None:
        """Say how far something is."""
        if self._live:
            filled = _BAR * done // max(total, 1)
            end = "\n" if done == total else ""
            line = f"\r\x1b[K[{'#' * filled}{'.' * (_BAR - filled)}] {done} of {total}  {what}"
            self._progress.write(line + end)
        elif done in {0, total}:
            self._progress.write(f"{what}: {done} of {total}\n")
        self._progress.flush()

    def _end(self) -> None:
        now = time.perf_counter()
        if self._title:
            self.times.append((self._title, now - self._since))
        self._since = now

    def _write(self, text: str) -> None:
        self._story.write(f"{text}\n")
        self._story.flush()
