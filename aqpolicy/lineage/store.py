"""The only door to LMDB: a folder with entries, blocks, bodies and signed heads.

LMDB gives atomic, durable groups and nothing else: it notices no changed byte,
and a damaged file can crash whoever opens it. So pages are checked in plain
Python before LMDB sees them, and integrity is the Merkle tree's business
(`verify`). One writer, or any number of readers; never both.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb
import lmdb.verify

from aqpolicy.errors import CorruptLogError, LineageError

ENTRY: Final = b"entry"
BLOCK: Final = b"blk"
BODY: Final = b"body"
HEAD: Final = b"cp"
TABLES: Final = (ENTRY, BLOCK, BODY, HEAD)

_MAP_BYTES: Final = 1 << 36
_LOCK: Final = "writer.lock"
_NUMBER: Final = struct.Struct(">Q")
_ATTEMPT: Final = struct.Struct(">IQ")

Item = tuple[bytes, bytes]


def entry_key(index: int) -> bytes:
    """Return the key of an entry, of a body, or of a head by its size."""
    return _NUMBER.pack(index)


def block_key(attempt: int, step: int) -> bytes:
    """Return the key of a step's block."""
    return _ATTEMPT.pack(attempt, step)


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
            _unlock(lock)
            raise CorruptLogError(f"the store cannot be opened: {error}", str(file)) from error

    @classmethod
    def create(cls, folder: Path) -> Store:
        """Make an empty store.

        Durability: on return the folder and its file survive a crash.

        Raises:
            LineageError: There is one already, or it cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _locked(folder, fcntl.LOCK_EX)
            if (folder / "data.mdb").exists():
                _unlock(lock)
                raise LineageError(f"`{folder}` already holds a log; give another folder")
            store = cls(folder, lock, write=True, create=True)
            # LMDB flushes its file, but not the names of the file and its folder.
            for place in (folder, folder.parent):
                _sync_folder(place)
        except OSError as error:
            raise LineageError(f"`{folder}` cannot be made: {error.strerror}") from error
        return store

    @classmethod
    def open_to_read(cls, folder: Path) -> Store:
        """Open a store that nobody writes.

        Trust:
            The file is untrusted.

        Raises:
            LineageError: There is none, or it is being written.
            CorruptLogError: Its pages do not hang together.
        """
        return cls(folder, _checked(folder, fcntl.LOCK_SH), write=False)

    @classmethod
    def open_to_write(cls, folder: Path) -> Store:
        """Open a store that nobody else reads or writes; raises as `open_to_read` does."""
        return cls(folder, _checked(folder, fcntl.LOCK_EX), write=True)

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
                    # append=True answers False, without an exception, for a key out of order.
                    if not transaction.put(key, value, db=self._tables[table], append=True, overwrite=False):
                        raise LineageError("the log takes entries in order only")

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """Return one value."""
        with self._reading() as transaction:
            value: bytes | None = transaction.get(key, db=self._tables[table])
            return value

    def items(self, table: bytes) -> Iterator[Item]:
        """Return all keys and values of a table, in order."""
        with self._reading() as transaction:
            yield from transaction.cursor(db=self._tables[table])

    def count(self, table: bytes) -> int:
        """Return how many values a table holds."""
        with self._reading() as transaction:
            return int(transaction.stat(self._tables[table])["entries"])

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        try:
            with self._env.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise CorruptLogError(f"the store cannot be read: {error}") from error

    def close(self) -> None:
        """Close the folder. Does nothing the second time."""
        self._env.close()
        _unlock(self._lock)
        self._lock = None


def _checked(folder: Path, mode: int) -> int | None:
    """Return the lock of a folder whose pages hang together."""
    file = folder / "data.mdb"
    if not file.is_file():
        raise LineageError(f"`{folder}` holds no log")
    lock = _locked(folder, mode)
    try:
        problems: list[str] = lmdb.verify.verify(str(file), subdir=False)  # type: ignore[no-untyped-call]  # lmdb types all but this
    except (lmdb.verify.VerifyError, OSError) as error:
        problems = [str(error)]
    if problems:
        _unlock(lock)
        raise CorruptLogError(f"the pages of the store do not hang together: {problems[0]}", str(file))
    return lock


def _locked(folder: Path, mode: int) -> int | None:
    """Lock a folder; a reader of a folder that has no lock, or may not open it, does without."""
    try:
        flags = os.O_RDWR | os.O_CREAT if mode == fcntl.LOCK_EX else os.O_RDONLY
        descriptor = os.open(folder / _LOCK, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if mode == fcntl.LOCK_SH:
            return None
        raise LineageError(f"`{folder}` cannot be locked: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise LineageError(f"another process writes `{folder}`, or reads it; try again when it has ended") from error
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
