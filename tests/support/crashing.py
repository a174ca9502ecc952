"""A run that does all that one does to its log, made to be killed: what it does, and what it says is safe.

It follows a plan that its seed determines, so that whoever finds the log knows what
was appended. It says `durable N` once its first N operations were acknowledged.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import lmdb
from support.lineage_runs import GENESIS, KEY, KEYRING, NAMES, block
from support.step_columns import columns_of

from aqpolicy.errors import LineageError
from aqpolicy.lineage import LineageWriter, StepBlock, logged_models
from aqpolicy.scribe.remote import RemoteWriter
from aqpolicy.trust import replace_file

TESTS: Final = Path(__file__).resolve().parents[1]
FACTS: Final = {**GENESIS, "seal_every": 8}

STEP, EVENT, MODEL, STATUS, BARRIER, AGAIN = "step", "event", "model", "status", "barrier", "again"
_USUAL: Final = ((STEP, 80), (EVENT, 6), (MODEL, 5), (STATUS, 3), (BARRIER, 3), (AGAIN, 3))


def plan(seed: int) -> Iterator[str]:
    """Return what a run does, one operation after the other, without end."""
    draw = random.Random(seed)
    names, weights = zip(*_USUAL, strict=True)
    while True:
        yield draw.choices(names, weights)[0]


def made(step: int, attempt: int) -> StepBlock:
    """Return the record of a step of two ranks."""
    return replace(block(step), attempt=attempt, visits=((2, 2),))


def mark(number: int) -> dict[str, Any]:
    """Return what an event says."""
    return {"event": "mark", "number": number}


def notice(number: int) -> dict[str, Any]:
    """Return what a status says."""
    return {"event": "revoked", "credential": f"c{number}"}


def model_bytes(step: int, attempt: int) -> bytes:
    """Return the file of a model."""
    return f"made by {step} steps, in attempt {attempt}\n".encode() * 200


@dataclass(slots=True)
class Training:
    """One process that goes on with a run."""

    run: Path
    remote: bool
    writer: Any = None
    number: int = 0
    """Operations done."""
    safe: int = 0
    """Steps that were acknowledged."""
    ends: dict[int, int] | None = None
    """Operations done after each step of this attempt."""

    def open(self) -> None:
        """Begin the log, or go on from the newest model whose file is there."""
        kind = RemoteWriter if self.remote else LineageWriter
        options = {"ring_bytes": 1 << 14} if self.remote else {}
        if (self.run / "head.note").exists():
            files = {hashlib.sha256(file.read_bytes()).hexdigest() for file in self.run.glob("*.bin")}
            entries = [model["entry"] for model in logged_models(self.run, KEYRING)[1] if model["model"] in files]
            self.writer = kind.resume(
                self.run, KEY, KEYRING, entry=max(entries, default=-1), reason="killed", **options
            )
        else:
            self.writer = kind.create(self.run, FACTS, KEY, **NAMES, keyring=KEYRING, **options)
        self.safe, self.ends = self.writer.steps, {}

    def do(self, operation: str) -> None:
        """Do one operation and say what is safe since."""
        getattr(self, f"_{operation}")()
        self.number += 1
        if operation in {MODEL, STATUS, BARRIER, AGAIN}:
            say("durable", self.number)
        elif self.writer.durable_steps > self.safe:
            self.safe = self.writer.durable_steps
            say("durable", self.ends.get(self.safe, self.number))

    def _step(self) -> None:
        step = made(self.writer.steps, self.writer.attempt)
        self.writer.append_step(columns_of(step, visits=step.visits) if self.remote else step)
        self.ends[self.writer.steps] = self.number + 1

    def _event(self) -> None:
        self.writer.append_event(mark(self.number))

    def _status(self) -> None:
        self.writer.append_status(notice(self.number))

    def _model(self) -> None:
        step = self.writer.steps
        data = model_bytes(step, self.writer.attempt)
        self.writer.append_model(step, hashlib.sha256(data).digest(), {"name": "model"})
        replace_file(self.run / f"model-{self.number % 2}.bin", data)

    def _barrier(self) -> None:
        self.writer.barrier()

    def _again(self) -> None:
        self.writer.abandon()
        self.open()


def never_flush() -> None:
    """Let LMDB flush nothing: what must be noticed."""
    opened = lmdb.open
    lmdb.open = lambda *given, **named: opened(*given, **named | {"sync": False, "metasync": False})


def say(*words: object) -> None:
    """Tell whoever started this, at once."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def main(run: str, seed: str, kind: str, operations: str) -> None:
    """Do so many operations, or go on until killed; a log that cannot be written ends the training in good order."""
    training = Training(Path(run), kind == "remote")
    if kind == "hasty":
        never_flush()
    say("ready", os.getpid())
    try:
        training.open()
        say("durable", 0)
        for _, operation in zip(range(int(operations)), plan(int(seed)), strict=False):
            training.do(operation)
        training.writer.close()
        say("closed", training.number)
    except LineageError as error:
        with suppress(LineageError):
            if training.writer is not None:
                training.writer.close()
        say("stopped", error)


def command(run: Path, seed: int, kind: str, operations: int) -> list[str]:
    """Return how such a process is started."""
    return [sys.executable, "-m", "support.crashing", str(run), str(seed), kind, str(operations)]


def environment() -> dict[str, str]:
    """Return what it finds around it."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]), "OMP_NUM_THREADS": "1"}


def begin(run: Path, seed: int, kind: str, operations: int = 1_000_000, *, before: tuple[str, ...] = ()) -> Any:
    """Start such a process, or another that starts it."""
    return subprocess.Popen(
        [*before, *command(run, seed, kind, operations)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=TESTS,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
