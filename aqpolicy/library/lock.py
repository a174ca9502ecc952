"""The lock: which bytes a policy's imported and extended files had when somebody reviewed them.

A file `aqpolicy.lock` lies in the policy's folder or in one above it, and names
files relative to its own folder. What it does not name is not locked, and is
refused: a policy must not change because a file elsewhere did.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from aqpolicy.diagnostics import Source
from aqpolicy.errors import InputError
from aqpolicy.trust import digest_text, sha256

LOCK_NAME: Final = "aqpolicy.lock"
FORMAT: Final = "aqpolicy lock 1"
LARGEST_FILE: Final = 4 * 1024 * 1024

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Lock:
    """Digests of files by their path, relative to `folder`."""

    folder: Path
    files: Mapping[str, str]

    def refusal(self, source: Source) -> str | None:
        """Return why a file is not as it was locked, or None."""
        name = relative_name(source, self.folder)
        if name not in self.files:
            return f"`{name}` is not in the lock `{self.folder / LOCK_NAME}`"
        if self.files[name] != source_digest(source):
            return f"`{name}` is not the file that was locked: it has changed since"
        return None


def source_digest(source: Source) -> str:
    """Return the digest of a source's text, as locks and bundles write it."""
    return digest_text(sha256(source.text.encode("utf-8", "surrogatepass")))


def relative_name(source: Source, folder: Path) -> str:
    """Return a source's path as seen from a folder, with slashes on every system."""
    return Path(os.path.relpath(source.name, folder)).as_posix()


def find_lock(policy: Path) -> Path | None:
    """Return the nearest lock: in the policy's folder, or in one above it."""
    folder = policy.resolve().parent
    found = (place / LOCK_NAME for place in (folder, *folder.parents))
    return next((path for path in found if path.is_file()), None)


def load_lock(path: Path) -> Lock:
    """Read a lock.

    Raises:
        InputError: It cannot be read, or is no lock.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error
    return Lock(path.parent, _decode(data, path))


def encode_lock(files: Mapping[str, str]) -> bytes:
    """Return the bytes of a lock, one file a line, so that a review shows what changed."""
    return (json.dumps({"files": dict(sorted(files.items())), "format": FORMAT}, indent=2) + "\n").encode()


def _decode(data: bytes, path: Path) -> dict[str, str]:
    if len(data) > LARGEST_FILE:
        _refuse(path, f"it has more than {LARGEST_FILE} bytes")
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        _refuse(path, f"it is not JSON: {error}")
    if not isinstance(value, dict) or value.keys() != {"files", "format"} or value["format"] != FORMAT:
        _refuse(path, f"its members are not `files` and `format`, or its format is not `{FORMAT}`")
    files = value["files"]
    if not isinstance(files, dict) or not all(isinstance(d, str) and _DIGEST.fullmatch(d) for d in files.values()):
        _refuse(path, "its files have no digests `sha256:...`")
    return files


def _refuse(path: Path, problem: str) -> NoReturn:
    raise InputError(f"`{path}` is no lock: {problem}; write it anew with `aqpolicy lock`")
