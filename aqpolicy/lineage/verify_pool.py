"""Do one kind of work in several processes; what goes in first comes out first.

Each process is a fresh interpreter that loads nothing of the caller's own program.
It talks through its pipes alone, so it ends when its parent does. Whatever becomes
of one, the parent raises a typed error; no result is ever made up or left out.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Final, TypeVar, cast

from aqpolicy.errors import LineageError

Task = TypeVar("Task")
Result = TypeVar("Result")
Begin = Callable[..., Callable[[Task], Result]]
"""A plain function of a module: called once in each process, it returns what does the work."""

_LENGTH: Final = struct.Struct("<Q")
_CODE: Final = "import sys; sys.path[:] = sys.argv[1:]; from aqpolicy.lineage.verify_pool import serve; serve()"
_AHEAD: Final = 2
"""Tasks per process that are handed out before the first result is taken."""


def in_order(
    begin: Begin[Task, Result], arguments: tuple[Any, ...], tasks: Iterable[Task], workers: int
) -> Iterator[tuple[Task, Result]]:
    """Return every task with its result; with one worker all is done here.

    Raises:
        LineageError: A process failed or was ended.
    """
    if workers < 2:
        work = begin(*arguments)
        yield from ((task, work(task)) for task in tasks)
        return
    children: list[_Child] = []
    threads = ThreadPoolExecutor(workers)  # one waits for each process
    try:
        idle: SimpleQueue[_Child] = SimpleQueue()
        for _ in range(workers):
            children.append(_Child(begin, arguments))
            idle.put(children[-1])
        yield from _in_turn(threads, idle, tasks, _AHEAD * workers)
    finally:
        for child in children:
            child.end()  # a thread that waits for it then goes on
        threads.shutdown(cancel_futures=True)


def _in_turn(
    threads: ThreadPoolExecutor, idle: SimpleQueue[_Child], tasks: Iterable[Task], most: int
) -> Iterator[tuple[Task, Any]]:
    def ask(task: Task) -> Any:
        child = idle.get()
        try:
            return child.ask(task)
        finally:
            idle.put(child)  # even where it failed: whoever waits for it then fails, too

    given: deque[tuple[Task, Future[Any]]] = deque()
    for task in tasks:
        given.append((task, threads.submit(ask, task)))
        if len(given) == most:
            yield _taken(given)
    while given:
        yield _taken(given)


def _taken(given: deque[tuple[Task, Future[Any]]]) -> tuple[Task, Any]:
    task, result = given.popleft()
    return task, result.result()


class _Child:
    """A process, seen from its parent."""

    def __init__(self, begin: Begin[Any, Any], arguments: tuple[Any, ...]) -> None:
        if not sys.executable:
            raise LineageError("this Python does not know its own interpreter; verify with one worker")
        places = [str(Path(place or ".").absolute()) for place in sys.path]
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603  # this very interpreter
                [sys.executable, "-I", "-c", _CODE, *places],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the parent to obey
            )
        except OSError as error:
            raise LineageError(f"no process can be started: {error.strerror}; verify with one worker") from error
        self._to, self._from = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        self._first: tuple[Any, ...] | None = (begin, arguments)

    def ask(self, task: Any) -> Any:
        """Hand over a task and wait for its result."""
        try:
            if self._first is not None:
                _send(self._to, self._first)
                self._first = None
            _send(self._to, task)
            reply = _receive(self._from)
        except (OSError, ValueError):
            reply = None
        if reply is None:
            raise LineageError(f"a process of the verification {self._how_it_ended()}; verify again with one worker")
        result, failure = reply
        if failure:
            raise LineageError(f"a process of the verification failed: {failure}; verify again with one worker")
        return result

    def _how_it_ended(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(1)
            return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return "no longer answers"

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._to, self._from):
            with suppress(OSError):
                pipe.close()


def _send(pipe: IO[bytes], value: Any) -> None:
    data = pickle.dumps(value)
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    """Return what the other end sent, None where it is gone."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    return pickle.loads(data) if len(data) == length else None  # noqa: S301  # written by the same program


def _unused() -> Any:
    """Stand for the work of a process that never gets any."""


def serve() -> None:
    """Work for a parent until it closes the pipe; what the work prints goes nowhere."""
    to_parent = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    begin, arguments = _receive(sys.stdin.buffer) or (_unused, ())
    work: Callable[[Any], Any] | None = None
    while (task := _receive(sys.stdin.buffer)) is not None:
        try:
            work = work or begin(*arguments)
            reply = (work(task), "")
        except Exception as error:  # noqa: BLE001  # whatever it is, the parent is told
            reply = (None, f"{type(error).__name__}: {error}")
        _send(to_parent, reply)
