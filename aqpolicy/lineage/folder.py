"""The folder of a store, before LMDB sees it: who may have it open, and whether its file is one.

A damaged file can crash whoever hands it to LMDB, which maps it and follows its
page numbers.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

import lmdb.verify

from aqpolicy.errors import CorruptLogError, LineageError

ALONE: Final = fcntl.LOCK_EX
SHARED: Final = fcntl.LOCK_SH

_LOCK: Final = "writer.lock"
_LMDB: Final = 0xBEEFC0DE
_LARGEST_PAGE: Final = 1 << 16
_META: Final = struct.Struct("=16xI20xI92xQ")
"""Of each of the first two pages: a mark, the size of a page, and the last page in use."""


def checked(folder: Path, mode: int) -> int | None:
    """Return the lock of a folder whose pages all hang together; that takes time by its size.

    Raises:
        LineageError: There is no log, or it is in use.
        CorruptLogError: They do not.
    """
    lock = _of_a_log(folder, mode)
    return _with_whole_pages(folder / "data.mdb", lock)


def looked_at(folder: Path, mode: int) -> int | None:
    """Return the lock of a folder whose file was not cut; all its pages are looked at only if it may have been.

    Raises:
        LineageError: There is no log, or it is in use.
        CorruptLogError: It was cut.
    """
    lock, file = _of_a_log(folder, mode), folder / "data.mdb"
    return lock if _has_all_pages(file) else _with_whole_pages(file, lock)


def _of_a_log(folder: Path, mode: int) -> int | None:
    if not (folder / "data.mdb").is_file():
        raise LineageError(f"`{folder}` holds no log; begin the run, or give another folder")
    return locked(folder, mode)


def _with_whole_pages(file: Path, lock: int | None) -> int | None:
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            found = lmdb.verify._Verifier(opened, size)  # type: ignore[no-untyped-call]  # noqa: SLF001  # see below
            problems: list[str] = found.verify()  # type: ignore[no-untyped-call]  # lmdb types all but this
        # Of a value of several pages it looks at the first alone; LMDB then reads behind the end of the file.
        if not problems and any(found.live[size // found.psize :]):
            problems = ["a page in use lies beyond the end of the file"]
    except (lmdb.verify.VerifyError, OSError) as error:
        problems = [str(error)]
    if problems:
        unlock(lock)
        raise CorruptLogError(f"the pages of the store do not hang together: {problems[0]}", str(file))
    return lock


def _has_all_pages(file: Path) -> bool:
    """Return whether the file is certainly as long as its heads say. One that ends with unused pages may be shorter."""
    try:
        with file.open("rb") as opened:
            data, size = opened.read(_LARGEST_PAGE + _META.size), os.fstat(opened.fileno()).st_size
    except OSError:
        return False
    if len(data) < _META.size:
        return False
    mark, page, last = _META.unpack_from(data)
    if mark != _LMDB or page > _LARGEST_PAGE or len(data) < page + _META.size:
        return False
    other_mark, _, other_last = _META.unpack_from(data, page)
    return bool(other_mark == _LMDB and (max(last, other_last) + 1) * page <= size)


def locked(folder: Path, mode: int) -> int | None:
    """Lock a folder; a reader of a folder that has no lock, or may not open it, does without."""
    try:
        flags = os.O_RDWR | os.O_CREAT if mode == ALONE else os.O_RDONLY
        descriptor = os.open(folder / _LOCK, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if mode == SHARED:
            return None
        raise LineageError(f"`{folder}` cannot be locked: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise LineageError(f"another process writes `{folder}`, or reads it; try again when it has ended") from error
    return descriptor


def unlock(lock: int | None) -> None:
    """Let go of a folder."""
    if lock is not None:
        os.close(lock)


def make(folder: Path) -> None:
    """Make a folder whose name survives a crash, and those above it.

    Raises:
        OSError: They cannot be made.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync(each.parent)


def clear(folder: Path) -> None:
    """Remove the files of a store from a folder that is locked.

    Raises:
        OSError: They cannot be removed.
    """
    for name in ("data.mdb", "lock.mdb"):
        (folder / name).unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove the folder of a store, if there is one and it holds nothing else.

    Raises:
        OSError: It cannot be removed.
    """
    if folder.exists():
        clear(folder)
        (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()


def rename(folder: Path, name: Path) -> None:
    """Give a folder and all that it holds another name; whatever crashes, they have one of the two.

    Raises:
        OSError: The name is taken, or cannot be given.
    """
    sync(folder)
    folder.rename(name)
    sync(name.parent)


def sync(folder: Path) -> None:
    """Make the names in a folder survive a crash.

    Raises:
        OSError: They do not.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
