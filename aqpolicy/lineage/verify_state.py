"""How far a verification came that was interrupted: a file of the auditor's own.

It spares a second run the rows that a first one has checked, nothing else: all
entries and all signed heads are read again, and the sums that it names must be
those that the signed entries name. It counts for one head and one store that
nobody has written to since; for another one the verification begins anew.

Trust:
    Whoever can write to the file can make a second run pass over rows. So it must
    belong to the user and be writable by nobody else, and the report says how many
    steps an earlier run is believed on.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aqpolicy import __version__
from aqpolicy.errors import CanonicalError, InputError
from aqpolicy.trust import Checkpoint, canonical_json, digest_text, parse_canonical, replace_file, sha256

_FORMAT: Final = "aqpolicy verification 1"
_LARGEST: Final = 64 * 1024 * 1024
_FIELDS: Final = {"aqpolicy", "digest", "entries", "format", "head", "models", "origin", "store", "tally"}


@dataclass(frozen=True, slots=True)
class Reached:
    """What is checked: the rows of all steps below an entry."""

    entries: int
    """Index of the first entry whose rows are not checked."""
    tally: bytes
    """What the steps before it add up to."""
    models: dict[int, bytes]
    """What they added up to at the model entries among them, by index."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is being verified."""

    origin: str
    head: Checkpoint
    """The newest signed one."""
    store: bytes
    """Changes whenever somebody writes to the store."""

    @classmethod
    def of(cls, run: Path, head: Checkpoint) -> Subject:
        """Look at the store of a run."""
        found = (run / "lineage" / "data.mdb").stat()
        seen = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        return cls(head.origin, head, sha256(repr(seen).encode()))


class StateFile:
    """The file."""

    def __init__(self, place: Path | str, subject: Subject) -> None:
        """Name the file; there need be none yet."""
        self._place, self._subject = Path(place), subject

    def read(self) -> Reached | None:
        """Return how far an earlier run came; None where nothing of it counts.

        Raises:
            InputError: The file cannot be read, others may write to it, or it belongs to another log.
            CanonicalError: It holds something else.
        """
        data = self._bytes()
        if data is None:
            return None
        facts = _facts(data, self._place)
        if facts["origin"] != self._subject.origin:
            raise InputError(f"the state `{self._place}` belongs to another log; give another file")
        is_same = all(facts[name] == value for name, value in _said(self._subject).items())
        return _reached(facts, self._place) if is_same else None

    def _bytes(self) -> bytes | None:
        try:
            with open(self._place, "rb", opener=_opened) as file:  # a `Path` takes no opener
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
                    raise InputError(f"others may write to the state `{self._place}`; remove it to begin anew")
                return file.read(_LARGEST + 1)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read the state `{self._place}`: {error}") from error

    def write(self, reached: Reached) -> None:
        """Put down how far the verification came.

        Durability: on return it survives a crash; a crash before leaves what was there.

        Raises:
            InputError: The file cannot be written.
        """
        facts = {
            **_said(self._subject),
            "entries": reached.entries,
            "tally": reached.tally.hex(),
            "models": {str(index): state.hex() for index, state in reached.models.items()},
        }
        replace_file(self._place, canonical_json({**facts, "digest": _digest(facts)}) + b"\n", 0o600)

    def remove(self) -> None:
        """Remove the file of a verification that is complete."""
        self._place.unlink(missing_ok=True)


def _opened(place: str, flags: int) -> int:
    return os.open(place, flags | os.O_NOFOLLOW | os.O_NONBLOCK)  # a link is another's file, a pipe could wait for ever


def _said(subject: Subject) -> dict[str, str]:
    """Return what must be the same for a file to count."""
    return {
        "format": _FORMAT,
        "aqpolicy": __version__,
        "origin": subject.origin,
        "head": f"{subject.head.size} {digest_text(subject.head.root)}",
        "store": subject.store.hex(),
    }


def _digest(facts: dict[str, Any]) -> str:
    return digest_text(sha256(canonical_json(facts)))


def _facts(data: bytes, place: Path) -> dict[str, Any]:
    """Return what the bytes of a file say, wherever it comes from."""
    try:
        facts = parse_canonical(data[:-1]) if data.endswith(b"\n") and len(data) <= _LARGEST else None
    except CanonicalError as error:
        raise _refused(place) from error
    if not isinstance(facts, dict) or set(facts) != _FIELDS:
        raise _refused(place)
    if facts.pop("digest") != _digest(facts):
        raise _refused(place)
    return facts


def _reached(facts: dict[str, Any], place: Path) -> Reached:
    entries, models = facts["entries"], facts["models"]
    if type(entries) is not int or entries < 0 or not isinstance(models, dict):
        raise _refused(place)
    try:
        states = {int(index): bytes.fromhex(state) for index, state in models.items()}
        return Reached(entries, bytes.fromhex(facts["tally"]), states)
    except (ValueError, TypeError) as error:
        raise _refused(place) from error


def _refused(place: Path) -> CanonicalError:
    return CanonicalError(f"`{place}` holds no state of a verification; remove it to begin anew")
