"""Ask the index of a log: example, annotator session, route or depth group to steps, and step to rows.

Steps that a later attempt took again are left out, unless they are asked for. A record
of run `example` holds a part of the key; the rest is read from the row itself, once
per seal.

Trust: the runs have the digests that the seals name, and all together name every block
of the log. That seals are signed and runs complete is what `verify_log` shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import chain

from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage.entry import STEP, StepEntry, decode_entry, decode_step
from aqpolicy.lineage.leaf import KEY
from aqpolicy.lineage.reader import LineageReader
from aqpolicy.lineage.runs import EXAMPLE_RUN, RunBuilder, heads_of, prefix_of
from aqpolicy.lineage.seal import MakeBuilder
from aqpolicy.lineage.segment import Segment, StepPlace, Visit
from aqpolicy.lineage.segments import Segments
from aqpolicy.lineage.tops import KEPT, Tops
from aqpolicy.trust import digest_text, sha256


@dataclass(frozen=True, slots=True)
class StepVisits:
    """A step, and how many visits it had of what was asked for."""

    step: int
    attempt: int
    entry: int
    visits: int


@dataclass(frozen=True, slots=True)
class TopVisit:
    """A visit, and its mass in a depth group (`tops` says what that is)."""

    mass: float
    visit: Visit


@dataclass(frozen=True, slots=True)
class Evidence:
    """What shows that nothing was left out of an answer: in this run, the records that match are these and no others.

    Where none match, the records beside the gap are `start - 1` and `start`.
    """

    seal: int
    """Index of the entry that commits to the run; -1 for steps that no seal covers yet."""
    run: str
    digest: str
    start: int
    end: int


class Index:
    """The index of an open log. It keeps what it has opened, for the next question."""

    def __init__(self, log: LineageReader, make: MakeBuilder = RunBuilder) -> None:
        """Look at no run before it is needed.

        Args:
            log: The log.
            make: What makes the index of steps that no seal covers yet; `scribe.index` has a faster one.
        """
        self._log, self._segments = log, Segments(log, make)

    @property
    def grounds(self) -> set[tuple[bytes, bytes]]:
        """The digests of bundle and manifest that steps stood on, superseded ones included."""
        return set().union(*(segment.grounds for segment in self._segments.all))

    def _wanted(self, found: Visit | StepPlace, superseded: bool) -> bool:
        return superseded or self._segments.counts(found.step, found.attempt)

    def visits_of_example(self, key: bytes, *, root: bytes | None = None, superseded: bool = False) -> list[Visit]:
        """Return all visits of an example, in the order of the log.

        Args:
            key: Its key (`trust.example_key`).
            root: Of the manifest in force, where a run had several one after the other and only this one counts.
            superseded: Also those of steps that a later attempt took again.
        """
        visits: list[Visit] = []
        for segment in self._segments.all:
            found, places, several = segment.example(prefix_of(key))
            own = self._of_key(segment, [places[number] for number in found], key, several)
            visits += [segment.visit(place) for place in own if root in (None, segment.root_of(place))]
        return [visit for visit in visits if self._wanted(visit, superseded)]

    def _of_key(self, segment: Segment, places: Sequence[int], key: bytes, several: bool) -> Sequence[int]:
        """Return the places whose key is this one; where the run says that all have one key, one is read."""
        if several:
            return [place for place in places if self._has(segment.visit(place), key)]
        return places if places and self._has(segment.visit(places[0]), key) else []

    def _has(self, visit: Visit, key: bytes) -> bool:
        """Return whether a row is of an example.

        Where the row says so, that is quick. Where it does not, it may be damaged: it is compared with its entry.
        """
        found = self._log.key_of_row(visit.attempt, visit.step, visit.rank, visit.row)
        return found == key or self.key(visit) == key

    def key(self, visit: Visit) -> bytes:
        """Return the example key of a visit, read from its row."""
        return self.leaf(visit)[KEY]

    def leaf(self, visit: Visit) -> bytes:
        """Return the row of a visit, compared with its entry.

        Raises:
            CorruptLogError: The log does not have it.
        """
        return self._log.rank_leaves(self._entry(visit), visit.rank)[visit.row]

    def _entry(self, visit: Visit) -> StepEntry:
        kind, payload = decode_entry(self._log.entry(visit.entry))
        entry = decode_step(payload) if kind == STEP else None
        if entry is None or visit.rank >= len(entry.ranks) or visit.row >= entry.ranks[visit.rank].rows:
            raise CorruptLogError("the index names a row that the log does not have", f"entry {visit.entry}")
        return entry

    def steps_of_examples(
        self, keys: Iterable[bytes], *, root: bytes | None = None, superseded: bool = False
    ) -> list[StepVisits]:
        """Return the steps in which any of these examples was visited, in the order of the log; as `visits_of_example`.

        So the labels of a session or an annotator lead to steps: a manifest has every example once.
        """
        visits = (visit for key in keys for visit in self.visits_of_example(key, root=root, superseded=superseded))
        counted = Counter((visit.entry, visit.step, visit.attempt) for visit in visits)
        return [StepVisits(step, attempt, entry, count) for (entry, step, attempt), count in sorted(counted.items())]

    def steps_of_route(self, route: int, *, bundle: bytes | None = None, superseded: bool = False) -> list[StepVisits]:
        """Return the steps in which examples took a row of the mask table.

        Args:
            route: Number of the row.
            bundle: Digest of the bundle whose table it is, where a run had several one after the other.
            superseded: Also steps that a later attempt took again.
        """
        found = chain.from_iterable(segment.route(route) for segment in self._segments.all)
        return [
            StepVisits(place.step, place.attempt, place.entry, visits)
            for place, visits in found
            if bundle in (None, place.bundle) and self._wanted(place, superseded)
        ]

    def steps_of_group(self, group: int, *, superseded: bool = False) -> list[StepPlace]:
        """Return the steps in which a depth group moved."""
        found = chain.from_iterable(segment.moved(self._group(group)) for segment in self._segments.all)
        return [place for place in found if self._wanted(place, superseded)]

    def visits_of_step(self, step: int, *, superseded: bool = False) -> list[Visit]:
        """Return the rows of a step, in the order of its blocks."""
        return [
            segment.visit(place)
            for segment in self._segments.all
            for found in segment.of_number(step)
            if self._wanted(found, superseded)
            for place in found.places
        ]

    def top(self, group: int, count: int, *, superseded: bool = False) -> list[TopVisit]:
        """Return the visits with the largest mass in a depth group, the largest first, of equal ones the earliest.

        More than `tops.KEPT`, or fewer where steps were superseded, are looked for in the blocks: that reads them all.
        """
        found = chain.from_iterable(self._top_of(segment, group, count, superseded) for segment in self._segments.all)
        best = nsmallest(count, ((-mass, number, visit) for number, (mass, visit) in enumerate(found)))
        return [TopVisit(-mass, visit) for mass, _, visit in best]

    def _top_of(self, segment: Segment, group: int, count: int, superseded: bool) -> Iterator[tuple[float, Visit]]:
        kept = [(mass, segment.visit(place)) for mass, place in segment.largest(self._group(group))]
        wanted = [(mass, visit) for mass, visit in kept if self._wanted(visit, superseded)]
        if len(kept) < KEPT or len(wanted) >= count:
            yield from wanted
            return
        tops = Tops(self._log.layout, groups=(group,), kept=count)
        for step in segment.steps():
            if self._wanted(step, superseded):
                self._scan(tops, step)
        for mass, place in tops.largest(group):
            yield mass, segment.visit(place)

    def _scan(self, tops: Tops, step: StepPlace) -> None:
        entry = decode_step(decode_entry(self._log.entry(step.entry))[1])
        first = step.places.start
        for rank in entry.ranks:
            rows = self._log.rank_leaves(entry, rank.rank)[: rank.rows]
            tops.add(rows, heads_of(rows), first)
            first += rank.rows

    def _group(self, group: int) -> int:
        if not 0 <= group < self._log.layout.groups:
            raise LineageError(f"the run has no depth group {group}")
        return group

    def evidence_of_example(self, key: bytes) -> list[Evidence]:
        """Return per seal what shows that `visits_of_example` left nothing out."""
        return [self._evidence(EXAMPLE_RUN, part, part.example(prefix_of(key))[0]) for part in self._segments.all]

    def _evidence(self, run: str, segment: Segment, found: range) -> Evidence:
        return Evidence(segment.seal, run, digest_text(sha256(segment.data(run))), found.start, found.stop)
