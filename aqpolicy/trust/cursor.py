"""Bytes made of fields that say how long they are: cut from the front, never past the end.

Numbers are little-endian and of fixed width, so every sequence of fields has one encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

from aqpolicy.errors import CanonicalError
from aqpolicy.trust.merkle import HASH_BYTES, LARGEST_PATH


def sized(data: bytes, width: int) -> bytes:
    """Return the bytes with their length before them.

    Raises:
        CanonicalError: They are too many for a length of this width.
    """
    if len(data) >> 8 * width:
        raise CanonicalError(f"{len(data)} bytes are too many for their place")
    return len(data).to_bytes(width, "little") + data


def path_bytes(path: Sequence[bytes]) -> bytes:
    """Return the hashes of a path with their number before them."""
    return sized(b"".join(path), 2)


@lru_cache(maxsize=256)
def read_path(data: bytes) -> tuple[bytes, ...]:
    """Return the hashes of a path, without their number; those read last are remembered, since many proofs share them.

    Raises:
        CanonicalError: There are more hashes than any tree needs, or a part of one.
    """
    if len(data) % HASH_BYTES or len(data) > HASH_BYTES * LARGEST_PATH:
        raise CanonicalError("a path is not made of hashes")
    return struct.unpack(f"{HASH_BYTES}s" * (len(data) // HASH_BYTES), data)


class Cursor:
    """Takes fields from the front.

    Trust:
        The bytes are untrusted.
    """

    def __init__(self, data: bytes, what: str) -> None:
        """Begin at the front of the bytes; `what` is what messages call them."""
        self._data, self._at, self._what = data, 0, what

    def take(self, count: int) -> bytes:
        """Return the next bytes.

        Raises:
            CanonicalError: There are not so many.
        """
        end = self._at + count
        if end > len(self._data):
            raise CanonicalError(f"the {self._what} is cut short")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, width: int) -> int:
        """Return the next number."""
        return int.from_bytes(self.take(width), "little")

    def sized(self, width: int) -> bytes:
        """Return what `sized` wrote."""
        return self.take(self.number(width))

    def text(self, most: int) -> str:
        """Return a text of at most so many bytes, after its length of 2 bytes.

        Raises:
            CanonicalError: It is longer, or not UTF-8.
        """
        data = self.sized(2)
        try:
            if len(data) <= most:
                return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CanonicalError(f"a text of the {self._what} is not UTF-8") from error
        raise CanonicalError(f"a text of the {self._what} is too long")

    def path(self) -> tuple[bytes, ...]:
        """Return what `path_bytes` wrote; raises as `read_path` does."""
        return read_path(self.sized(2))

    def finish(self) -> None:
        """Return if nothing is left.

        Raises:
            CanonicalError: Something is.
        """
        if self._at != len(self._data):
            raise CanonicalError(f"the {self._what} goes on behind its end")
