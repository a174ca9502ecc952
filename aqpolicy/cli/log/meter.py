"""Show how far something long has come: in place on a terminal, as plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, Self, TextIO

REDRAW_S: Final = 0.1
LINE_S: Final = 10.0
"""Seconds between two lines where there is no terminal; what is over sooner says nothing there."""


class Meter:
    """Called with the steps done and the steps there are."""

    def __init__(self, what: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock; `what` is the word before the numbers."""
        self._what, self._stream, self._clock = what, stream or sys.stderr, clock
        self._terminal = self._stream.isatty()
        self._began = self._shown = clock()
        self._first: int | None = None
        self._open = False

    def __call__(self, done: int, total: int) -> None:
        """Take note, and show it where it is time."""
        now = self._clock()
        if self._first is None:  # what an earlier run had done tells nothing of this one's pace
            self._first = min(done, total)
        if now - self._shown < (REDRAW_S if self._terminal else LINE_S) and not (self._open and done == total):
            return
        self._shown, self._open = now, self._terminal
        line = f"{self._what} step {done} of {total}{self._pace(done, total, now - self._began)}"
        print(f"\r{line}\x1b[K" if self._terminal else line, end="" if self._terminal else "\n", file=self._stream)
        self._stream.flush()

    def _pace(self, done: int, total: int, seconds: float) -> str:
        new = done - (self._first or 0)
        if new <= 0 or seconds <= 0:
            return ""
        rate = new / seconds
        return f", {rate:.{0 if rate >= 10 else 1}f} steps/s, {_duration((total - done) / rate)} left"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the line that stands on a terminal."""
        if self._open:
            print(file=self._stream, flush=True)
            self._open = False


def _duration(seconds: float) -> str:
    """Return a time as people say it, in two units at most."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"
