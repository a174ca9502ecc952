"""Files that are either wholly there or not there at all.

Durability:
    On return the bytes and the name survive a power cut; a crash before leaves
    the old file (or none) and at most a file whose name starts with `.aqpolicy-`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aqpolicy.errors import InputError


def write_new(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Create a file; never overwrite one.

    Raises:
        InputError: Something is at `path` already, or it cannot be written.
    """
    with _written_beside(path, data, mode) as finished:
        # A hard link, unlike a rename, fails where the name is taken.
        os.link(finished, path)


def replace_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Create a file or put it in the place of the one that is there.

    Raises:
        InputError: The file cannot be written.
    """
    with _written_beside(path, data, mode) as finished:
        finished.replace(path)


@contextmanager
def _written_beside(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    try:
        handle, name = tempfile.mkstemp(prefix=".aqpolicy-", dir=path.parent)
        finished = Path(name)
        try:
            with open(handle, "wb") as file:  # noqa: PTH123  # a descriptor, not a path
                file.write(data)
                file.flush()
                os.fchmod(handle, mode)
                os.fsync(handle)
            yield finished
        finally:
            finished.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except FileExistsError as error:
        raise InputError(f"`{path}` exists and is not overwritten; choose another name") from error
    except OSError as error:
        raise InputError(f"cannot write `{path}`: {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
