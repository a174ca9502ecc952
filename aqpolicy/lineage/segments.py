"""All segments of a log: those of its seals, and the one of the steps after the last seal.

Sealed steps are in the runs of their seals, the few after the last seal in runs that
are made of their blocks here. Together they name every block of the log: runs that
somebody took away are missed without a look at the steps.
"""

from __future__ import annotations

from functools import cached_property, partial

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage.attempts import Attempts
from aqpolicy.lineage.entry import STEP, decode_step
from aqpolicy.lineage.reader import LineageReader
from aqpolicy.lineage.runs import STEP_RUN
from aqpolicy.lineage.seal import MakeBuilder
from aqpolicy.lineage.segment import Segment


class Segments:
    """The segments of an open log. It keeps what it has opened, for the next question."""

    def __init__(self, log: LineageReader, make: MakeBuilder) -> None:
        """Look at no run before it is needed; `make` makes an empty builder, for steps that no seal covers."""
        self._log, self._make = log, make
        self._sealed: dict[str, dict[int, bytes]] = {}

    @cached_property
    def all(self) -> list[Segment]:
        """The segments in the order of the log."""
        segments = [Segment(seal, partial(self._run, seal)) for seal in self._runs(STEP_RUN)]
        if len(tail := self._tail()):
            segments.append(tail)
        if sum(segment.blocks for segment in segments) != self._log.blocks:
            raise CorruptLogError("the index does not cover the steps of the log; `aqpolicy log verify` says why")
        return segments

    def _runs(self, name: str) -> dict[int, bytes]:
        if name not in self._sealed:
            self._sealed[name] = {seal: data for seal, _, data in self._log.runs(name)}
        return self._sealed[name]

    def _run(self, seal: int, name: str) -> bytes:
        return self._runs(name)[seal]

    def _tail(self) -> Segment:
        builder = self._make()
        for index, kind, payload in self._log.entries(max(self._runs(STEP_RUN), default=-1) + 1):
            if kind == STEP:
                entry = decode_step(payload)
                leaves = [self._log.rank_leaves(entry, rank.rank) for rank in entry.ranks]
                builder.add(index, entry, leaves, self._log.layout)
        return Segment(-1, builder.finish().__getitem__)

    @cached_property
    def _attempts(self) -> Attempts:
        return Attempts.of(self._log.store, int(self._log.genesis["first_step"]))

    def counts(self, step: int, attempt: int) -> bool:
        """Return whether a logged step is one that no later attempt superseded."""
        return self._attempts.counts(step, attempt)
