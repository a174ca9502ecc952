"""The line that tells how training goes; it rewrites itself on a terminal and comes now and then elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Final, TextIO

from aqpolicy.bundle.tables import EFFECTS
from aqpolicy.gate.view.snapshot import LimitLine, Snapshot
from aqpolicy.units import MICRO

QUIET: Final = 10.0
"""Seconds between two lines where they cannot be rewritten."""

WORDS: Final = dict(zip(EFFECTS, ("denied", "deferred", "modulated", "admitted"), strict=True))
"""What became of visits, by effect."""

_TIGHTEST: Final = 2
"""How many budgets a line names."""


class ProgressLine:
    """Writes to one stream, and never again once that has failed."""

    def __init__(self, stream: TextIO) -> None:
        """Find out what the stream can do."""
        self._stream = stream
        self._rewrites = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._next = float("-inf")
        self._broken = self._standing = False

    def show(
        self, snapshot: Snapshot, limits: Sequence[LimitLine], rate: float | None, now: float, ended: str = ""
    ) -> None:
        """Write the line, if it is due; the last one always is."""
        if not self._rewrites and now < self._next and not ended:
            return
        self._next = now + QUIET
        parts = [ended] if ended else []
        parts += progress_parts(snapshot, limits, rate)
        if self._rewrites:
            self._write(f"\r{fitted(parts, shutil.get_terminal_size().columns - 1)}\x1b[K")
            self._standing = True
        else:
            self._write(" | ".join(parts) + "\n")

    def note(self, text: str) -> None:
        """Write a line that stays."""
        self._write(f"\r\x1b[K{text}\n" if self._standing else f"{text}\n")
        self._standing = False

    def close(self) -> None:
        """Leave the last line where it stands."""
        if self._standing:
            self._write("\n")
        self._standing = False

    def _write(self, text: str) -> None:
        if self._broken:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads it any more, or it was closed
            self._broken = True


def progress_parts(snapshot: Snapshot, limits: Sequence[LimitLine], rate: float | None) -> list[str]:
    """Return what a line says, the most telling first."""
    state = snapshot.state
    words = [f"step {state.step} epoch {state.epoch}", state.phase, state.stage]
    parts = [" ".join(filter(None, words))]
    if rate is not None:
        parts.append(f"{rate:.3g} steps/s")
    parts.append(_effects(snapshot))
    parts += _tightest(snapshot, limits)
    if snapshot.waiting:
        parts.append(f"{snapshot.waiting} waiting")
    return [part for part in parts if part]


def fitted(parts: Sequence[str], columns: int) -> str:
    """Return as many parts as fit; of the first one, as much as fits."""
    line = parts[0][:columns]
    for part in parts[1:]:
        if len(line) + len(part) + 3 > columns:
            break
        line += f" | {part}"
    return line


def _effects(snapshot: Snapshot) -> str:
    amounts = snapshot.mass or snapshot.visits
    whole = sum(amounts)
    if not whole:
        return ""
    named = reversed(list(zip(EFFECTS, amounts, strict=True)))
    shown = (f"{WORDS[effect]} {amount / whole:.0%}" for effect, amount in named if amount)
    return f"{'mass' if snapshot.mass else 'visits'} " + " ".join(shown)


def _tightest(snapshot: Snapshot, limits: Sequence[LimitLine]) -> Iterator[str]:
    """Yield what is left of the limits of which the largest part is spent."""
    spent = [(snapshot.spent[line.key], line) for line in limits if snapshot.spent.get(line.key)]
    spent.sort(key=lambda pair: pair[0] / pair[1].limit if pair[1].limit else 1.0, reverse=True)
    for amount, line in spent[:_TIGHTEST]:
        left = max(line.limit - amount, 0) / MICRO
        yield f"{line.budget.name} {left:.3g} {line.unit} left per {line.key[2]}"
