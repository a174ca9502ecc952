"""How the cost grows, along one axis at a time, on a transformer of width 128; and what decisions cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .cases import Case, tower
from .deciding import microseconds
from .modes import BY_KEY, gated_step, on, plain_step
from .results import Cell
from .timing import in_turn

MODES = ("open", "scale", "clip")
TOKENS, RULES = 4_096, 100

AXES: dict[str, tuple[str, Sequence[int], Callable[[int], Case]]] = {
    "batch": ("examples in the batch", (8, 16, 32, 64, 128, 256, 512), lambda n: tower(2, 32, n, 2)),
    "length": ("tokens of an example", (32, 64, 128, 256, 512), lambda n: tower(2, n, TOKENS // n, 2)),
    "depth": ("blocks", (2, 4, 8, 16, 24), lambda n: tower(n, 64, 16, n)),
    "groups": ("depth groups", (1, 2, 4, 8, 16, 32, 48), lambda n: tower(8, 64, 16, n)),
}
"""By name: what is counted, the places, and the model at each."""

DECIDING: dict[str, tuple[str, Sequence[int], Callable[[int, int], float]]] = {
    "rules": ("rules", (10, 100, 1_000, 10_000), lambda n, rounds: microseconds(n, 1, rounds)),
    "budgets": ("budgets", (0, 1, 2, 4, 8, 16), lambda n, rounds: microseconds(RULES, n, rounds)),
}
"""The same for decisions, measured in microseconds."""


def along(axis: str, rounds: int, device: str, *, quick: bool) -> Iterator[Cell]:
    """Measure an axis, place by place; only both ends of it where it is quick."""
    if axis in DECIDING:
        _, places, took = DECIDING[axis]
        for place in _some(places, quick=quick):
            yield Cell(axis, str(place), "decide", {"microseconds": took(place, 100 * rounds)})
        return
    _, places, at = AXES[axis]
    for place in _some(places, quick=quick):
        case = at(place)
        data = on(case.data(case.batch), device)
        steps = {key: gated_step(case, BY_KEY[key], case.model().to(device), data) for key in MODES}
        readings = in_turn(plain_step(case.model().to(device), data), steps, rounds, device)
        for step in steps.values():
            step.close()
        for mode, found in readings.items():
            values, error = ({}, found) if isinstance(found, str) else (found.values, "")
            yield Cell(axis, str(place), mode, values, device, error)


def _some(places: Sequence[int], *, quick: bool) -> Sequence[int]:
    return (places[0], places[-1]) if quick else places
