"""What a run looks like while it goes on: a line that rewrites itself, and `RUN/live.json` for `aqpolicy watch`.

Nothing here decides, nothing here is evidence (the log is), and nothing here
fails the training: what cannot be written is said once and then left alone.
A step on which nothing is due costs one look at the clock.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO

from aqpolicy.bundle.tables import EFFECTS, Tables
from aqpolicy.gate.view.progress import ProgressLine
from aqpolicy.gate.view.snapshot import LimitLine, Snapshot, limits_of

FORMAT: Final = "aqpolicy live 1"
FILE: Final = "live.json"

BEAT: Final = 0.5
"""Seconds between two files, and between two lines on a terminal, at least."""

POINTS: Final = 240
"""Points of the history, at most; when it is full, every second one is dropped."""

_PACES: Final = 20
"""Beats over which the speed is taken."""


class Live:
    """Shows a run to the person who waits for it."""

    def __init__(
        self,
        run: Path | None,
        tables: Tables,
        progress: bool | TextIO = False,
        *,
        policy: str = "",
        opening: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show nothing yet.

        Args:
            run: The run's folder, which is there, or None to write no file.
            tables: The policy's tables, for the names and the limits.
            progress: Whether to print a line, or where to; by default nothing, with True to stderr.
            policy: What the policy is called.
            opening: What the line says before the first step.
            clock: Tells seconds.
        """
        self._run, self._tables, self._policy, self._clock = run, tables, policy, clock
        self._limits = limits_of(tables)
        stream = sys.stderr if progress is True else progress or None
        self._line = None if stream is None else ProgressLine(stream)
        if self._line is not None and opening:
            self._line.note(opening)
        self._history: list[list[float]] = []
        self._stride, self._next_point, self._next_beat, self._call = 1, 0, clock(), -1
        self._began = self._next_beat
        self._beats: deque[tuple[float, int]] = deque(maxlen=_PACES)
        self._idle = run is None and self._line is None
        self.problem = ""
        """Why the file could not be written, where it could not."""

    def update(self, make: Callable[[], Snapshot]) -> None:
        """Take note of a step; the first call may come before the first step or after it.

        Args:
            make: Returns how the run stands; called only when something is due.
        """
        if self._idle:
            return
        self._call += 1
        now = self._clock()
        if now < self._next_beat and self._call < self._next_point:
            return
        snapshot = make()
        if self._call >= self._next_point:
            self._remember(snapshot)
        if now >= self._next_beat:
            self._next_beat = now + BEAT
            self._beats.append((now, self._call))
            self._publish(snapshot, now)

    def end(self, make: Callable[[], Snapshot], halted: str = "") -> None:
        """Show how the run stands for the last time.

        Args:
            make: Returns how the run stands.
            halted: Why it cannot go on, where it cannot.
        """
        if self._idle:
            return
        now = self._clock()
        self._beats.append((now, max(self._call, 0)))
        self._publish(make(), now, f"halted: {halted}" if halted else "finished")
        self._idle = True
        if self._line is not None:
            self._line.close()

    def _remember(self, snapshot: Snapshot) -> None:
        """Add a point to the history; points are sums, so that dropping one loses detail and no amount."""
        if not self._history and any(snapshot.visits):
            before = max(snapshot.state.step - 1, 0)
            self._history.append([before, *(0.0 for _ in EFFECTS)])
        self._history.append(_point(snapshot))
        if len(self._history) > POINTS:
            self._history = self._history[::2]
            self._stride *= 2
        self._next_point = self._call + self._stride

    def _publish(self, snapshot: Snapshot, now: float, ended: str = "") -> None:
        if self._line is not None:
            self._line.show(snapshot, self._limits, self._rate(), now, ended)
        if self._run is None or self.problem:
            return
        try:
            text = json.dumps(self._document(snapshot, now, ended), separators=(",", ":"), allow_nan=False)
            _replace(self._run / FILE, text)
        except (OSError, ValueError) as error:
            self.problem = f"cannot write `{self._run / FILE}`: {getattr(error, 'strerror', None) or error}"
            say = ProgressLine(sys.stderr) if self._line is None else self._line
            say.note(f"aqpolicy: {self.problem}; the training goes on, `aqpolicy watch` stands still")

    def _rate(self) -> float | None:
        (first, before), (last, after) = self._beats[0], self._beats[-1]
        return (after - before) / (last - first) if last > first else None

    def _document(self, snapshot: Snapshot, now: float, ended: str) -> dict[str, object]:
        state, rate = snapshot.state, self._rate()
        return {
            "format": FORMAT,
            "policy": self._policy,
            "written": round(time.time(), 3),
            "elapsed": round(now - self._began, 3),
            "ended": ended,
            "step": state.step,
            "epoch": state.epoch,
            "phase": state.phase,
            "stage": state.stage,
            "today": state.today,
            "rate": None if rate is None else _short(rate),
            "visits": dict(zip(EFFECTS, snapshot.visits, strict=True)),
            "measure": "mass" if snapshot.mass else "visits",
            "history": [*self._history, _point(snapshot)],
            "groups": self._groups(snapshot),
            "budgets": [self._budget(line, snapshot) for line in self._limits],
            "waiting": snapshot.waiting,
            "oldest": [[wait.example, wait.reason, wait.step, wait.epoch] for wait in snapshot.oldest],
            "slow": list(snapshot.slow),
        }

    def _groups(self, snapshot: Snapshot) -> list[list[object]]:
        names, none = self._tables.groups, (0.0,) * len(self._tables.groups)
        columns = zip(names, snapshot.offered or none, snapshot.admitted or none, strict=True)
        return [[name, _short(admitted / offered) if offered else None] for name, offered, admitted in columns]

    def _budget(self, line: LimitLine, snapshot: Snapshot) -> list[object]:
        _, meter, window = line.key
        return [
            line.budget.name,
            meter,
            window,
            line.unit,
            snapshot.spent.get(line.key),
            line.limit,
            line.budget.on_exhaust,
        ]


def _point(snapshot: Snapshot) -> list[float]:
    """Return the step and the sums per effect."""
    return [snapshot.state.step, *(_short(value) for value in snapshot.mass or snapshot.visits)]


def _short(value: float) -> float:
    return float(f"{value:.9g}")


def _replace(path: Path, text: str) -> None:
    """Put a file in the place of the one that is there; it need not survive a power cut, the log does."""
    beside = path.with_name(f".aqpolicy-{path.name}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
