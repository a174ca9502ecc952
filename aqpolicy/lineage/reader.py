"""Read the log of a run: its first entry, its steps, its signed head.

Reading checks each step against its own entry; that the entries are those that
were signed is `verify_log`'s business, which also says where damage lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from aqpolicy.errors import CorruptLogError, LineageError, SignatureError, TrustError
from aqpolicy.lineage.entry import CKPT, GENESIS, STATUS, STEP, StepEntry, decode_entry, decode_facts, decode_step
from aqpolicy.lineage.record import Layout, RawBlock, StepBlock, cut_block, decode_block
from aqpolicy.lineage.store import Store, block_key, entry_key
from aqpolicy.trust import Checkpoint, Keyring, open_checkpoint


class LineageReader:
    """An open log; a context manager."""

    def __init__(self, run: Path | str, keyring: Keyring) -> None:
        """Open the log in a run's folder; its head must be signed by a key of role `log`.

        Raises:
            LineageError: There is no log, or its head is missing.
            CorruptLogError: The first entry or the head is damaged.
            SignatureError: No trusted key signed the head.
        """
        self.run = Path(run)
        self._store = Store(self.run / "lineage")
        try:
            self.genesis = self._genesis()
            self.layout = Layout(len(self.genesis["groups"]), len(self.genesis["budgets"]))
            self.note = self._note()
            try:
                self.checkpoint: Checkpoint = open_checkpoint(self.note, keyring.keys("log"))
            except SignatureError:
                raise
            except TrustError as error:
                raise CorruptLogError(f"the signed head is damaged: {error}", "head.note") from error
            if self.checkpoint.origin != self.genesis["origin"]:
                raise CorruptLogError("the signed head is that of another log", "head.note")
        except BaseException:
            self._store.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the log."""
        self._store.close()

    def _note(self) -> bytes:
        path = self.run / "head.note"
        try:
            return path.read_bytes()
        except OSError as error:
            raise LineageError(f"`{path}` cannot be read: {error.strerror}") from error

    def _genesis(self) -> dict[str, Any]:
        data = self._store.get(b"entry", entry_key(0))
        if data is None:
            raise CorruptLogError("the log has no first entry", "entry 0")
        kind, payload = decode_entry(data)
        facts: dict[str, Any] = decode_facts(payload)
        names = [facts.get("groups"), facts.get("budgets")]
        if kind != GENESIS or not all(
            isinstance(value, list) and all(isinstance(name, str) for name in value) for value in names
        ):
            raise CorruptLogError("the first entry does not describe a run", "entry 0")
        return facts

    def raw_entries(self) -> Iterator[tuple[int, bytes]]:
        """Return every entry's index and bytes, in order.

        Raises:
            CorruptLogError: An index is missing.
        """
        for expected, (key, data) in enumerate(self._store.items(b"entry")):
            if key != entry_key(expected):
                raise CorruptLogError("the entry is missing", f"entry {expected}")
            yield expected, data

    def facts(self, kind: int) -> list[dict[str, Any]]:
        """Return what the entries of a rare kind say, in order."""
        decoded = (decode_entry(data) for _, data in self.raw_entries())
        return [decode_facts(payload) for found, payload in decoded if found == kind]

    @property
    def models(self) -> list[dict[str, Any]]:
        """The models published by the run."""
        return self.facts(CKPT)

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """Events about credentials."""
        return self.facts(STATUS)

    def step_entries(self) -> Iterator[tuple[int, StepEntry]]:
        """Return every step's place in the log and its entry."""
        for index, data in self.raw_entries():
            kind, payload = decode_entry(data)
            if kind == STEP:
                yield index, decode_step(payload)

    def raw_block(self, entry: StepEntry) -> RawBlock:
        """Return the block of a step, cut but not compared with anything."""
        where = f"step {entry.step}"
        data = self._store.get(b"blk", block_key(entry.attempt, entry.step))
        if data is None:
            raise CorruptLogError("the block is missing", where)
        try:
            return cut_block(data, self.layout)
        except CorruptLogError as error:
            raise CorruptLogError(error.problem, ", ".join(filter(None, (where, error.where)))) from error

    def block(self, entry: StepEntry) -> StepBlock:
        """Return the record of a step.

        Raises:
            CorruptLogError: It is not what the entry commits to.
        """
        raw = self.raw_block(entry)
        if raw.root != entry.inner_root:
            raise CorruptLogError("the rows are not those of the signed entry", f"step {entry.step}")
        return decode_block(raw, self.layout)

    def steps(self) -> Iterator[StepBlock]:
        """Return every step's record, in order."""
        for _, entry in self.step_entries():
            yield self.block(entry)

    def step(self, number: int) -> StepBlock:
        """Return the record of one step.

        Raises:
            LineageError: The log has no such step.
        """
        for _, entry in self.step_entries():
            if entry.step == number:
                return self.block(entry)
        raise LineageError(f"the log has no step {number}")

    def heads(self) -> Iterator[bytes]:
        """Return every signed head that the log kept, oldest first."""
        return (note for _, note in self._store.items(b"cp"))
