"""Policies as a git revision holds them, with all that they import and extend, read by `git` itself.

A revision pins its files already, so no lock is asked.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from aqpolicy.errors import InputError

if TYPE_CHECKING:
    from aqpolicy.diagnostics import Source


@dataclass(frozen=True, slots=True)
class Revision:
    """The library of a policy in a revision; paths are relative to the current directory."""

    name: str
    roots: tuple[str, ...] = ()

    def read(self, path: str) -> Source:
        """Return a file of the revision; its name is `REVISION:path`.

        Raises:
            InputError: The revision has no such file, or git cannot be asked.
        """
        from aqpolicy.diagnostics import Source

        data = self._show(path)
        try:
            return Source(f"{self.name}:{path}", data.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"`{self.name}:{path}` is not UTF-8 text") from error

    def imported(self, text: str, near: Source) -> Source:
        """Return the file that an `import` names."""
        return self.read(self._beside(near, text))

    def extended(self, name: str, file: str | None, near: Source) -> Source:
        """Return the file of the policy that another extends."""
        if file is not None:
            return self.read(self._beside(near, file))
        stems = (name.replace(".", "/"), name, name.rpartition(".")[2])
        beside = [self._beside(near, f"{stem}.aqp") for stem in stems]
        below = [os.path.normpath(f"{root}/{stem}.aqp") for root in self.roots for stem in stems]
        return self._first(name, near, dict.fromkeys([*beside, *below]))

    def refusal(self, source: Source) -> str | None:  # noqa: ARG002 - the library's form
        """Accept everything: the revision says what its files are."""
        return None

    def _first(self, name: str, near: Source, paths: Iterable[str]) -> Source:
        for path in paths:
            if f"{self.name}:{path}" == near.name:
                continue
            try:
                return self.read(path)
            except InputError:
                continue
        raise InputError(f"no file of revision `{self.name}` holds policy `{name}`")

    def _beside(self, near: Source, text: str) -> str:
        folder = PurePosixPath(near.name.removeprefix(f"{self.name}:")).parent
        return os.path.normpath(folder / text)

    def _show(self, path: str) -> bytes:
        if self.name.startswith("-") or PurePosixPath(path).is_absolute():
            raise InputError(f"`{self.name}:{path}` is no revision and a path relative to the current directory")
        command = ["git", "cat-file", "blob", f"{self.name}:./{path}"]
        try:
            done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - no shell, and no options
        except OSError as error:
            raise InputError(f"cannot run git to read `{self.name}:{path}`: {error.strerror}") from error
        if done.returncode:
            reason = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0].removeprefix("fatal: ")
            raise InputError(f"cannot read `{self.name}:{path}`: {reason}")
        return done.stdout
