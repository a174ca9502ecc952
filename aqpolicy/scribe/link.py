"""What is between the training and the process that writes its log: hand over, wait, notice that it is gone.

Nothing is dropped, and no wait is endless. Once anything went wrong nothing goes
on: every later use raises, with the reason of the first.
"""

from __future__ import annotations

import json
import math
import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn

from aqpolicy import errors
from aqpolicy.errors import AqpolicyError, CorruptLogError, LineageError
from aqpolicy.scribe.channel import ANSWER, CALL, COUNT, COUNTS, FAILED, GREETING, PIECE, PROGRESS, STEP
from aqpolicy.scribe.child import Child
from aqpolicy.scribe.ring import Column
from aqpolicy.trust import SigningKey

STOP: Final = "the log cannot be written, training must stop: "
"""What the log's writer itself says before its reason, too."""

_SLICE_S: Final = 0.05

LISTEN_S: Final = 0.1
"""How often a training that gives step after step listens, unless it has to wait: it takes long to ask the system."""


class Link:
    """The way to one process, from its start to its end."""

    def __init__(self, child: Child, patience_s: float) -> None:
        """Take over a process that was started.

        Args:
            child: The process.
            patience_s: After how many seconds without any progress it counts as hung.
        """
        self._child, self._slices = child, math.ceil(patience_s / _SLICE_S)
        self._patience_s = patience_s
        self._leave = weakref.finalize(self, child.leave, patience_s)
        self._lost = ""
        self._written = self._told = self._read = 0
        self._given = self._taken = 0
        self._heard = self._listened = time.monotonic()
        self._answers: dict[int, Any] = {}
        self._calls = 0
        self.durable_steps = 0
        """Steps that survive a crash, as far as was heard."""

    @property
    def is_lost(self) -> bool:
        """Whether every use raises."""
        return bool(self._lost)

    def greet(self, greeting: Mapping[str, Any], signer: SigningKey) -> dict[str, Any]:
        """Say what to open and with which key, and return what the opened log says of itself.

        Raises:
            AqpolicyError: It could not be opened; of the type that the writer raised.
        """
        try:
            # The key's text has no name here, so that no report of an error shows it.
            self._child.channel.post(GREETING, _json({**greeting, "key": signer.private_text}))
            opened: dict[str, Any] = self._answer(0)
        except BaseException as error:
            self.leave("it was not opened")
            if isinstance(error.__cause__, AqpolicyError):
                raise error.__cause__ from None
            raise
        self._given = self._taken = int(opened["steps"])
        self.durable_steps = int(opened["durable_steps"])
        return opened

    def listen(self) -> None:
        """Take note of all that the process has said.

        Raises:
            LineageError: It has failed, or is gone, or was left.
        """
        self._refuse_when_lost()
        self._look(_never)

    def _refuse_when_lost(self) -> None:
        if os.getpid() != self._child.owner:
            raise LineageError("the log belongs to the process that began it; a fork of that cannot write there")
        if self._lost:
            raise LineageError(STOP + self._lost)

    def hand_over(self, columns: Iterable[Column]) -> None:
        """Put a step into the ring; where there is no room, wait.

        Raises:
            LineageError: As `listen`, or nothing moved for too long.
        """
        self._ready()
        self._lost = "an earlier step was interrupted"
        last = 0
        for column in columns:
            self._write(column)
            last = column.span
        self._tell(STEP, last)
        self._lost = ""
        if self._child.channel.is_cut:
            self._look(_never)
        if self._given == self._taken:
            self._heard = time.monotonic()
        self._given += 1

    def wait_durable(self, steps: int) -> None:
        """Wait until so many steps survive a crash; raises as `hand_over` does."""
        self._wait(lambda: self.durable_steps >= steps)

    def post(self, name: str, **arguments: Any) -> None:
        """Have something done, in its order among the steps; raises as `hand_over` does."""
        self._ready()
        self._send(None, name, arguments)

    def call(self, name: str, **arguments: Any) -> Any:
        """Have something done, in its order, and return what came of it; raises as `hand_over` does."""
        self._ready()
        self._calls += 1
        self._send(self._calls, name, arguments)
        return self._answer(self._calls)

    def flush(self) -> None:
        """Wait until all that was said has left; raises as `hand_over` does."""
        self._wait(lambda: self._child.channel.is_clear)

    def leave(self, reason: str) -> None:
        """Let the process write what it was given, and end. Does nothing the second time."""
        self._lost = self._lost or reason
        self._leave()

    def _write(self, column: Column) -> None:
        done, span, ring = 0, column.span, self._child.ring
        while done < span:
            room = ring.size - (self._written - self._read)
            if not room:
                self._tell(PIECE, 0)
                self._wait(lambda: self._written - self._read < ring.size)
                continue
            count = min(room, span - done)
            ring.put(self._written, column, done, count)
            self._written, done = self._written + count, done + count

    def _tell(self, kind: int, last: int) -> None:
        """Say how much more lies in the ring."""
        count, self._told = self._written - self._told, self._written
        self._child.channel.post(kind, COUNT.pack(count, last))

    def _send(self, number: int | None, name: str, arguments: Mapping[str, Any]) -> None:
        self._child.channel.post(CALL, _json({"number": number, "name": name, "arguments": arguments}))

    def _answer(self, number: int) -> Any:
        self._wait(lambda: number in self._answers)
        return self._answers.pop(number)

    def _wait(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so. Patience is counted in waits, so that time in which all slept is none."""
        waits = 0
        while not self._look(is_so):
            if waits >= self._slices:
                self._give_up()
            waits = 0 if self._child.channel.wait(_SLICE_S) else waits + 1

    def _ready(self) -> None:
        """Return once the process can be told more; one that has had a step and said nothing for long must say so."""
        self._refuse_when_lost()
        if time.monotonic() - self._listened > LISTEN_S:
            self._look(_never)
        taken = self._taken
        if self._given > taken and time.monotonic() - self._heard > self._patience_s:
            self._wait(lambda: self._taken > taken)
        if not self._child.channel.is_clear:
            self.flush()

    def _look(self, is_so: Callable[[], bool]) -> bool:
        """Take note of what was said and return whether something is so; only then may the process be gone."""
        child = self._child
        self._listened = time.monotonic()
        for kind, body in child.channel.receive():
            self._hear(kind, body)
        child.channel.push()
        if is_so():
            return True
        if child.channel.ended:
            self._fail(f"the process that writes it {child.how_it_ended()}")
        return False

    def _hear(self, kind: int, body: bytes) -> None:
        if kind == FAILED:
            error = _error(**json.loads(body))
            self._fail(str(error), error)
        self._heard = time.monotonic()
        if kind == PROGRESS:
            self._read, self._taken, self.durable_steps = COUNTS.unpack(body)
        elif kind == ANSWER:
            answer = json.loads(body)
            self._answers[answer["number"]] = answer["returned"]

    def _give_up(self) -> None:
        """Kill a process that hangs: after the error nothing writes any more."""
        self._child.process.kill()
        self._fail(f"the process that writes it made no progress for {self._patience_s:g} seconds")

    def _fail(self, reason: str, cause: AqpolicyError | None = None) -> NoReturn:
        self._lost = reason.removeprefix(STOP)
        self._leave()
        raise LineageError(STOP + self._lost) from cause


def _never() -> bool:
    return False


def _error(kind: str, message: str, where: str) -> AqpolicyError:
    """Return the writer's error as it was raised."""
    if kind == CorruptLogError.__name__:
        return CorruptLogError(message, where)
    error: AqpolicyError = getattr(errors, kind)(message)
    return error


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("ascii")
