"""The runs of one seal, searched where they lie: nothing is decoded but what an answer names.

The bytes are those whose digest the seal commits to. Whether they are sorted and
complete is for a verifier to see, who makes them again (`runs.rebuild`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage.runs import EXAMPLE_RUN, GROUP_RUN, ROUTE_RUN, STEP_RUN
from aqpolicy.lineage.runs_codec import BYTES, F32, U32, U64, Column, decode_run

_KINDS: Final = {
    STEP_RUN: (U64, U64, U32, U32, U32, U32, BYTES),
    EXAMPLE_RUN: (U32, U32, U32),
    ROUTE_RUN: (U32, U32, U32, U32),
    GROUP_RUN: (BYTES, U32, F32, U32),
}
_GROUND: Final = 64
"""Bytes of the digests of a bundle and a manifest."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Where the row of one visit is."""

    step: int
    attempt: int
    rank: int
    row: int
    """Number among the rows of its rank."""
    entry: int
    """Index of the step's entry in the log."""


@dataclass(frozen=True, slots=True)
class StepPlace:
    """A step of a segment."""

    step: int
    attempt: int
    entry: int
    """Index of the step's entry in the log."""
    bundle: bytes
    manifest_root: bytes
    places: range
    """Of its rows."""


class Segment:
    """The steps between two seals.

    `seal` is the index of the entry that commits to the runs, -1 for steps that no seal covers yet.
    """

    def __init__(self, seal: int, data: Callable[[str], bytes]) -> None:
        """Take over runs; `data` returns one by name, and is asked for what is searched only."""
        self.seal = seal
        self.data = data
        self._opened: dict[str, list[Column]] = {}
        self._entries, self._steps, self._attempts, self._grounds, self._parts, self._firsts, self._ground = self._run(
            STEP_RUN
        )
        numbers = {len(self._entries), len(self._steps), len(self._attempts), len(self._grounds), len(self._parts) - 1}
        if len(numbers) != 1 or not len(self._firsts) or self._parts[-1] != len(self._firsts) - 1:
            raise self._corrupt()

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self._entries)

    @property
    def blocks(self) -> int:
        """How many blocks the steps have."""
        return len(self._firsts) - 1

    @property
    def grounds(self) -> set[tuple[bytes, bytes]]:
        """The digests of bundle and manifest that steps stood on."""
        data = bytes(self._ground)
        return {(data[at : at + 32], data[at + 32 : at + _GROUND]) for at in range(0, len(data), _GROUND)}

    def _corrupt(self) -> CorruptLogError:
        return CorruptLogError("the runs of the index do not fit each other", f"entry {self.seal}")

    def _run(self, name: str) -> list[Column]:
        if name not in self._opened:
            columns = decode_run(name, _KINDS[name], self.data(name))
            if name == EXAMPLE_RUN and len(columns[0]) != len(columns[1]):
                raise self._corrupt()
            self._opened[name] = columns
        return self._opened[name]

    def at(self, position: int) -> StepPlace:
        """Return a step by its number in the segment."""
        if not 0 <= position < len(self):
            raise self._corrupt()
        ground = _GROUND * self._grounds[position]
        digests = bytes(self._ground[ground : ground + _GROUND])
        first, end = self._parts[position], self._parts[position + 1]
        if len(digests) != _GROUND or end >= len(self._firsts) or first > end:
            raise self._corrupt()
        places = range(self._firsts[first], self._firsts[end])
        place = (self._steps[position], self._attempts[position], self._entries[position])
        return StepPlace(*place, digests[:32], digests[32:], places)

    def steps(self) -> Iterator[StepPlace]:
        """Return all steps in the order of the log."""
        return map(self.at, range(len(self)))

    def of_number(self, step: int) -> Iterator[StepPlace]:
        """Return the steps with a number, one per attempt that came to it."""
        start = 0
        while start < len(self):  # in an attempt, steps are numbered in a row
            end = bisect_right(self._attempts, self._attempts[start], start)
            position = start + step - self._steps[start]
            if start <= position < end:
                yield self.at(position)
            start = max(end, start + 1)

    def position_of(self, place: int) -> int:
        """Return the number of the step that a row is in."""
        position = bisect_right(self._parts, self._part(place)) - 1
        if not 0 <= position < len(self):
            raise self._corrupt()
        return position

    def root_of(self, place: int) -> bytes:
        """Return the root of the manifest that was in force where a row is."""
        return self.at(self.position_of(place)).manifest_root

    def _part(self, place: int) -> int:
        part = bisect_right(self._firsts, place) - 1
        if not 0 <= part < len(self._firsts) - 1:
            raise self._corrupt()
        return part

    def visit(self, place: int) -> Visit:
        """Return where a row is.

        Raises:
            CorruptLogError: There is no such place.
        """
        part, position = self._part(place), self.position_of(place)
        where = (self._steps[position], self._attempts[position])
        return Visit(*where, part - self._parts[position], place - self._firsts[part], self._entries[position])

    def example(self, prefix: int) -> tuple[range, Column, bool]:
        """Return which records of run `example` begin so, the places of all, and whether several keys do."""
        prefixes, places, shared = self._run(EXAMPLE_RUN)
        found = range(bisect_left(prefixes, prefix), bisect_right(prefixes, prefix))
        at = bisect_left(shared, prefix)
        return found, places, at < len(shared) and shared[at] == prefix

    def route(self, route: int) -> list[tuple[StepPlace, int]]:
        """Return the steps in which a row of the mask table was used, and how often."""
        routes, firsts, positions, visits = self._run(ROUTE_RUN)
        at = bisect_left(routes, route)
        if at == len(routes) or routes[at] != route:
            return []
        if len(firsts) != len(routes) + 1 or not firsts[at] <= firsts[at + 1] <= min(len(positions), len(visits)):
            raise self._corrupt()
        return [(self.at(positions[number]), visits[number]) for number in range(firsts[at], firsts[at + 1])]

    def moved(self, group: int) -> list[StepPlace]:
        """Return the steps in which a depth group moved."""
        bits = self._run(GROUP_RUN)[0]
        width = (len(self) + 7) // 8
        own = bits[width * group : width * group + width]
        if len(own) != width:
            raise self._corrupt()
        return [self.at(number) for number in range(len(self)) if own[number // 8] >> number % 8 & 1]

    def largest(self, group: int) -> list[tuple[float, int]]:
        """Return mass and place of the visits with the largest mass in a depth group."""
        _, firsts, masses, places = self._run(GROUP_RUN)
        if not len(self):
            return []
        if group + 1 >= len(firsts) or not firsts[group] <= firsts[group + 1] <= min(len(masses), len(places)):
            raise self._corrupt()
        kept = slice(firsts[group], firsts[group + 1])
        return list(zip(masses[kept], places[kept], strict=True))
