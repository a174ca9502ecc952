"""Start the process that writes the log, and end it.

A fresh interpreter, not a fork of the training (threads, locks and a device would
come along) and not one of `multiprocessing`, which would load the user's main
module again. It sits in a session of its own, so that a signal from the terminal
reaches the training alone, which then closes the log in good order.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aqpolicy.errors import LineageError
from aqpolicy.scribe.channel import Channel
from aqpolicy.scribe.ring import ALIGNMENT, Ring, aligned, reserve

RING_BYTES: Final = 32 << 20
"""Room for 60 steps of 1024 examples and 100 groups."""

# Isolated, an interpreter finds only what is installed; what this one found, the new one is to find, too.
_CODE: Final = (
    "import sys; sys.path[:] = sys.argv[4:]; from aqpolicy.scribe.process import main; main(*map(int, sys.argv[1:4]))"
)
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Child:
    """A process that was started, with both ways to it."""

    process: subprocess.Popen[bytes]
    channel: Channel
    ring: Ring
    owner: int
    """The process that may speak to it; a fork of that one may not."""

    @classmethod
    def start(cls, ring_bytes: int) -> Child:
        """Start a process that waits for its greeting.

        Raises:
            LineageError: It cannot be started, or there is no memory to share with it.
        """
        size = aligned(max(ring_bytes, ALIGNMENT))
        memory = reserve(size)
        ours, theirs = socket.socketpair()
        try:
            ring = Ring(memory, size)
            return cls(_started(theirs.fileno(), memory, size), Channel(ours), ring, os.getpid())
        except OSError as error:
            ours.close()
            raise LineageError(f"the process that writes the log cannot be started: {error}") from error
        finally:
            theirs.close()
            os.close(memory)

    def how_it_ended(self) -> str:
        """Return what became of a process that has ended or is about to."""
        with suppress(subprocess.TimeoutExpired):
            code = self.process.wait(1)
            return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return "no longer listens"

    def leave(self, seconds: float) -> None:
        """Let the process write what it was given, and wait until it has ended; past its time it is killed."""
        if os.getpid() != self.owner:
            return
        self.channel.close()
        self.ring.release()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            with suppress(subprocess.TimeoutExpired):  # where the system itself hangs, not even that ends it
                self.process.wait(seconds)


def _started(channel: int, memory: int, size: int) -> subprocess.Popen[bytes]:
    if not sys.executable:
        raise OSError("this Python does not know its own interpreter; write the log in the training process")
    places = [str(Path(place or ".").absolute()) for place in sys.path]
    return subprocess.Popen(  # noqa: S603  # this very interpreter
        [sys.executable, "-I", "-c", _CODE, str(channel), str(memory), str(size), *places],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(channel, memory),
        env=os.environ | _ONE_THREAD,
        cwd="/",
        start_new_session=True,
    )
