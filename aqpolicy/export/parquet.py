"""Write the rows of a log as Parquet: one row per example and step, one column per measurement.

Every row keeps its place in the log (`entry`, `rank`, `position`), so it can still be proved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from aqpolicy.bundle import Bundle
from aqpolicy.errors import InputError
from aqpolicy.export.grounds import Decisions, Labels
from aqpolicy.export.rows import Rows, RowsBuilder
from aqpolicy.export.schema import FIXED, encodings_of, metadata_of, schema_of
from aqpolicy.export.source import LoggedStep, Source
from aqpolicy.export.table import Context, table_of
from aqpolicy.provenance import Manifest
from aqpolicy.trust import digest_text

STEPS: Final = 16
"""Steps of a row group."""

MOST_CELLS: Final = 1 << 22
"""Cells of a row group of more than one step: memory is bounded by them and by one step, not by the log."""

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
        InputError: A bundle or manifest is not of this run, or a name stands for two things.
        OSError: The folder cannot be written.
    """
    _refuse_strangers(source, bundles, manifests)
    genesis, layout = source.reader.genesis, source.reader.layout
    schema = schema_of(genesis["groups"], genesis["budgets"], metadata_of(genesis, source.note))
    decisions = {bundle.digest: Decisions(bundle) for bundle in bundles}
    context = Context(schema, layout, decisions, {manifest.root: Labels(manifest) for manifest in manifests})
    done = count = 0
    total = source.report.steps + (source.report.superseded if superseded else 0)
    with _Files(folder, schema) as files:
        for rows in _row_groups(source, superseded=superseded):
            if len(rows):
                files.write(table_of(context, rows))
            done, count = done + len(rows.steps), count + len(rows)
            if progress is not None:
                progress(done, total)
    return Written(done, count, files.count)


def _refuse_strangers(source: Source, bundles: Sequence[Bundle], manifests: Sequence[Manifest]) -> None:
    """Return if all explain something: what is given in error would otherwise leave columns empty without a word."""
    digests, roots = source.grounds()
    for bundle in bundles:
        if digest_text(bundle.digest) not in digests:
            raise InputError(
                f"the run was never under the bundle `{bundle.policy_name}` that was given; give one of the digest "
                + " or ".join(sorted(digests))
            )
    for manifest in manifests:
        if digest_text(manifest.root) not in roots:
            raise InputError(
                f"the run was never under the manifest with the root {digest_text(manifest.root)} that was given; give "
                "one with the root " + " or ".join(sorted(roots))
            )


def _row_groups(source: Source, *, superseded: bool) -> Iterator[Rows]:
    """Return the rows of consecutive steps that stand on one ground, which is what a row group has in common."""
    reader = source.reader
    most = MOST_CELLS // (reader.layout.groups + len(FIXED))
    builder = RowsBuilder(reader.layout)
    for step in source.steps(superseded=superseded):
        is_full = len(builder.steps) == STEPS or len(builder.leaves) + step.entry.rows > most
        if builder.steps and (is_full or _ground(builder.steps[0]) != _ground(step)):
            yield builder.finish()
            builder = RowsBuilder(reader.layout)
        builder.add(step, [reader.rank_leaves(step.entry, rank.rank)[: rank.rows] for rank in step.entry.ranks])
    if builder.steps:
        yield builder.finish()


def _ground(step: LoggedStep) -> tuple[object, ...]:
    entry = step.entry
    return step.superseded, entry.attempt, entry.bundle, entry.manifest_root


class _Files:
    """Files of so many row groups each."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder, self._schema, self._options = folder, schema, encodings_of(schema)
        self._writer: Any = None
        self.count = self._groups = 0

    def __enter__(self) -> Self:
        self._open()  # a log without rows has a file as well: it tells the columns
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Write a row group."""
        if self._groups == GROUPS_PER_FILE:
            self._writer.close()
            self._open()
        self._writer.write_table(table, row_group_size=len(table))
        self._groups += 1

    def _open(self) -> None:
        path = self._folder / f"rows-{self.count:05}.parquet"
        self._writer = pq.ParquetWriter(path, self._schema, **self._options)
        self.count, self._groups = self.count + 1, 0
