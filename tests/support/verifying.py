"""Work for the processes of a verification: plain functions, as these need them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable


def doubling(offset: int) -> Callable[[int], tuple[int, int]]:
    """Return work that says where it was done."""
    return lambda number: (2 * number + offset, os.getpid())


def slow_first(seconds: float) -> Callable[[int], int]:
    """Return work of which the first task takes longest."""

    def work(number: int) -> int:
        time.sleep(seconds if number == 0 else 0)
        return number

    return work


def failing(at: int) -> Callable[[int], int]:
    """Return work that fails at one task."""

    def work(number: int) -> int:
        if number == at:
            raise MemoryError("no room")
        return number

    return work


def dying(at: int) -> Callable[[int], int]:
    """Return work whose process is killed at one task."""

    def work(number: int) -> int:
        if number == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    return work


def talking(text: str) -> Callable[[int], int]:
    """Return work that prints."""

    def work(number: int) -> int:
        print(text)
        return number

    return work


def unready(why: str) -> Callable[[int], int]:
    """Fail before the first task."""
    raise OSError(why)
