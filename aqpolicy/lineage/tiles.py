"""A log as a folder of static files that clients of other transparency logs read: tiles of hashes, bundles of entries.

A tile holds 256 consecutive nodes of one level; the roots of full tiles are the nodes
of the level above it. Tiles and bundles at the right edge may be partial. The signed
head is written last: a folder without it is not finished.

Source:
    C2SP tlog-tiles.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aqpolicy.errors import ForkedLogError, LineageError
from aqpolicy.lineage.entry import LARGEST_ENTRY
from aqpolicy.trust import Checkpoint, leaf_hash, root_of

WIDTH: Final = 256
"""Hashes of a full tile, entries of a full bundle."""

ENTRIES: Final = "entries"
"""What stands in the place of the level in the path of a bundle."""

CHECKPOINT: Final = "checkpoint"
"""File with the signed head."""

_LENGTH: Final = 2


def tile_path(level: int | str, index: int, width: int = WIDTH) -> str:
    """Return where a tile lies, or a bundle of entries.

    Args:
        level: Level of a tile, `ENTRIES` for a bundle.
        index: Number within the level.
        width: How much it holds; less than `WIDTH` in a partial one.
    """
    digits = f"{index:03}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    path = "/".join([f"x{part}" for part in parts[:-1]] + parts[-1:])
    return f"tile/{level}/{path}" + (f".p/{width}" if width < WIDTH else "")


class TileWriter:
    """Writes tiles and bundles while entries go by; it keeps one unfinished tile per level."""

    def __init__(self, folder: Path) -> None:
        """Start an empty log in an empty folder."""
        self.size = 0
        self._folder = folder
        self._bundle: list[bytes] = []
        self._levels: list[list[bytes]] = []
        """Per level the hashes of the unfinished tile."""

    def add(self, entry: bytes) -> None:
        """Append an entry.

        Raises:
            LineageError: It is too long for a bundle.
            OSError: It cannot be written.
        """
        if len(entry) > LARGEST_ENTRY:
            raise LineageError(f"an entry of {len(entry)} bytes does not fit a bundle of entries")
        self._bundle.append(len(entry).to_bytes(_LENGTH, "big") + entry)
        self.size += 1
        if len(self._bundle) == WIDTH:
            self._write(ENTRIES, self.size, self._bundle)
            self._bundle = []
        self._add_node(0, leaf_hash(entry))

    def _add_node(self, level: int, node: bytes) -> None:
        if level == len(self._levels):
            self._levels.append([])
        hashes = self._levels[level]
        hashes.append(node)
        if len(hashes) == WIDTH:
            self._write(level, self.size >> 8 * level, hashes)
            self._levels[level] = []
            self._add_node(level + 1, root_of(hashes))

    def root(self) -> bytes:
        """Return the root of all entries so far."""
        edge: list[bytes] = []
        for hashes in self._levels:  # what is below a level is its last, smaller, subtree
            edge = [root_of(hashes + edge)] if hashes or edge else []
        return root_of(edge)

    def finish(self, note: bytes) -> None:
        """Write what is partial, and then the signed head.

        Raises:
            OSError: It cannot be written.
        """
        if self._bundle:
            self._write(ENTRIES, self.size, self._bundle)
        for level, hashes in enumerate(self._levels):
            if hashes:
                self._write(level, self.size >> 8 * level, hashes)
        (self._folder / CHECKPOINT).write_bytes(note)

    def _write(self, level: int | str, end: int, items: list[bytes]) -> None:
        """Write the tile that ends behind so many items of its level."""
        path = self._folder / tile_path(level, (end - 1) // WIDTH, len(items))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(items))


def write_tiles(folder: Path, entries: Iterable[bytes], head: Checkpoint, note: bytes) -> None:
    """Write a log as static files.

    Args:
        folder: An empty folder.
        entries: All entries below the head, in order.
        head: What the note says, verified.
        note: The signed head.

    Raises:
        ForkedLogError: The entries are not those that were signed; the folder then has no head.
        OSError: The folder cannot be written.
    """
    writer = TileWriter(folder)
    for entry in entries:
        writer.add(entry)
    if (writer.size, writer.root()) != (head.size, head.root):
        raise ForkedLogError("the entries are not those that the head was signed over; verify the log")
    writer.finish(note)
