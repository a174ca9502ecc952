"""A reader of static logs (C2SP tlog-tiles) that shares nothing with the product: hashlib, libsodium, and files.

Everything comes out of tiles alone, as a client of another log takes it: it fetches
the tiles that a size has, at the paths that the specification gives them.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from attacks.independent_texts import head_of


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def parent(left: bytes, right: bytes) -> bytes:
    return digest(b"\1" + left + right)


def merged(nodes: list[bytes]) -> bytes:
    """Return the root over nodes, by the recursion of RFC 6962."""
    if len(nodes) == 1:
        return nodes[0]
    middle = 1 << (len(nodes) - 1).bit_length() - 1
    return parent(merged(nodes[:middle]), merged(nodes[middle:]))


def place(level: str, index: int, width: int) -> str:
    """Return where a tile lies: the number in groups of three digits, all but the last behind an x."""
    groups = [f"{index % 1000:03}"]
    while index >= 1000:
        index //= 1000
        groups.insert(0, f"x{index % 1000:03}")
    return "/".join(["tile", level, *groups]) + (f".p/{width}" if width < 256 else "")


def wanted(size: int) -> dict[str, tuple[str, int, int]]:
    """Return level, index and width of every tile and bundle of a log, by its path."""
    found, level, count = {}, 0, size
    while count:
        names = (str(level), "entries") if level == 0 else (str(level),)
        for index in range(-(-count // 256)):
            width = min(256, count - 256 * index)
            found |= {place(name, index, width): (name, index, width) for name in names}
        level, count = level + 1, count // 256
    return found


class StaticLog:
    """A folder that holds a static log."""

    def __init__(self, folder: Path, size: int) -> None:
        """Read the log up to a size."""
        self.folder, self.size, self._read = folder, size, lru_cache(None)(self._from_disk)

    def head(self, keys: dict[str, bytes], origin: str, name: str = "checkpoint") -> tuple[int, bytes]:
        """Return size and root of a signed head, by its signature."""
        return head_of((self.folder / name).read_bytes(), keys, origin)

    def _from_disk(self, level: str, index: int) -> bytes:
        count = self.size >> (0 if level == "entries" else 8 * int(level))
        return (self.folder / place(level, index, min(256, count - 256 * index))).read_bytes()

    def node(self, level: int, index: int) -> bytes:
        """Return the node over 2**level leaves, out of the tile that has it."""
        tile, above = divmod(level, 8)
        data = self._read(str(tile), (index << above) // 256)
        first = (index << above) % 256
        hashes = [data[32 * at : 32 * at + 32] for at in range(first, first + (1 << above))]
        assert all(len(one) == 32 for one in hashes)
        return merged(hashes)

    def over(self, start: int, end: int) -> bytes:
        """Return the root over leaves `start` to before `end`."""
        level = (end - start).bit_length() - 1
        if end - start == 1 << level:
            return self.node(level, start >> level)
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        return parent(self.over(start, middle), self.over(middle, end))

    def root(self) -> bytes:
        return self.over(0, self.size) if self.size else digest(b"")

    def proof(self, index: int) -> list[bytes]:
        """Return the inclusion proof of a leaf (RFC 6962, 2.1.1)."""
        start, end, path = 0, self.size, list[bytes]()
        while end - start > 1:
            middle = start + (1 << (end - start - 1).bit_length() - 1)
            if index < middle:
                path.insert(0, self.over(middle, end))
                end = middle
            else:
                path.insert(0, self.over(start, middle))
                start = middle
        return path

    def entries(self) -> list[bytes]:
        """Return all entries, out of the bundles."""
        found: list[bytes] = []
        for index in range(-(-self.size // 256)):
            data, at = self._read("entries", index), 0
            while at < len(data):
                end = at + 2 + int.from_bytes(data[at : at + 2], "big")
                assert end <= len(data)
                found.append(data[at + 2 : end])
                at = end
        return found


def proved_root(index: int, size: int, entry: bytes, path: list[bytes]) -> bytes:
    """Return the root that an inclusion proof leads to (RFC 9162, 2.1.3.2)."""
    node, last, rest = digest(b"\0" + entry), size - 1, list(path)
    while last:
        if index & 1 or index == last:
            node = parent(rest.pop(0), node)
            while not index & 1:
                index, last = index >> 1, last >> 1
        else:
            node = parent(node, rest.pop(0))
        index, last = index >> 1, last >> 1
    assert not rest
    return node
