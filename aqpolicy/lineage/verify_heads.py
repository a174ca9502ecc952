"""The signed heads of a log, and the one that an auditor remembers.

A log that is whole and signed may still be an older one, or another one: only a
head that was kept elsewhere tells. A remembered head beyond the log is a
*rollback*; one that the log's entries do not lead to is a *fork*.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aqpolicy.errors import CanonicalError, CorruptLogError, ForkedLogError, InputError, TrustError
from aqpolicy.lineage.reader import LineageReader
from aqpolicy.trust import Checkpoint, Keyring, open_checkpoint, replace_file

_LARGEST_NOTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Heads:
    """Every signed head that a log kept, by size; the newest one also as it was signed."""

    by_size: dict[int, Checkpoint]
    newest: Checkpoint
    note: bytes


def signed_heads(reader: LineageReader, keyring: Keyring) -> Heads:
    """Return the heads of a log, after comparing them with `head.note` and the number of entries.

    Raises:
        ForkedLogError: The log is shorter than a head, or its head is another one.
        CorruptLogError: A head is not signed, or an entry lies beyond all of them.
    """
    count, published = reader.size, reader.checkpoint
    if count < published.size:
        raise ForkedLogError(
            f"ROLLBACK: the log holds {count} entries, its signed head {published.size}: it was cut or rolled back"
        )
    heads: dict[int, Checkpoint] = {}
    note = b""
    for size, note in reader.heads():
        heads[size] = _opened(size, note, reader, keyring)
    if heads.get(published.size) != published:
        raise ForkedLogError(
            f"FORK: the signed head of size {published.size} and the log contradict each other: there are two logs"
        )
    newest = heads[max(heads)]
    if newest.size > count:
        raise ForkedLogError(
            f"ROLLBACK: the log holds {count} entries, its newest signed head {newest.size}: it was cut"
        )
    if newest.size < count:
        raise CorruptLogError("the entry lies beyond the newest signed head", f"entry {newest.size}")
    return Heads(heads, newest, note)


def _opened(size: int, note: bytes, reader: LineageReader, keyring: Keyring) -> Checkpoint:
    where = f"head of size {size}"
    try:
        head = open_checkpoint(note, keyring.keys("log"))
    except TrustError as error:
        raise CorruptLogError(f"a signed head is damaged: {error}", where) from error
    if (head.size, head.origin) != (size, reader.genesis["origin"]):
        raise CorruptLogError("a signed head is not the one that belongs here", where)
    return head


class RememberedHead:
    """A head that the auditor keeps in a file of his own."""

    def __init__(self, file: Path | str, keyring: Keyring, origin: str) -> None:
        """Read the file; there need be none yet.

        Trust:
            The file is the auditor's, but it counts only what a trusted key signed.

        Raises:
            InputError: The file cannot be read, or holds the head of another log.
            TrustError: It holds no head, or none that a trusted key signed.
        """
        self._file = Path(file)
        self._note = self._read()
        self.head: Checkpoint | None = None
        """None the first time: then the log is believed to be the right one."""
        if self._note is None:
            return
        try:
            self.head = open_checkpoint(self._note, keyring.keys("log"))
        except CanonicalError as error:
            raise CanonicalError(f"`{file}` holds no signed head: {error}") from error
        if self.head.origin != origin:
            raise InputError(f"`{file}` holds the head of another log, `{self.head.origin}`; give another file")

    def _read(self) -> bytes | None:
        try:
            with self._file.open("rb") as file:
                return file.read(_LARGEST_NOTE)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read the remembered head `{self._file}`: {error}") from error

    def refuse_rollback(self, heads: Heads) -> None:
        """Return if the log is not shorter than what is remembered.

        Raises:
            ForkedLogError: It is.
        """
        if self.head is not None and self.head.size > heads.newest.size:
            raise ForkedLogError(
                f"ROLLBACK: the log has {heads.newest.size} entries, the remembered head {self.head.size}; "
                "entries were taken away since then"
            )

    def refuse_fork(self, root: bytes) -> None:
        """Return if the first entries of the log, as many as the remembered head has, have this head's root.

        Raises:
            ForkedLogError: They have another one.
        """
        if self.head is not None and self.head.root != root:
            raise ForkedLogError(
                f"FORK: the log and the remembered head of size {self.head.size} contradict each other; "
                "the two heads prove it: see `aqpolicy log compare`"
            )

    def remember(self, heads: Heads) -> None:
        """Put the newest head into the file.

        Durability: on return it survives a crash; a crash before leaves the older one.

        Raises:
            InputError: The file cannot be written.
        """
        if heads.note != self._note:
            replace_file(self._file, heads.note)
