"""A file and a folder on a disk that loses what was not flushed, and all that a power cut may leave of them.

What is flushed stays. Of the rest any page of 4096 bytes, or any sector of 512, may be
there or not, a file may have grown without its bytes, and of the changes to the names
in a folder the first few may be there. A sector is never torn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

PAGE, SECTOR = 4096, 512
Choose = Callable[[int], int]
"""How many of so many changes, one after the other, are there."""


@dataclass(slots=True, eq=False)
class File:
    """A file: what is flushed of it, and the writes that are not."""

    data: bytearray = field(default_factory=bytearray)
    waiting: list[tuple[int, bytes]] = field(default_factory=list)

    def flush(self, write: tuple[int, bytes] | None = None) -> None:
        """Make one write survive, or all."""
        for at, data in self.waiting if write is None else [write]:
            _put(self.data, at, data)
        self.waiting = [each for each in self.waiting if write is not None and each is not write]

    def left(self, unit: int, choose: Choose, *, grown: bool) -> bytes:
        """Return what a power cut leaves, where bytes are lost by units of this size."""
        data = bytearray(self.data)
        if grown and self.waiting:
            _put(data, max(len(data), *(at + len(one) for at, one in self.waiting)), b"")
        pieces: dict[int, list[tuple[int, bytes]]] = {}
        for at, one in self.waiting:
            for unit_at in range(at - at % unit, at + len(one), unit):
                start, end = max(at, unit_at), min(at + len(one), unit_at + unit)
                pieces.setdefault(unit_at, []).append((start, one[start - at : end - at]))
        for changes in pieces.values():
            for at, piece in changes[: choose(len(changes))]:
                _put(data, at, piece)
        return bytes(data)


@dataclass(slots=True, eq=False)
class Folder:
    """A folder: the names that are flushed, the changes that are not, and the names as a process sees them."""

    names: dict[str, File | Folder] = field(default_factory=dict)
    waiting: list[dict[str, File | Folder | None]] = field(default_factory=list)
    """Changes, each whole or not at all: what a name then means."""
    seen: dict[str, File | Folder] = field(default_factory=dict)

    def change(self, change: dict[str, File | Folder | None]) -> None:
        """Change names."""
        self.waiting.append(change)
        rename(self.seen, change)

    def flush(self) -> None:
        """Make all changes survive."""
        self.names, self.waiting = dict(self.seen), []

    def left(self, choose: Choose) -> dict[str, File | Folder]:
        """Return the names that a power cut leaves."""
        names = dict(self.names)
        for change in self.waiting[: choose(len(self.waiting))]:
            rename(names, change)
        return names


def _put(data: bytearray, at: int, piece: bytes) -> None:
    data.extend(bytes(max(0, at + len(piece) - len(data))))
    data[at : at + len(piece)] = piece


def rename(names: dict[str, File | Folder], change: dict[str, File | Folder | None]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node
