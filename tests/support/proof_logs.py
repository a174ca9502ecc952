"""Real logs for tests of proofs: any number of ranks, going back, and readers of what was logged so far."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self
from unittest.mock import patch

from support.lineage_runs import GENESIS, KEY, KEYRING, NAMES, block, row

from aqpolicy.lineage import LineageReader, LineageWriter, Row
from aqpolicy.trust import Checkpoint, leaf_hash, root_of, sign_checkpoint

RUN_ID = "ab" * 16
TRUSTED = KEYRING.keys("log")


@contextmanager
def one_run() -> Iterator[None]:
    """Make every log that is begun the same run at the same time, so that two can tell different stories of it."""
    began = 1_700_000_000
    with patch.object(secrets, "token_hex", return_value=RUN_ID), patch.object(time, "time", return_value=began):
        yield


class ProofLog:
    """A log that is being written; a context manager that closes all its readers."""

    def __init__(self, folder: Path, run_id: str = RUN_ID) -> None:
        """Begin the log in a folder of its own."""
        self.run, self._copies, self._readers, self._ended = folder / "run", 0, ExitStack(), False
        with one_run(), patch.object(secrets, "token_hex", return_value=run_id):
            self.writer = LineageWriter.create(self.run, GENESIS, KEY, **NAMES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.abandon()
        self._readers.close()

    def step(self, *ranks: Sequence[Row]) -> None:
        """Log a step whose rows come from these ranks."""
        rows = tuple(row for own in ranks for row in own)
        plain = replace(block(self.writer.steps), attempt=self.writer.attempt)
        self.writer.append_step(replace(plain, rows=rows, visits=(tuple(map(len, ranks)),)))

    def model(self) -> int:
        """Log a model and return the index of its entry."""
        return self.writer.append_model(self.writer.steps, bytes(32), {})

    def back(self, model: int = -1) -> None:
        """Go on from a model, or from the beginning."""
        self.writer.barrier()
        self.writer.abandon()
        with one_run():
            self.writer = LineageWriter.resume(self.run, KEY, KEYRING, entry=model, reason="the test says so")

    def end(self) -> None:
        """End the run."""
        self.writer.close()
        self._ended = True

    def copy(self) -> Path:
        """Return a copy of the run as it is now."""
        if not self._ended:
            self.writer.barrier()
        self._copies += 1
        return Path(shutil.copytree(self.run, self.run.parent / f"copy-{self._copies}"))

    def read(self) -> LineageReader:
        """Return a reader of what was logged so far."""
        return self._readers.enter_context(LineageReader(self.copy(), KEYRING))


def steps_of_three_ranks(log: ProofLog, steps: int = 5) -> LineageReader:
    """Log steps of three ranks; rank r of step s has r + 1 rows, the first of them of example 100 s."""
    for step in range(steps):
        numbers = iter(range(100 * step, 100 * step + 6))
        log.step(*([row(next(numbers)) for _ in range(rank + 1)] for rank in range(3)))
    return log.read()


def head_of(reader: LineageReader, size: int) -> tuple[bytes, Checkpoint]:
    """Return a signed head of the first entries of a log."""
    hashes = [leaf_hash(data) for _, data in reader.raw_entries(0, size)]
    head = Checkpoint(str(reader.genesis["origin"]), size, root_of(hashes))
    return sign_checkpoint(head, KEY).encode(), head
