"""Write the rows of a log as Parquet: one row per example and step, one column per measurement.

Every row keeps its place in the log (`log_index`, `rank`, `inner_index`), so it can still be proved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from aqpolicy.bundle import Bundle
from aqpolicy.export.grounds import Decisions, Labels
from aqpolicy.export.rows import Rows, RowsBuilder
from aqpolicy.export.schema import encodings_of, metadata_of, schema_of
from aqpolicy.export.source import LoggedStep, Source
from aqpolicy.export.table import Context, table_of
from aqpolicy.provenance import Manifest

STEPS: Final = 16
"""Steps of a row group."""

MOST_CELLS: Final = 1 << 24
"""Cells of a row group, where its steps have so many: memory is bounded by them, not by the log."""

GROUPS_PER_FILE: Final = 256

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Written:
    """What was exported."""

    steps: int
    rows: int
    files: int


def write_rows(
    folder: Path,
    source: Source,
    bundles: Sequence[Bundle] = (),
    manifests: Sequence[Manifest] = (),
    *,
    superseded: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Write the rows of a log into an empty folder.

    Args:
        folder: The folder.
        source: The verified log.
        bundles: Those that explain routes: rules and shares.
        manifests: Those that name examples.
        superseded: Also rows of steps that a later attempt took again.
        progress: Told how far it came.

    Raises:
        ForkedLogError: The log is not the one that was verified.
        CorruptLogError: A row is not the one that was signed, or points outside its bundle.
        InputError: A bundle is not of this run, or a name stands for two things.
        OSError: The folder cannot be written.
    """
    genesis, layout = source.reader.genesis, source.reader.layout
    schema = schema_of(genesis["groups"], genesis["budgets"], metadata_of(genesis, source.note))
    decisions = {bundle.digest: Decisions(bundle, layout) for bundle in bundles}
    context = Context(schema, decisions, {manifest.root: Labels(manifest) for manifest in manifests})
    done = rows = 0
    total = source.report.steps - (0 if superseded else source.report.superseded)
    with _Files(folder, schema) as files:
        for steps, found in _groups(source, superseded=superseded):
            done, rows = done + len(steps), rows + len(found)
            if len(found):
                files.write(context, steps[0], found)
            if progress is not None:
                progress(done, total)
    return Written(done, rows, files.count)


def _groups(source: Source, *, superseded: bool) -> Iterator[tuple[list[LoggedStep], Rows]]:
    """Return consecutive steps of one ground, and their rows; ground is what a row group has in common."""
    reader, steps = source.reader, list[LoggedStep]()
    builder = RowsBuilder(reader.layout)
    most = MOST_CELLS // max(reader.layout.groups, 1)
    for step in source.steps(superseded=superseded):
        is_full = len(steps) == STEPS or len(builder.leaves) + step.entry.rows > most
        if steps and (is_full or _ground(steps[0]) != _ground(step)):
            yield steps, builder.finish()
            steps, builder = [], RowsBuilder(reader.layout)
        steps.append(step)
        entry = step.entry
        for rank in entry.ranks:
            leaves = reader.rank_leaves(entry, rank.rank)[: rank.rows]
            builder.add(leaves, step.index, entry.step, entry.epoch, rank.rank)
    if steps:
        yield steps, builder.finish()


def _ground(step: LoggedStep) -> tuple[object, ...]:
    entry = step.entry
    return step.superseded, entry.attempt, entry.bundle, entry.manifest_root


class _Files:
    """Files of so many row groups each; they are encoded beside the reading, one group behind it."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder, self._schema, self._options = folder, schema, encodings_of(schema)
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self._writer: Any = None
        self.count = self._groups = 0

    def __enter__(self) -> Self:
        self._open()  # a log without rows has a file as well: it tells the columns
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._settle()
        finally:
            self._pool.shutdown()
            self._writer.close()

    def write(self, context: Context, first: LoggedStep, rows: Rows) -> None:
        """Write a row group."""
        self._settle()
        self._pending = self._pool.submit(self._write, context, first, rows)

    def _settle(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _write(self, context: Context, first: LoggedStep, rows: Rows) -> None:
        if self._groups == GROUPS_PER_FILE:
            self._writer.close()
            self._open()
        self._writer.write_table(table_of(context, first, rows), row_group_size=len(rows))
        self._groups += 1

    def _open(self) -> None:
        path = self._folder / f"rows-{self.count:05}.parquet"
        self._writer = pq.ParquetWriter(path, self._schema, **self._options)
        self.count, self._groups = self.count + 1, 0
