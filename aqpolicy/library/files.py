"""Find imported and extended files on disk, and compare them with the lock."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aqpolicy.diagnostics import Source
from aqpolicy.errors import InputError
from aqpolicy.library.lock import LOCK_NAME, Lock

LARGEST_FILE: Final = 4 * 1024 * 1024
"""Bytes of the largest policy file: the parser reads at most a million characters."""


def read_source(file: str | Path) -> Source:
    """Read a policy file; its name is the path as given.

    Raises:
        InputError: It cannot be read as UTF-8 text.
    """
    try:
        with Path(file).open("rb") as opened:
            return Source(str(file), opened.read(LARGEST_FILE + 1).decode("utf-8"))
    except OSError as error:
        raise InputError(f"cannot read `{file}`: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"`{file}` is not UTF-8 text") from error
    except ValueError as error:  # a path with a null character
        raise InputError(f"`{file!r}` is no path") from error


@dataclass(frozen=True, slots=True)
class Files:
    """The library of a policy on disk.

    A path is relative to the file that names it. A policy extended by its name
    `a.b` is looked for as `a/b.aqp`, `a.b.aqp` and `b.aqp`, in the folder of the
    file that names it, then in each of `roots`.
    """

    lock: Lock | None
    roots: Sequence[str] = ()
    is_locking: bool = False
    """Whether the lock is being written anew, so that no file is refused for it."""

    def imported(self, text: str, near: Source) -> Source:
        """Return the file that an `import` names."""
        return read_source(self._relative(text, near))

    def extended(self, name: str, file: str | None, near: Source) -> Source:
        """Return the file of the policy that another extends."""
        if file is not None:
            return read_source(self._relative(file, near))
        names = (name.replace(".", "/"), name, name.rpartition(".")[2])
        folders = (Path(near.name).parent, *map(Path, self.roots))
        tried = dict.fromkeys(os.path.normpath(folder / f"{stem}.aqp") for folder in folders for stem in names)
        found = next((path for path in tried if Path(path).is_file() and path != os.path.normpath(near.name)), None)
        if found is None:
            raise InputError(
                f"no file holds policy `{name}`: there is none of {', '.join(f'`{path}`' for path in tried)}"
            )
        return read_source(found)

    def refusal(self, source: Source) -> str | None:
        """Return why a file is not the one that was locked, or None."""
        if self.is_locking:
            return None
        if self.lock is None:
            return f"`{source.name}` is not locked: there is no `{LOCK_NAME}` in the policy's folder or above it"
        return self.lock.refusal(source)

    def _relative(self, text: str, near: Source) -> str:
        if Path(text).is_absolute():
            raise InputError(f"`{text}` is an absolute path; name the file relative to `{near.name}`")
        return os.path.normpath(Path(near.name).parent / text)
