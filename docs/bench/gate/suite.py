"""One run: what agrees with the truth is timed, what goes wrong is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .cases import Case
from .memory import peaks
from .modes import BY_KEY, CLIP, Step, on, plain_step
from .peers import LIMIT, PEERS
from .reference import Loop, errors
from .results import Cell
from .timing import Reading, first_line, in_turn
from .ways import make
from .whole import gated_whole, plain_whole

WHOLE = ("open", "scale", "clip", "sketch")
APART = ("plain", "open", "scale", "clip", "sketch", *(peer.key for peer in PEERS))
"""Whose memory is measured."""

FEW = ("open", "scale", "norms", "clip")
"""What is measured where the model is another's, only divided otherwise."""

EXAMPLES = 4
"""Of the small batch on which gradients are compared."""

WORST = 1e-4
"""Relative error from which on the gate is wrong and nothing is timed."""


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    rounds: int
    ways: Sequence[str]
    device: str
    threads: int
    quick: bool

    def rounds_of(self, case: Case) -> int:
        """Return how many rounds a model gets: a quarter where a step takes a second, but five."""
        if case.small or self.quick:
            return self.rounds
        return max(self.rounds // 4, min(self.rounds, 5))


class Notes:
    """What is found out about every way to make a step of one model."""

    def __init__(self, part: str, case: Case, ways: Sequence[str], device: str) -> None:
        self._part, self._case, self._device = part, case, device
        self._values: dict[str, dict[str, float]] = {way: {} for way in ways}
        self._wrong: dict[str, str] = {}

    @property
    def sound(self) -> list[str]:
        """The ways of which nothing went wrong so far."""
        return [way for way in self._values if way not in self._wrong]

    def take(self, way: str, found: Reading | dict[str, float] | str) -> None:
        """Write down numbers, or what went wrong."""
        if isinstance(found, str):
            self._wrong[way] = found
        else:
            self._values[way] |= found.values if isinstance(found, Reading) else found

    def time(self, plain: Step, steps: dict[str, Step], rounds: int) -> None:
        """Time the steps in turn, then let go of them."""
        for way, found in in_turn(plain, steps, rounds, self._device).items():
            self.take(way, found)
        for step in steps.values():
            step.close()

    def cells(self) -> Iterator[Cell]:
        """Return all of it."""
        for way, values in self._values.items():
            yield Cell(self._part, self._case.key, way, values, self._device, self._wrong.get(way, ""))


def core(case: Case, settings: Settings) -> Iterator[Cell]:
    """Measure forward, loss and backward in every way: exactness, then memory, then time.

    Raises:
        AssertionError: A gradient under the gate is wrong.
    """
    ways = [way for way in settings.ways if case.peers or way in FEW]
    notes = Notes("core", case, ("plain", *ways), settings.device)
    _compare(case, ways, settings, notes)
    if case.peers:
        sized = [way for way in notes.sound if way in APART]
        for way, peak in peaks(case, sized, settings.device, threads=settings.threads, quick=settings.quick):
            notes.take(way, peak if isinstance(peak, str) else {"first": peak[0], "megabytes": peak[1]})
    data, device = on(case.data(case.batch), settings.device), settings.device
    sound = [way for way in notes.sound if way != "plain"]
    steps = _made(notes, sound, lambda way: make(case, way, case.model().to(device), data))
    notes.time(plain_step(case.model().to(device), data), steps, settings.rounds_of(case))
    yield from notes.cells()


def whole(case: Case, settings: Settings) -> Iterator[Cell]:
    """Time the whole step with everything on."""
    data, device = on(case.data(case.batch), settings.device), settings.device
    ways = [way for way in WHOLE if way in settings.ways]
    notes = Notes("whole", case, ("plain", *ways), device)
    steps = _made(notes, ways, lambda way: gated_whole(case, BY_KEY[way], case.model().to(device), data))
    notes.time(plain_whole(case, case.model().to(device), data), steps, settings.rounds_of(case))
    yield from notes.cells()


def _compare(case: Case, ways: Sequence[str], settings: Settings, notes: Notes) -> None:
    """Write down how far every way is from the truth; a gate that is wrong ends the run."""
    data = case.data(EXAMPLES)
    loop = Loop(case, data)
    for way in ways:
        expected = loop.flat(LIMIT) if way == "opacus-ghost" else loop.truth(BY_KEY.get(way, CLIP))
        try:
            step = make(case, way, case.model().to(settings.device), on(data, settings.device))
            gradients, norms = errors(step, expected)
            step.close()
        except Exception as error:  # noqa: BLE001 - what goes wrong is the result
            notes.take(way, first_line(error))
            continue
        notes.take(way, {"gradients": gradients} | ({} if norms is None else {"norms": norms}))
        if way in BY_KEY:
            assert gradients < WORST, f"{case.key}, {way}: gradients are {gradients:.1e} from the truth"
            assert norms is None or norms < WORST, f"{case.key}, {way}: norms are {norms:.1e} from the truth"


def _made(notes: Notes, ways: Sequence[str], made: Callable[[str], Step]) -> dict[str, Step]:
    """Make the steps; what cannot be made is written down."""
    steps = {}
    for way in ways:
        try:
            steps[way] = made(way)
        except Exception as error:  # noqa: BLE001 - what goes wrong is the result
            notes.take(way, first_line(error))
    return steps
