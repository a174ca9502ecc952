"""Folders that are either wholly there or not there at all.

Durability:
    On return all files and names survive a power cut; a crash before leaves at most a
    folder whose name starts with `.aqpolicy-`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aqpolicy.errors import InputError


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill, and then put it at `path`; never overwrite anything.

    Raises:
        InputError: Something is at `path` already, or it cannot be written.
    """
    refuse_existing(path)
    try:
        beside = Path(tempfile.mkdtemp(prefix=".aqpolicy-", dir=path.parent))
        try:
            yield beside
            beside.chmod(0o755)
            _sync(beside)
            refuse_existing(path)
            beside.rename(path)  # fails where something came in between, unless it is an empty folder
            _sync_one(path.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise InputError(f"cannot write `{path}`: {error.strerror or error}") from error


def refuse_existing(path: Path) -> None:
    """Return if nothing is at a path.

    Raises:
        InputError: Something is.
    """
    if os.path.lexists(path):
        raise InputError(f"`{path}` exists and is not overwritten; choose another name")


def _sync(folder: Path) -> None:
    for place, _, files in os.walk(folder):
        for name in files:
            _sync_one(Path(place) / name)
        _sync_one(Path(place))


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
