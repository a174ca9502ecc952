"""The only door to LMDB: a folder with entries, blocks, bodies, index runs and signed heads.

LMDB gives atomic, durable groups and nothing else: it notices no changed byte,
and a damaged file can crash whoever opens it. So the pages of a folder that comes
from elsewhere are checked in plain Python before LMDB sees them, and integrity is
the Merkle tree's business (`verify`). That check takes time by the size of the log:
who goes on with a log of one's own looks only whether it was cut (`open_to_write`).
One writer, or any number of readers; never both.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import lmdb

from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage import folder as place

_Seen = TypeVar("_Seen")

ENTRY: Final = b"entry"
BLOCK: Final = b"blk"
BODY: Final = b"body"
HEAD: Final = b"cp"
RUN: Final = b"run"
META: Final = b"meta"
MODEL: Final = b"model"
"""Beginning of the keys of table `meta` that belong to models."""
TABLES: Final = (ENTRY, BLOCK, BODY, HEAD, RUN, META)

_MAP_BYTES: Final = 1 << 36
_NUMBER: Final = struct.Struct(">Q")
_BLOCK: Final = struct.Struct(">IQI")

Item = tuple[bytes, bytes]


def entry_key(index: int) -> bytes:
    """Return the key of an entry, of a body, or of a head by its size."""
    return _NUMBER.pack(index)


def block_key(attempt: int, step: int, rank: int = 0) -> bytes:
    """Return the key of a block."""
    return _BLOCK.pack(attempt, step, rank)


def block_place(key: bytes) -> tuple[int, int, int]:
    """Return attempt, step and rank of a block's key.

    Raises:
        CorruptLogError: It is none.
    """
    if len(key) != _BLOCK.size:
        raise CorruptLogError("the store holds a block without a place")
    attempt, step, rank = _BLOCK.unpack(key)
    return attempt, step, rank


def run_key(seal: int, name: str) -> bytes:
    """Return the key of a run, by the index of the entry that seals it."""
    return entry_key(seal) + name.encode("ascii")


def model_key(entry: int) -> bytes:
    """Return the key of what the steps before a model add up to, by the index of the model's entry."""
    return MODEL + entry_key(entry)


