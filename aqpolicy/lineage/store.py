"""The only door to LMDB: a folder with entries, blocks and signed heads.

LMDB gives atomic, durable groups and nothing else: it notices no changed byte.
Integrity is the Merkle tree's business (`verify`). One writer at a time, by lock.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb

from aqpolicy.errors import CorruptLogError, LineageError

TABLES: Final = (b"entry", b"blk", b"cp", b"meta")
_MAP_SIZE: Final = 1 << 36
_NUMBER: Final = struct.Struct(">Q")
_ATTEMPT: Final = struct.Struct(">IQ")


def entry_key(index: int) -> bytes:
    """Return the key of an entry or of a head."""
    return _NUMBER.pack(index)


def block_key(attempt: int, step: int) -> bytes:
    """Return the key of a step's block."""
    return _ATTEMPT.pack(attempt, step)


class Store:
    """An open folder. Read through `items` and `get`, write through `put_group`."""

    def __init__(self, folder: Path, *, create: bool = False, write: bool = False) -> None:
        """Open the folder.

        Raises:
            LineageError: It does not exist, exists already (when creating), or another process writes it.
            CorruptLogError: LMDB cannot open it.
        """
        self._lock: int | None = None
        if create:
            if (folder / "data.mdb").exists():
                raise LineageError(f"`{folder}` already holds a log; give another folder")
            folder.mkdir(parents=True, exist_ok=True)
        elif not (folder / "data.mdb").is_file():
            raise LineageError(f"`{folder}` holds no log")
        if write or create:
            self._take_lock(folder)
        try:
            self._env = lmdb.open(
                str(folder),
                map_size=_MAP_SIZE if write or create else max((folder / "data.mdb").stat().st_size, 1 << 20),
                max_dbs=len(TABLES),
                mode=0o600,
                sync=True,
                metasync=True,
                readonly=not (write or create),
                lock=write or create,
                readahead=True,
            )
            self._dbs = {name: self._env.open_db(name, create=create) for name in TABLES}
        except (lmdb.Error, OSError) as error:
            self._release()
            raise CorruptLogError(f"the store cannot be opened: {error}") from error
        if create:
            for place in (folder, folder.parent):
                _sync_folder(place)

    def _take_lock(self, folder: Path) -> None:
        self._lock = os.open(folder / "writer.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._release()
            raise LineageError(f"another process writes `{folder}`") from error

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def put_group(self, new: Mapping[bytes, list[tuple[bytes, bytes]]], meta: Mapping[bytes, bytes]) -> None:
        """Write a group, all or nothing.

        Durability: on return the group survives a crash.

        Raises:
            LineageError: It could not be written; nothing of it is there.
        """
        try:
            with self._env.begin(write=True) as transaction:
                for table, items in new.items():
                    for key, value in items:
                        # append=True answers False, without an exception, for a key out of order.
                        if not transaction.put(key, value, db=self._dbs[table], append=True, overwrite=False):
                            raise LineageError("a log takes entries in order only")
                for key, value in meta.items():
                    transaction.put(key, value, db=self._dbs[b"meta"])
        except (lmdb.Error, OSError) as error:
            raise LineageError(f"the log cannot be written: {error}") from error

    def get(self, table: bytes, key: bytes) -> bytes | None:
        """Return one value."""
        with self._reading() as transaction:
            value = transaction.get(key, db=self._dbs[table])
            return None if value is None else bytes(value)

    def items(self, table: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Return all keys and values of a table, in order."""
        with self._reading() as transaction:
            for key, value in transaction.cursor(db=self._dbs[table]):
                yield bytes(key), bytes(value)

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        try:
            with self._env.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise CorruptLogError(f"the store cannot be read: {error}") from error

    def close(self) -> None:
        """Close the folder."""
        self._env.close()
        self._release()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
