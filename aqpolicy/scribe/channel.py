"""The pipe between the training process and the log's writer: frames in both directions, nothing ever lost.

A frame is a kind, a length and a body. Neither end ever blocks in it: what the
pipe does not take yet is kept, so the two cannot wait for each other.
"""

from __future__ import annotations

import select
import socket
import struct
from typing import Final

GREETING: Final = 0
"""To the writer, first: what to open and with which key (JSON)."""
PIECE: Final = 1
"""To the writer: so many more bytes of a step lie in the ring (u64, and 0)."""
STEP: Final = 2
"""To the writer: so many more, and the step is whole; bytes of its last column (2 u64)."""
CALL: Final = 3
"""To the writer: something to do that is not a step (JSON)."""
PROGRESS: Final = 4
"""From the writer: bytes read of the ring, steps taken, steps durable, since the beginning (3 u64)."""
ANSWER: Final = 5
"""From the writer: what a call returned (JSON)."""
FAILED: Final = 6
"""From the writer, last: why it takes nothing more (JSON)."""

COUNT: Final = struct.Struct("<2Q")
COUNTS: Final = struct.Struct("<3Q")

_HEAD: Final = struct.Struct("<BI")
_CHUNK: Final = 1 << 16

Frame = tuple[int, bytes]


class Channel:
    """One end of the pipe."""

    def __init__(self, end: socket.socket) -> None:
        """Take over a connected stream socket."""
        end.setblocking(False)
        self._socket = end
        self._coming, self._leaving = bytearray(), bytearray()
        self._poll = select.poll()  # `select.select` knows no descriptors beyond 1023
        self.ended = False
        """Whether the other end is gone; what it had sent before can still be received."""
        self.is_cut = False
        """Whether something could not be sent, since the other end is gone."""

    @property
    def is_clear(self) -> bool:
        """Whether all that was posted has left."""
        return not self._leaving

    def post(self, kind: int, body: bytes) -> None:
        """Send a frame, or keep of it what the pipe does not take yet."""
        self._leaving += _HEAD.pack(kind, len(body)) + body
        self.push()

    def push(self) -> None:
        """Send what is left to send, as far as the pipe takes it."""
        try:
            while self._leaving:
                del self._leaving[: self._socket.send(self._leaving)]
        except BlockingIOError:
            pass
        except OSError:  # the other end is gone: reading will say so, after what it still had to say
            self._leaving.clear()
            self.is_cut = True

    def receive(self) -> list[Frame]:
        """Return the frames that have come."""
        try:
            while not self.ended:
                data = self._socket.recv(_CHUNK)
                self._coming += data
                self.ended = not data
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        return list(iter(self._next, None))

    def _next(self) -> Frame | None:
        if len(self._coming) < _HEAD.size:
            return None
        kind, length = _HEAD.unpack_from(self._coming)
        end = _HEAD.size + length
        if len(self._coming) < end:
            return None
        body = bytes(self._coming[_HEAD.size : end])
        del self._coming[:end]
        return kind, body

    def wait(self, seconds: float, *, asleep: bool = False) -> bool:
        """Return whether something came, the other end went, or what is left can leave, within this time.

        Args:
            seconds: How long.
            asleep: Whether not to be woken by what comes: that costs the sender more than all its sending.
        """
        coming = 0 if asleep else select.POLLIN
        self._poll.register(self._socket, coming | (select.POLLOUT if self._leaving else 0))
        return bool(self._poll.poll(max(seconds, 0) * 1000))

    def close(self) -> None:
        """Leave; the other end sees it. Does nothing the second time."""
        self.ended = True
        self._socket.close()
