"""Time steps in turn, so that what the machine does to one of them it does to its neighbours."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .modes import Step

EVERY = 4
"""Steps between two of plain training; each is divided by the mean of the two around it."""

LEAST = 0.04
"""Seconds that a turn takes at least: short steps are repeated."""

MOST = 20.0
"""Seconds that all turns of one step may take together: very long steps sit out, after two rounds."""


@dataclass(frozen=True)
class Reading:
    """Medians over rounds: ratios to plain training, and their quartiles by CPU time."""

    milliseconds: float
    cpu: float
    wall: float
    low: float
    high: float

    @property
    def values(self) -> dict[str, float]:
        """Numbers by name."""
        return {name: getattr(self, name) for name in ("milliseconds", "cpu", "wall", "low", "high")}


Timed = tuple[float, float]
"""Seconds of CPU and of wall clock."""


def in_turn(plain: Step, others: Mapping[str, Step], rounds: int, device: str) -> dict[str, Reading | str]:
    """Return what every step takes, `plain` among them, or what went wrong in one of them."""
    turns = {"plain": Turns(plain, device)}
    failed: dict[str, Reading | str] = {}
    for name, step in others.items():
        try:
            turns[name] = Turns(step, device)
        except Exception as error:  # noqa: BLE001 - what goes wrong is the result
            failed[name] = first_line(error)
    ratios: dict[str, list[tuple[float, float, float]]] = {name: [] for name in turns}
    names = [name for name in turns if name != "plain"]
    for number in range(rounds):
        due = [name for name in names if number < turns[name].most]
        before = turns["plain"].take()
        for at in range(0, max(len(due), 1), EVERY):
            taken = {name: turns[name].take() for name in due[at : at + EVERY]}
            after = turns["plain"].take()
            beside = tuple((one + two) / 2 for one, two in zip(before, after, strict=True))
            for name, (cpu, wall) in {"plain": after, **taken}.items():
                ratios[name].append((cpu / beside[0], wall / beside[1], 1e3 * wall))
            before = after
    return failed | {name: _reading(name, values) for name, values in ratios.items()}


def _reading(name: str, values: list[tuple[float, float, float]]) -> Reading:
    cpu = [one for one, _, _ in values]
    low, _, high = statistics.quantiles(cpu, n=4, method="inclusive") if len(cpu) > 1 else cpu * 3
    milliseconds = statistics.median(taken for _, _, taken in values)
    if name == "plain":
        return Reading(milliseconds, 1.0, 1.0, low, high)
    return Reading(milliseconds, statistics.median(cpu), statistics.median(wall for _, wall, _ in values), low, high)


class Turns:
    """A step that is warm, made as often as makes a turn long enough."""

    def __init__(self, step: Step, device: str) -> None:
        self._step, self._device = step, device
        _, took = timed(step, device)
        if took < 1:  # the first one is no measure of the others
            _, took = timed(step, device)
        self._repeats = max(1, round(LEAST / took))
        self.most = max(2, round(MOST / (took * self._repeats)))
        """How many turns there is time for."""

    def take(self) -> Timed:
        """Return the mean time of the steps of a turn."""
        every = [timed(self._step, self._device) for _ in range(self._repeats)]
        cpu, wall = (sum(times) / self._repeats for times in zip(*every, strict=True))
        return cpu, wall


def first_line(error: Exception) -> str:
    """Return what went wrong, in one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def timed(step: Step, device: str) -> Timed:
    """Make a step, all of its work done, and return what it took; the gradients are dropped outside the clock."""
    settle(device)
    cpu, wall = time.process_time(), time.perf_counter()
    step.run()
    settle(device)
    taken = time.process_time() - cpu, time.perf_counter() - wall
    step.drop()
    return taken


def settle(device: str) -> None:
    """Wait until the device has done what it was asked."""
    if device == "cuda":
        torch.cuda.synchronize()
