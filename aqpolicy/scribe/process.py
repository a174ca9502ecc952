"""The process that writes the log: takes steps out of the ring and hands them to the `LineageWriter`.

It lives as long as the training does. When the training is gone without having
closed the log, whatever ended it, all whole steps that lie in the ring are written
and made durable, and the log is left without an end. When the log cannot be
written, it says why and ends.

Started by `child`; it imports no torch.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, Final

from aqpolicy.errors import AqpolicyError, LineageError
from aqpolicy.lineage import LineageWriter
from aqpolicy.scribe.channel import (
    ANSWER,
    CALL,
    COUNT,
    COUNTS,
    FAILED,
    GREETING,
    PROGRESS,
    STEP,
    Channel,
)
from aqpolicy.scribe.columns import StepColumns
from aqpolicy.scribe.index import FastRunBuilder
from aqpolicy.scribe.parcel import unpack
from aqpolicy.scribe.ring import Ring
from aqpolicy.trust import SigningKey, parse_keyring

COMMIT_AFTER_S: Final = 0.1
"""How long what was taken waits for a whole group."""

LOOK_AROUND_S: Final = 1.0
"""How often an idle process looks whether the training still lives."""

BUSY_S: Final = 1.0
"""How long after a step the next one is awaited."""

NAP_S: Final = 0.005
"""How often is looked for it."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(channel: int, memory: int, size: int) -> None:
    """Serve the process that started this one until it closes the log or is gone."""
    for number in _SIGNALS:  # what is sent to all processes of a run is the training's to obey
        signal.signal(number, signal.SIG_IGN)
    ring = Ring(memory, size)
    os.close(memory)
    pipe = Channel(socket.socket(fileno=channel))
    parent = os.getppid()
    try:
        greeting = _greeting(pipe)
        if greeting is not None:
            Scribe(pipe, ring, _opened(greeting), parent, at_once=bool(greeting["at_once"])).run()
    except Exception as error:  # noqa: BLE001  # whatever it is, the training is told and stops
        _tell(pipe, error, parent)
        raise SystemExit(1) from None


class Scribe:
    """Takes what comes, in order."""

    def __init__(self, channel: Channel, ring: Ring, writer: LineageWriter, parent: int, *, at_once: bool) -> None:
        """Take over an open log; `at_once` makes every step durable before the next."""
        self._channel, self._ring, self._writer, self._parent, self._at_once = channel, ring, writer, parent, at_once
        self._read = 0
        self._pieces: list[bytes] = []
        self._waits_since: float | None = None
        """Since when something waits to become durable."""
        self._busy = -inf
        self._said = b""
        self._closed = False
        self._calls: dict[str, Callable[..., Any]] = {
            "event": writer.append_event,
            "status": writer.append_status,
            "model": self._model,
            "barrier": self._barrier,
            "close": self._close,
        }
        facts = {"steps": writer.steps, "durable_steps": writer.durable_steps, "attempt": writer.attempt}
        channel.post(ANSWER, _json({"number": 0, "returned": facts}))

    def run(self) -> None:
        """Write until the log is closed or nobody is left to write for.

        Raises:
            AqpolicyError: The log cannot be written.
        """
        gone = False
        while not (self._closed and self._channel.is_clear) and not gone:
            # Asked before what was sent last is received. The end of the pipe does not tell all: a fork of the
            # training may hold it open.
            gone = os.getppid() != self._parent
            frames = self._channel.receive()
            for kind, body in frames:
                self._take(kind, body)
                self._report()
            gone = gone or self._channel.ended
            if self._wait_left() <= 0:
                self._barrier()
            self._channel.push()
            self._report()
            if not (frames or gone):
                self._rest()
        if not self._closed:
            self._barrier()
            self._writer.abandon()

    def _wait_left(self) -> float:
        """Return the seconds until what was taken is made durable."""
        return inf if self._waits_since is None else self._waits_since + COMMIT_AFTER_S - time.monotonic()

    def _rest(self) -> None:
        """Wait for more. While steps come, look by the clock: being woken is work for who wakes."""
        waited_for = self._at_once or self._pieces
        is_busy = not waited_for and time.monotonic() < self._busy + BUSY_S
        self._channel.wait(min(self._wait_left(), NAP_S if is_busy else LOOK_AROUND_S), asleep=is_busy)

    def _take(self, kind: int, body: bytes) -> None:
        self._busy = time.monotonic()
        if kind == CALL:
            self._call(**json.loads(body))
            return
        count, last = COUNT.unpack(body)
        self._pieces.append(self._ring.take(self._read, count))
        self._read += count
        if kind == STEP:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._step(unpack(data, last))

    def _step(self, step: StepColumns) -> None:
        self._writer.append_step(step)
        if self._at_once:
            self._barrier()
        elif self._writer.durable_steps == self._writer.steps:
            self._waits_since = None
        else:
            self._wait_for_group()

    def _wait_for_group(self) -> None:
        if self._waits_since is None:
            self._waits_since = time.monotonic()

    def _call(self, number: int | None, name: str, arguments: dict[str, Any]) -> None:
        returned = self._calls[name](**arguments)
        if number is None:
            self._wait_for_group()
            return
        self._waits_since = None  # whatever is waited for is durable
        self._report()
        self._channel.post(ANSWER, _json({"number": number, "returned": returned}))

    def _model(self, step: int, digest: str, facts: dict[str, Any]) -> Any:
        return self._writer.append_model(step, bytes.fromhex(digest), facts)

    def _barrier(self) -> None:
        self._writer.barrier()
        self._waits_since = None

    def _close(self) -> None:
        self._writer.close()
        self._closed = True

    def _report(self) -> None:
        """Say how far this is; only the latest counts, so nothing is said while the pipe is full."""
        counts = COUNTS.pack(self._read, self._writer.steps, self._writer.durable_steps)
        if counts != self._said and self._channel.is_clear:
            self._said = counts
            self._channel.post(PROGRESS, counts)


def _greeting(channel: Channel) -> dict[str, Any] | None:
    """Return what the training says first; None where it is gone already."""
    while not channel.ended:
        channel.wait(LOOK_AROUND_S)
        for kind, body in channel.receive():
            if kind == GREETING:
                greeting: dict[str, Any] = json.loads(body)
                return greeting
    return None


def _opened(greeting: dict[str, Any]) -> LineageWriter:
    run, signer = Path(greeting["run"]), SigningKey.parse(greeting["key"])
    said = greeting["keyring"]
    keyring = None if said is None else parse_keyring(said.encode("utf-8"))
    if greeting["open"] == "create":
        names = {"groups": greeting["groups"], "budgets": greeting["budgets"]}
        return LineageWriter.create(run, greeting["genesis"], signer, **names, keyring=keyring, index=FastRunBuilder)
    if keyring is None:
        raise LineageError("to go on with a log, the keys that it is trusted by must be given")
    back = {"entry": greeting["entry"], "reason": greeting["reason"]}
    return LineageWriter.resume(run, signer, keyring, **back, index=FastRunBuilder)


def _tell(channel: Channel, error: Exception, parent: int) -> None:
    """Say why this ends; to be heard even if the training reads only later."""
    kind = type(error).__name__
    known = isinstance(error, AqpolicyError)
    said = {
        "kind": kind if known else "InternalError",
        "message": getattr(error, "problem", str(error)) if known else f"{kind}: {error}",
        "where": getattr(error, "where", ""),
    }
    channel.post(FAILED, _json(said))
    while not (channel.is_clear or channel.ended) and os.getppid() == parent:
        channel.wait(LOOK_AROUND_S)
        channel.receive()
        channel.push()


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("ascii")
