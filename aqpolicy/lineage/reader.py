"""Read the log of a run: its first entry, its steps, its signed head.

Reading checks each step against its own entry; that the entries are those that
were signed is `verify_log`'s business, which also says where damage lies.

Where training went back to a published model (RESUME), the steps after it count no
longer: they are *superseded*. Everything here leaves them out unless asked for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from aqpolicy.errors import CanonicalError, CorruptLogError, LineageError
from aqpolicy.lineage.attempts import Attempts, told
from aqpolicy.lineage.block import RawBlock, StepBlock, cut_block, decode_blocks, key_of_row
from aqpolicy.lineage.entry import (
    CKPT,
    SEAL,
    STATUS,
    STEP,
    StepEntry,
    decode_entry,
    decode_facts,
    decode_step,
)
from aqpolicy.lineage.genesis import layout_of, parse_genesis
from aqpolicy.lineage.store import (
    BLOCK,
    BODY,
    ENTRY,
    HEAD,
    RUN,
    Store,
    block_key,
    entry_key,
    run_key,
)
from aqpolicy.trust import Checkpoint, Keyring, digest_text, open_checkpoint, root_of, sha256

_LARGEST_NOTE: Final = 1_000_000


class LineageReader:
    """An open log; a context manager. No writer may have it open."""

    def __init__(self, run: Path | str, keyring: Keyring, *, store: Store | None = None) -> None:
        """Open the log in a run's folder; its head must be signed by a key of role `log`.

        Trust:
            Everything in the folder is untrusted; the keyring is the caller's.

        Raises:
            LineageError: There is no log, its head is missing, it is being written, or it has another format.
            CorruptLogError: The store, the first entry or the head is damaged.
            SignatureError: No trusted key signed the head.
        """
        self.run = Path(run)
        self.store = store or Store.open_to_read(self.run / "lineage")
        """The open folder; nothing of it was compared with a signature."""
        try:
            self.genesis = self._genesis()
            self.layout = layout_of(self.genesis)
            self.note = self._note()
            try:
                self.checkpoint: Checkpoint = open_checkpoint(self.note, keyring.keys("log"))
            except CanonicalError as error:
                raise CorruptLogError(f"the signed head is damaged: {error}", "head.note") from error
            if self.checkpoint.origin != self.genesis["origin"]:
                raise CorruptLogError("the signed head is that of another log", "head.note")
        except BaseException:
            self.store.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the log."""
        self.store.close()

    def _note(self) -> bytes:
        path = self.run / "head.note"
        try:
            with path.open("rb") as file:
                return file.read(_LARGEST_NOTE + 1)
        except FileNotFoundError as error:
            said = (
                "was killed while it was begun, or its head was taken away; begin the run again, or put the head back"
            )
            raise LineageError(f"the log has no signed head `{path}`: it {said}") from error
        except OSError as error:
            raise LineageError(f"the signed head `{path}` cannot be read: {error.strerror}") from error

    def _genesis(self) -> dict[str, Any]:
        data = self.store.get(ENTRY, entry_key(0))
        if data is None:
            raise CorruptLogError("the log has no first entry", "entry 0")
        return parse_genesis(data)

    @property
    def size(self) -> int:
        """How many entries the store holds."""
        return self.store.count(ENTRY)

    @property
    def blocks(self) -> int:
        """How many blocks the store holds."""
        return self.store.count(BLOCK)

    @property
    def bodies(self) -> int:
        """How many bodies the store holds."""
        return self.store.count(BODY)

    def raw_entries(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Return index and bytes of every entry, or of those from `start` to before `stop`, in order.

        Raises:
            CorruptLogError: An index is missing.
        """
        for expected, (key, data) in enumerate(self.store.items(ENTRY, entry_key(start)), start):
            if expected == stop:
                return
            if key != entry_key(expected):
                raise CorruptLogError("the entry is missing", f"entry {expected}")
            yield expected, data

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int, bytes]]:
        """Return index, kind and payload of entries, as `raw_entries`."""
        for index, data in self.raw_entries(start, stop):
            yield index, *_decoded(index, data)

    def entry(self, index: int) -> bytes:
        """Return the bytes of one entry.

        Raises:
            LineageError: The log has no such entry.
        """
        data = self.store.get(ENTRY, entry_key(index)) if 0 <= index < 1 << 63 else None
        if data is None:
            raise LineageError(f"the log has no entry {index}")
        return data

    def facts(self, kind: int) -> list[tuple[int, dict[str, Any]]]:
        """Return place in the log and content of all entries of a rare kind, superseded ones included, in order."""
        return [(index, _facts(index, payload)) for index, found, payload in self.entries() if found == kind]

    @property
    def models(self) -> list[dict[str, Any]]:
        """The models published by the run: `entry`, `step`, `model` (digest) and what was said of each."""
        found = told(self.entries(), int(self.genesis["first_step"]))
        return [{**self.body(index, facts), **facts, "entry": index} for index, kind, _, facts in found if kind == CKPT]

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """Events of the run and about credentials, in the order of the log."""
        return [facts for _, facts in self.events]

    @property
    def events(self) -> list[tuple[int, dict[str, Any]]]:
        """The same, each with the number of the run's steps before it."""
        found = told(self.entries(), int(self.genesis["first_step"]))
        return [(steps, facts) for _, kind, steps, facts in found if kind == STATUS]

    def body(self, index: int, facts: dict[str, Any]) -> dict[str, Any]:
        """Return what a model entry commits to by digest because it is too large for an entry.

        Raises:
            CorruptLogError: It is missing, or not what the entry commits to.
        """
        return decode_facts(self.raw_body(index, facts.get("body")))

    def raw_body(self, index: int, digest: object) -> bytes:
        """Return the bytes that belong to an entry and have a digest, given as text; raises as `body` does."""
        data = self.store.get(BODY, entry_key(index))
        if data is None or digest_text(sha256(data)) != digest:
            raise CorruptLogError("the body of the entry is not what was signed", f"entry {index}")
        return data

    @cached_property
    def _attempts(self) -> Attempts:
        return Attempts.of(self.store, int(self.genesis["first_step"]))

    def step_entries(self, *, superseded: bool = False) -> Iterator[tuple[int, StepEntry]]:
        """Return every step's place in the log and its entry.

        Args:
            superseded: Also of steps that count no longer.
        """
        for index, kind, payload in self.entries():
            if kind == STEP:
                entry = decode_step(payload)
                if superseded or self._attempts.counts(entry.step, entry.attempt):
                    yield index, entry

    def index_of_step(self, step: int, attempt: int | None = None) -> int:
        """Return the place of a step in the log, as its block tells it.

        Args:
            step: Number of the step.
            attempt: Number of the attempt; without it, the one that counts.

        Raises:
            LineageError: The log has no such step.
            CorruptLogError: The block does not tell.
        """
        wanted = self._attempts.of_step(step) if attempt is None else attempt
        data = None if wanted is None else self.store.get(BLOCK, block_key(wanted, step))
        if data is None:
            raise LineageError(f"the log has no step {step}" + ("" if attempt is None else f" of attempt {attempt}"))
        where = f"step {step}"
        index = self._cut(data, where).entry
        found = self.store.get(ENTRY, entry_key(index))
        kind, payload = (0, b"") if found is None else _decoded(index, found)
        entry = decode_step(payload) if kind == STEP else None
        if entry is None or (entry.step, entry.attempt) != (step, wanted):
            raise CorruptLogError("the block names an entry that is not its own", where)
        return index

    def raw_block(self, entry: StepEntry, rank: int = 0) -> RawBlock:
        """Return the block of one rank, cut but not compared with anything."""
        where = f"step {entry.step}" if len(entry.ranks) == 1 else f"step {entry.step}, rank {rank}"
        data = self.store.get(BLOCK, block_key(entry.attempt, entry.step, rank))
        if data is None or not 0 <= rank < len(entry.ranks):
            raise CorruptLogError("the block is missing", where)
        return self._cut(data, where)

    def key_of_row(self, attempt: int, step: int, rank: int, row: int) -> bytes:
        """Return an example key as it stands in a block, compared with nothing; empty where there is no such row."""
        place = block_key(attempt, step, rank)
        return self.store.look(BLOCK, place, lambda data: key_of_row(data, row, self.layout)) or b""

    def _cut(self, data: bytes, where: str) -> RawBlock:
        try:
            return cut_block(data, self.layout)
        except CorruptLogError as error:
            raise _within(where, error) from error

    def _verified(self, entry: StepEntry, rank: int) -> RawBlock:
        raw = self.raw_block(entry, rank)
        if root_of(raw.recomputed()) != entry.ranks[rank].inner_root:
            raise CorruptLogError("the rows are not those of the signed entry", f"step {entry.step}")
        return raw

    def rank_leaves(self, entry: StepEntry, rank: int) -> tuple[bytes, ...]:
        """Return the leaves of one rank's rows, and of the book after those of rank 0.

        Raises:
            CorruptLogError: They are not what the entry commits to.
        """
        return self._verified(entry, rank).leaves

    def block(self, entry: StepEntry) -> StepBlock:
        """Return the record of a step, of all its ranks.

        Raises:
            CorruptLogError: It is not what the entry commits to.
        """
        blocks = [self._verified(entry, rank) for rank in range(len(entry.ranks))]
        try:
            return decode_blocks(blocks, self.layout)
        except CorruptLogError as error:
            raise _within(f"step {entry.step}", error) from error

    def steps(self) -> Iterator[StepBlock]:
        """Return the record of every step that counts, in order."""
        for _, entry in self.step_entries():
            yield self.block(entry)

    def step(self, number: int) -> StepBlock:
        """Return the record of one step.

        Raises:
            LineageError: The log has no such step.
        """
        return self.block(self.step_entry(number))

    def step_entry(self, number: int, attempt: int | None = None) -> StepEntry:
        """Return the entry of one step; arguments and errors are those of `index_of_step`."""
        return decode_step(decode_entry(self.entry(self.index_of_step(number, attempt)))[1])

    def seals(self) -> Iterator[int]:
        """Return the place in the log of every seal that has runs, in order; that none is missing `verify_log` says."""
        last = -1
        for key in self.store.keys(RUN):
            seal = int.from_bytes(key[:8], "big")
            if seal != last:
                yield seal
            last = seal

    def runs(self, name: str) -> Iterator[tuple[int, dict[str, Any], bytes]]:
        """Return every seal's place in the log, what it says, and its run of a name.

        Raises:
            CorruptLogError: A run is missing, or not what the seal commits to.
        """
        for seal in self.seals():
            kind, payload = _decoded(seal, self.entry(seal))
            facts = _facts(seal, payload) if kind == SEAL else {}
            digests, data = facts.get("runs"), self.store.get(RUN, run_key(seal, name))
            if not isinstance(digests, dict) or data is None or digests.get(name) != digest_text(sha256(data)):
                raise CorruptLogError(f"the run `{name}` is not the one that was sealed", f"entry {seal}")
            yield seal, facts, data

    def unsealed(self) -> Iterator[StepEntry]:
        """Return the steps after the last seal that count, in order."""
        for _, kind, payload in self.entries(max(self.seals(), default=-1) + 1):
            if kind == STEP:
                entry = decode_step(payload)
                if self._attempts.counts(entry.step, entry.attempt):
                    yield entry

    def heads(self) -> Iterator[tuple[int, bytes]]:
        """Return size and note of every signed head that the log kept, oldest first."""
        return ((int.from_bytes(key, "big"), note) for key, note in self.store.items(HEAD))


def _decoded(index: int, data: bytes) -> tuple[int, bytes]:
    try:
        return decode_entry(data)
    except CorruptLogError as error:
        raise CorruptLogError(error.problem, f"entry {index}") from error


def _facts(index: int, payload: bytes) -> dict[str, Any]:
    try:
        return decode_facts(payload)
    except CorruptLogError as error:
        raise CorruptLogError(error.problem, f"entry {index}") from error


def _within(where: str, error: CorruptLogError) -> CorruptLogError:
    """Return the error with its place made absolute."""
    return CorruptLogError(error.problem, f"{where}, {error.where}" if error.where else where)
