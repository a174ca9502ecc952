"""Folders that are either wholly there or not there at all.

Durability:
    On return all files and names survive a power cut; a crash before leaves at most a
    folder whose name starts with `.aqpolicy-`.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aqpolicy.errors import InputError
from aqpolicy.lineage.folder import rename


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill, and then put it at `path`; never overwrite anything.

    Raises:
        InputError: Something is at `path` already, or it cannot be written.
    """
    refuse_unless_free(path)
    beside = path.with_name(f".aqpolicy-{secrets.token_hex(8)}")
    try:
        beside.mkdir()
        try:
            yield beside
            _sync(beside)
            refuse_unless_free(path)
            rename(beside, path)  # fails where something came in between, unless it is an empty folder
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise InputError(f"cannot write `{path}`: {error.strerror or error}") from error


def refuse_unless_free(path: Path) -> None:
    """Return if a folder can be put at a path.

    Raises:
        InputError: Something is there already, or there is no folder for it.
    """
    if os.path.lexists(path):
        raise InputError(f"`{path}` exists and is not overwritten; choose another name")
    if not path.parent.is_dir():
        raise InputError(f"cannot write `{path}`: there is no folder `{path.parent}`; make it first")


def _sync(folder: Path) -> None:
    for place, _, files in os.walk(folder):
        for name in (*files, "."):
            descriptor = os.open(Path(place) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
