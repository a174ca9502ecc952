"""Bytes that two processes share, used over and over from the front.

A ring does not know what of it is taken: who writes counts what was written, who
reads says what was read, and the pipe beside it (`channel`) carries both numbers.
So no order of memory between processors is assumed here.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aqpolicy.errors import LineageError

ALIGNMENT: Final = 8
"""Every column begins at a multiple of this, and a ring's size is one: no number lies across the end."""

# Where the system can do it, all pages are there from the start, so that no step pays for a page's first use.
_FLAGS: Final = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)


class Column:
    """Numbers to be written, and how wide.

    Shapes:
        values: one-dimensional, of a type that `kind` can stand for.
    """

    __slots__ = ("kind", "span", "values")

    def __init__(self, values: npt.NDArray[Any], kind: np.dtype[Any]) -> None:
        """Say what is to be written as what."""
        self.values, self.kind = values, kind
        self.span = aligned(len(values) * kind.itemsize)
        """Bytes that the column takes, up to where the next one may begin."""


def aligned(count: int) -> int:
    """Return the next multiple of `ALIGNMENT`."""
    return -(-count // ALIGNMENT) * ALIGNMENT


class Ring:
    """Shared memory without a name: it ends with the processes that hold it, whatever ends them."""

    def __init__(self, descriptor: int, size: int) -> None:
        """Map memory that `reserve` made."""
        self.size = size
        self._memory = np.frombuffer(mmap.mmap(descriptor, size, _FLAGS), np.uint8)

    def put(self, position: int, column: Column, start: int, count: int) -> None:
        """Write `count` bytes of a column's span, from byte `start` of it; the ring's end is followed by its front.

        Args:
            position: Where they begin, counted from the beginning of all time.
            column: What to write; converted on the way where it is to be narrower.
            start: A multiple of `ALIGNMENT`, as `position` and `count`.
            count: At most what was read of what stood there.
        """
        width = column.kind.itemsize
        while count:
            at = position % self.size
            here = min(count, self.size - at)
            values = column.values[start // width : (start + here) // width]
            place = self._memory[at : at + len(values) * width].view(column.kind)
            with np.errstate(over="ignore"):  # what is too large for a narrower kind becomes infinite
                np.copyto(place, values, casting="same_kind")
            position, start, count = position + here, start + here, count - here

    def take(self, position: int, count: int) -> bytes:
        """Return a copy of what was written at a position."""
        at = position % self.size
        first = min(count, self.size - at)
        head = self._memory[at : at + first].tobytes()
        return head if first == count else head + self._memory[: count - first].tobytes()

    def release(self) -> None:
        """Give the memory back."""
        self._memory = self._memory[:0].copy()


def reserve(size: int) -> int:
    """Return the descriptor of new shared memory that is all there, so that writing to it cannot fail later.

    Raises:
        LineageError: There is not that much memory.
    """
    try:
        descriptor = _unnamed()
        try:
            os.truncate(descriptor, size)
            allocate: Any = getattr(os, "posix_fallocate", None)
            if allocate is not None:
                allocate(descriptor, 0, size)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        raise LineageError(
            f"there are no {size} bytes of shared memory for the log: {error.strerror}; free some, or write the log "
            "in the training process"
        ) from error
    return descriptor


def _unnamed() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("aqpolicy-lineage")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
