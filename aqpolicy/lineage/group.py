"""Entries that become durable together, with what belongs to them and the head that signs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aqpolicy.errors import AqpolicyError, LineageError
from aqpolicy.lineage.entry import encode_entry
from aqpolicy.lineage.state import STATE_KEY, State
from aqpolicy.lineage.store import ENTRY, HEAD, META, Item, Store, entry_key
from aqpolicy.trust import Checkpoint, Frontier, SigningKey, leaf_hash, replace_file, sign_checkpoint


class Group:
    """What waits to become durable, and how."""

    def __init__(self, run: Path, store: Store, signer: SigningKey, origin: str, frontier: Frontier) -> None:
        """Take over an open store whose entries have this frontier."""
        self.store = store
        self._run, self._signer, self._origin, self._frontier = run, signer, origin, frontier
        self._begin = frontier.to_bytes()
        self._items: dict[bytes, list[Item]] = {}
        self._note = b""
        """The newest head, where it is not published yet."""
        self.dead = ""
        """Why nothing more is taken; empty while all is well."""

    @property
    def size(self) -> int:
        """How many entries the log has, those that wait included."""
        return self._frontier.size

    def append(self, kind: int, payload: bytes) -> int:
        """Take an entry and return its index.

        Raises:
            LineageError: It is too large, or the log takes no more.
        """
        self.refuse_when_dead()
        data, index = encode_entry(kind, payload), self._frontier.size
        self.add(ENTRY, entry_key(index), data)
        self._frontier.append(leaf_hash(data))
        return index

    def add(self, table: bytes, key: bytes, value: bytes) -> None:
        """Take what belongs to an entry."""
        self._items.setdefault(table, []).append((key, value))

    def commit(self, state: Callable[[bytes], State], *, publish: bool) -> None:
        """Make what waits durable, under a head that signs it, and publish the head if asked.

        Args:
            state: Returns the state of the log, given the frontier before the group.
            publish: Whether `head.note` is replaced.

        Raises:
            LineageError: The log cannot be written; from then on nothing is taken.
        """
        self.refuse_when_dead()
        self.guard(lambda: self._commit(state, publish=publish))

    def _commit(self, state: Callable[[bytes], State], *, publish: bool) -> None:
        if self._items:
            checkpoint = Checkpoint(self._origin, self._frontier.size, self._frontier.root())
            note = sign_checkpoint(checkpoint, self._signer).encode("utf-8")
            self.add(HEAD, entry_key(checkpoint.size), note)
            self.add(META, STATE_KEY, state(self._begin).signed(self._signer))
            self.store.put_group(self._items)
            self._items, self._begin, self._note = {}, self._frontier.to_bytes(), note
        if publish and self._note:
            # After the group: a head that names entries which a crash could still take would read as a rollback.
            replace_file(self._run / "head.note", self._note)
            self._note = b""

    def guard(self, do: Callable[[], None]) -> None:
        """Do something after whose failure, or interruption, the log takes nothing more.

        Raises:
            LineageError: It failed.
        """
        self.dead = "an earlier group was interrupted"
        try:
            do()
        except AqpolicyError as error:
            self.dead = str(error)
            raise LineageError(f"the log cannot be written, training must stop: {error}") from error
        self.dead = ""

    def refuse_when_dead(self) -> None:
        """Return if the log takes more."""
        if self.dead:
            raise LineageError(f"the log takes no more entries: {self.dead}")

    def close(self, reason: str) -> None:
        """Close the store; what still waits is lost. Does nothing the second time."""
        self.dead = self.dead or reason
        self.store.close()
