"""Logs for tests of the index: any parts, ranks, attempts and seals, and their rows by looking at all entries."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from random import Random

from support.lineage_runs import GENESIS, KEY, KEYRING, NAMES, block

from aqpolicy.lineage import NO_INDEX, Layout, LineageReader, LineageWriter, Row
from aqpolicy.lineage.attempts import Resumption
from aqpolicy.lineage.entry import RESUME, STEP, StepEntry, decode_step
from aqpolicy.lineage.leaf import NORM_CODES, decode_row
from aqpolicy.lineage.runs import RunBuilder
from aqpolicy.lineage.segment import Visit

ROOTS = (bytes([0x22]) * 32, b"n" * 32)
BUNDLES = (bytes([0x11]) * 32, b"c" * 32)
MOVED = (0.5, 0.5)

Part = Sequence[Sequence[Row]]
"""The rows of a part of a step, by rank."""


class IndexedRun:
    """A log while it is written."""

    def __init__(
        self,
        folder: Path,
        *,
        seal_every: int = 1000,
        norms: str = "float32",
        make: Callable[[], RunBuilder] = RunBuilder,
    ) -> None:
        self.folder, self._make = folder, make
        facts = {**GENESIS, "seal_every": seal_every, "norms": norms}
        self.writer = LineageWriter.create(folder, facts, KEY, **NAMES, index=make)
        self.models = [(-1, 0)]
        """Entry of every model that can be gone back to, and the steps before it."""

    def step(self, *parts: Part, movement: tuple[float, ...] = MOVED) -> None:
        """Log a step; the rows of each part are by rank."""
        visits = tuple(tuple(map(len, part)) for part in parts)
        rows = tuple(chain.from_iterable(chain.from_iterable(parts)))
        plain, writer = block(0), self.writer
        book = replace(plain.book, movement=movement)
        writer.append_step(
            replace(plain, attempt=writer.attempt, step=writer.steps, rows=rows, visits=visits, book=book)
        )

    def publish(self) -> None:
        """Log a model."""
        steps = self.writer.steps
        self.models.append((self.writer.append_model(steps, bytes(32), {}), steps))

    def stop(self, how: str = "close") -> Path:
        """Stop: `close` seals and ends, `leave` seals nothing more, `crash` also loses what is not durable."""
        if how == "leave":
            self.writer.barrier()
        self.writer.close() if how == "close" else self.writer.abandon()
        return self.folder

    def go_back(self, models: int, how: str = "crash") -> None:
        """Stop, and go on from the last of so many models."""
        self.stop(how)
        self.models = self.models[:models]
        entry, _ = self.models[-1]
        self.writer = LineageWriter.resume(self.folder, KEY, KEYRING, entry=entry, reason="test", index=self._make)


@dataclass(frozen=True)
class Logged:
    """A row, and where it is."""

    visit: Visit
    row: Row
    entry: StepEntry


def steps_of(reader: LineageReader, *, superseded: bool) -> list[tuple[int, StepEntry]]:
    """Return the steps of a log by looking at all entries."""
    found: list[tuple[int, StepEntry]] = []
    for index, kind, payload in reader.entries():
        if kind == STEP:
            found.append((index, decode_step(payload)))
        elif kind == RESUME and not superseded:
            found = [(at, entry) for at, entry in found if entry.step < Resumption.of(payload).from_step]
    return found


def rows_of(reader: LineageReader, *, superseded: bool) -> list[Logged]:
    """Return the rows of a log by looking at all entries and blocks."""
    return [
        Logged(Visit(entry.step, entry.attempt, rank.rank, at, index), decode_row(leaf, reader.layout), entry)
        for index, entry in steps_of(reader, superseded=superseded)
        for rank in entry.ranks
        for at, leaf in enumerate(reader.rank_leaves(entry, rank.rank)[: rank.rows])
    ]


def leaves_of(reader: LineageReader) -> Iterator[tuple[int, StepEntry, list[tuple[bytes, ...]]]]:
    """Return all steps of a log as `rebuild` takes them."""
    for index, entry in steps_of(reader, superseded=True):
        yield index, entry, [reader.rank_leaves(entry, rank.rank) for rank in entry.ranks]


def mass_of(row: Row, group: int, layout: Layout) -> float:
    """Return the mass of a row in a group, by its definition."""
    if row.effect in {"deny", "defer"} or row.norms[group] <= 0:
        return 0.0
    shares = [share for at, _, share in row.exceptions if at == group]
    mass = row.norms[group] * min([1_000_000, *shares]) / 1_000_000
    code = "<" + NORM_CODES[layout.norms]
    return float(struct.unpack(code, struct.pack(code, mass))[0])


KEYS = [bytes([number % 3, 1, 2, 3]) + bytes([number]) * 12 for number in range(9)]
"""Example keys of which three each begin with the same four bytes."""


def random_row(random: Random) -> Row:
    """Return a row whose facts often meet those of others."""
    norms = tuple(random.choice([-1.0, -2.0, 0.0, 2.0**-140, 0.5, 0.5, random.randrange(99) / 8]) for _ in range(2))
    lowered = [(group, 5, random.choice([0, 250_000, 1_000_000])) for group in range(2) if random.random() < 0.2]
    return Row(
        example_key=random.choice(KEYS),
        manifest_index=random.choice([NO_INDEX, 2**32 - 2, *range(12)]),
        route=random.choice([0, 1, 2, 7]),
        effect=random.choice(["deny", "defer", "modulate", "admit", "admit"]),
        cause="granted",
        reason_code=0,
        surprisal=1,
        norms=norms,
        charges=(random.choice([7, 7, 2**33]),),
        exceptions=tuple(lowered),
        sketch=random.choice([b"", b"", b"sketch"]),
    )


def random_step(run: IndexedRun, random: Random) -> None:
    """Log a step of one or two parts, of one or three ranks."""
    ranks = random.choice([1, 3])
    parts = [
        [[random_row(random) for _ in range(random.choice([0, 1, 3, 30]))] for _ in range(ranks)]
        for _ in range(random.choice([1, 1, 2]))
    ]
    run.step(*parts, movement=tuple(random.choice([0.0, 0.5, -1.0]) for _ in range(2)))


def random_log(random: Random, folder: Path, make: Callable[[], RunBuilder] = RunBuilder) -> Path:
    """Write a log of a few steps, with what can happen between them, and return its folder."""
    norms, seal_every = random.choice(["float32", "float16"]), random.choice([1, 2, 3, 5, 1000])
    run = IndexedRun(folder, seal_every=seal_every, norms=norms, make=make)
    for _ in range(random.randrange(12)):
        random_step(run, random)
        chance = random.random()
        if chance < 0.2:
            run.publish()
        elif chance < 0.4:
            run.go_back(random.randint(1, len(run.models)), random.choice(["close", "leave", "crash"]))
        elif chance < 0.5:
            run.writer.append_event({"event": "note"})
        elif chance < 0.65:
            run.writer.append_policy(random.choice(BUNDLES))
        elif chance < 0.8:
            run.writer.append_manifest(random.choice(ROOTS), bytes(32))
    return run.stop(random.choice(["close", "leave", "crash"]))