class Store:
    """An open folder. Made by `create`, `open_to_read` and `open_to_write`."""

    def __init__(self, folder: Path, lock: int | None, *, write: bool, create: bool = False) -> None:
        """Hand the folder, checked and locked, to LMDB."""
        self._lock = lock
        file = folder / "data.mdb"
        try:
            self._env = lmdb.open(
                str(folder),
                map_size=_MAP_BYTES if write else max(file.stat().st_size, 1 << 20),
                max_dbs=len(TABLES),
                mode=0o600,
                sync=True,
                metasync=True,
                writemap=False,
                readonly=not write,
                create=create,
                lock=write,
            )
            try:
                self._tables = {name: self._env.open_db(name, create=create) for name in TABLES}
                if write:
                    self._env.reader_check()
            except BaseException:
                self._env.close()
                raise
        except (lmdb.Error, OSError) as error:
            place.unlock(lock)
            raise CorruptLogError(f"the store cannot be opened: {error}", str(file)) from error

    @classmethod
    def create(cls, folder: Path) -> Store:
        """Make an empty store beside a folder, whose place it takes by `settle` once it holds something.

        What was left by a process that was killed while it began a log is replaced. Until the first group is durable
        nothing lies in the folder, so what lies there is a whole store, and one of two groups or more is a log.

        Raises:
            LineageError: The folder holds a log already, or is in use, or cannot be written.
            CorruptLogError: The folder holds a damaged one.
        """
        making = folder.with_name(folder.name + ".new")
        try:
            place.make(making)
            lock = place.locked(making, place.ALONE)
            try:
                cls._refuse_log(folder)
                place.remove(folder)
                place.clear(making)
            except BaseException:
                place.unlock(lock)
                raise
        except OSError as error:
            raise LineageError(f"`{folder}` cannot be made: {error.strerror}") from error
        return cls(making, lock, write=True, create=True)

    @classmethod
    def _refuse_log(cls, folder: Path) -> None:
        if not (folder / "data.mdb").exists():
            return
        store = cls.open_to_read(folder)
        groups = store.count(HEAD)
        store.close()
        if groups > 1:
            raise LineageError(f"`{folder}` already holds a log, whose `head.note` is missing; give another folder")

    def settle(self, folder: Path) -> None:
        """Take the place that this store was created for.

        Durability: on return the store is there after a crash; before, it is there or not.

        Raises:
            LineageError: Something else has taken it.
        """
        try:
            place.rename(folder.with_name(folder.name + ".new"), folder)
        except OSError as error:
            raise LineageError(f"`{folder}` cannot be made: {error.strerror}") from error

    @classmethod
    def open_to_read(cls, folder: Path) -> Store:
        """Open a store that nobody writes.

        Trust:
            The file is untrusted.

        Raises:
            LineageError: There is none, or it is being written.
            CorruptLogError: Its pages do not hang together.
        """
        return cls(folder, place.checked(folder, place.SHARED), write=False)

    @classmethod
    def open_to_write(cls, folder: Path) -> Store:
        """Open a store that nobody else reads or writes, in a time that does not depend on its size.

        Trust:
            The file is one's own: its pages are not all looked at, and damaged ones can crash the process.

        Raises:
            LineageError: There is none, or it is in use.
            CorruptLogError: The file was cut.
        """
        return cls(folder, place.looked_at(folder, place.ALONE), write=True)

    @classmethod
    def open_own(cls, folder: Path) -> Store:
        """Open a store of one's own to read, which nobody writes; as quick and as trusting as `open_to_write`.

        Raises:
            LineageError: There is none, or it is being written.
            CorruptLogError: The file was cut.
        """
        return cls(folder, place.looked_at(folder, place.SHARED), write=False)

    def put_group(self, group: Mapping[bytes, Sequence[Item]]) -> None:
        """Write a group, all or nothing.

        Durability: on return the group survives a crash.

        Raises:
            LineageError: It could not be written; nothing of it is there. Not to be tried again: after a failed
                flush nobody knows what the disk holds.
        """
        try:
            while True:
                try:
                    return self._put(group)
                except lmdb.MapFullError:
                    self._env.set_mapsize(2 * self._env.info()["map_size"])
        except (lmdb.Error, OSError) as error:
            raise LineageError(f"the log cannot be written: {error}") from error

    def _put(self, group: Mapping[bytes, Sequence[Item]]) -> None:
        with self._env.begin(write=True) as transaction:
            for table, items in group.items():
                for key, value in items:
                    self._put_one(transaction, table, key, value)

    def _put_one(self, transaction: Any, table: bytes, key: bytes, value: bytes) -> None:
        if table == META:  # the only table in which something is replaced
            transaction.put(key, value, db=self._tables[table])
        # append=True answers False, without an exception, for a key out of order.
        elif not transaction.put(key, value, db=self._tables[table], append=True, overwrite=False):
            raise LineageError("the log takes entries in order only")

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """Return one value."""
        with self._reading() as transaction:
            value: bytes | None = transaction.get(key, db=self._tables[table])
            return value

    def look(self, table: bytes, key: bytes, see: Callable[[memoryview], _Seen]) -> _Seen | None:
        """Return what a function sees in one value, which is not copied; None where there is none."""
        with self._reading(buffers=True) as transaction:
            value = transaction.get(key, db=self._tables[table])
            return None if value is None else see(value)

    def items(self, table: bytes, start: bytes = b"") -> Iterator[Item]:
        """Return all keys and values of a table, or those from a key on, in order."""
        with self._reading() as transaction:
            cursor = transaction.cursor(db=self._tables[table])
            if cursor.set_range(start) if start else cursor.first():
                yield from cursor

    def keys(self, table: bytes, start: bytes = b"") -> Iterator[bytes]:
        """Return all keys of a table, or those from one on, in order."""
        with self._reading() as transaction:
            cursor = transaction.cursor(db=self._tables[table])
            if cursor.set_range(start) if start else cursor.first():
                yield from cursor.iternext(values=False)

    def last(self, table: bytes, before: bytes | None = None) -> Item | None:
        """Return the last key of a table and its value, or the last one before a key."""
        with self._reading() as transaction:
            cursor = transaction.cursor(db=self._tables[table])
            found = cursor.prev() if before is not None and cursor.set_range(before) else cursor.last()
            return (cursor.key(), cursor.value()) if found else None

    def count(self, table: bytes) -> int:
        """Return how many values a table holds."""
        with self._reading() as transaction:
            return int(transaction.stat(self._tables[table])["entries"])

    @contextmanager
    def _reading(self, *, buffers: bool = False) -> Iterator[Any]:
        try:
            with self._env.begin(buffers=True) if buffers else self._env.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise CorruptLogError(f"the store cannot be read: {error}") from error

    def close(self) -> None:
        """Close the folder. Does nothing the second time."""
        self._env.close()
        place.unlock(self._lock)
        self._lock = None
