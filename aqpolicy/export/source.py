"""The log that is exported: what leaves is what was verified, byte for byte.

Between verification and export nobody holds the log. So the head is compared, and
the entries are hashed again while they are handed out; rows are compared with their
entries by the reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aqpolicy.errors import ForkedLogError, LineageError
from aqpolicy.lineage import LineageReader, VerifyReport
from aqpolicy.lineage.attempts import Attempts
from aqpolicy.lineage.entry import MANIFEST, POLICY, STEP, StepEntry, decode_entry, decode_step
from aqpolicy.lineage.store import HEAD
from aqpolicy.trust import Checkpoint, Frontier, Keyring, leaf_hash, open_checkpoint

_CHANGED: Final = "the log was changed while it was exported; verify it again"


@dataclass(frozen=True, slots=True)
class LoggedStep:
    """A step, its place in the log, and whether a later attempt took it again."""

    index: int
    entry: StepEntry
    superseded: bool


@dataclass(frozen=True, slots=True)
class Source:
    """An open log, what its verification said, and its newest signed head."""

    reader: LineageReader
    report: VerifyReport
    note: bytes

    @property
    def head(self) -> Checkpoint:
        """What the note says."""
        return self.report.checkpoint

    def entries(self) -> Iterator[bytes]:
        """Return all entries, in order.

        Raises:
            ForkedLogError: They were not those that were verified; said after the last one.
        """
        frontier = Frontier()
        for _, data in self.reader.raw_entries(0, self.head.size):
            frontier.append(leaf_hash(data))
            yield data
        if (frontier.size, frontier.root()) != (self.head.size, self.head.root):
            raise ForkedLogError(_CHANGED)

    def steps(self, *, superseded: bool = False) -> Iterator[LoggedStep]:
        """Return the steps that count, in order; raises as `entries` does.

        Args:
            superseded: Also those that a later attempt took again.
        """
        attempts = Attempts.of(self.reader.store, int(self.reader.genesis["first_step"]))
        counted = 0
        for index, data in enumerate(self.entries()):
            kind, payload = decode_entry(data)
            if kind == STEP:
                entry = decode_step(payload)
                counts = attempts.counts(entry.step, entry.attempt)
                counted += counts
                if counts or superseded:
                    yield LoggedStep(index, entry, not counts)
        if counted != self.report.steps:  # attempts are told by keys of blocks, which no entry hashes
            raise ForkedLogError(_CHANGED)

    def grounds(self) -> tuple[set[str], set[str]]:
        """Return the digests of all bundles, and the roots of all manifests, that were ever in force."""
        bundles = {str(facts["bundle"]) for _, facts in self.reader.facts(POLICY)}
        return bundles, {str(facts["root"]) for _, facts in self.reader.facts(MANIFEST)}


@contextmanager
def open_verified(run: Path | str, keyring: Keyring, report: VerifyReport) -> Iterator[Source]:
    """Open a log for export.

    Args:
        run: Folder of the run.
        keyring: The keys that are trusted.
        report: What `verify_log` said of the whole log just before.

    Raises:
        LineageError: The log has another newest head by now.
    """
    with LineageReader(run, keyring) as reader:
        newest = reader.store.last(HEAD)
        note = b"" if newest is None else newest[1]
        if open_checkpoint(note, keyring.keys("log")) != report.checkpoint:
            raise LineageError("the log went on after it was verified; export it again when nobody writes it")
        yield Source(reader, report, note)
