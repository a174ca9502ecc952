"""Read the log of a run: its first entry, its steps, its signed head.

Reading checks each step against its own entry; that the entries are those that
were signed is `verify_log`'s business, which also says where damage lies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from aqpolicy.errors import CanonicalError, CorruptLogError, LineageError
from aqpolicy.lineage.block import RawBlock, StepBlock, cut_block, decode_block
from aqpolicy.lineage.entry import (
    CKPT,
    FORMAT,
    GENESIS,
    STATUS,
    STEP,
    StepEntry,
    decode_entry,
    decode_facts,
    decode_step,
    refuse_other_format,
)
from aqpolicy.lineage.record import Layout
from aqpolicy.lineage.store import BLOCK, BODY, ENTRY, HEAD, Store, block_key, entry_key
from aqpolicy.trust import Checkpoint, Keyring, open_checkpoint, root_of, sha256

_LARGEST_NOTE: Final = 1_000_000
_RUN: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


def origin_of(run_id: str) -> str:
    """Return the name by which the signed heads of a run call its log."""
    return f"aqpolicy.local/run/{run_id}"


def digest_of(facts: dict[str, Any], name: str) -> bytes:
    """Return a digest of the first entry as bytes."""
    return bytes.fromhex(facts[name].removeprefix("sha256:"))


def layout_of(genesis: dict[str, Any]) -> Layout:
    """Return what the encoding of a run's steps depends on."""
    names = (tuple(genesis["phases"]), tuple(genesis["stages"]))
    return Layout(len(genesis["groups"]), len(genesis["budgets"]), *names)


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
        self._store = store or Store.open_to_read(self.run / "lineage")
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
            with path.open("rb") as file:
                return file.read(_LARGEST_NOTE + 1)
        except OSError as error:
            raise LineageError(f"the signed head `{path}` cannot be read: {error.strerror}") from error

    def _genesis(self) -> dict[str, Any]:
        data = self._store.get(ENTRY, entry_key(0))
        if data is None:
            raise CorruptLogError("the log has no first entry", "entry 0")
        refuse_other_format(data)
        try:
            kind, payload = decode_entry(data)
            facts = decode_facts(payload)
        except CorruptLogError as error:
            raise CorruptLogError(str(error), "entry 0") from error
        if kind != GENESIS or not _describes_a_run(facts):
            raise CorruptLogError("the first entry does not describe a run of this version", "entry 0")
        return facts

    @property
    def size(self) -> int:
        """How many entries the store holds."""
        return self._store.count(ENTRY)

    @property
    def blocks(self) -> int:
        """How many blocks the store holds."""
        return self._store.count(BLOCK)

    @property
    def bodies(self) -> int:
        """How many bodies the store holds."""
        return self._store.count(BODY)

    def raw_entries(self) -> Iterator[tuple[int, bytes]]:
        """Return every entry's index and bytes, in order.

        Raises:
            CorruptLogError: An index is missing.
        """
        for expected, (key, data) in enumerate(self._store.items(ENTRY)):
            if key != entry_key(expected):
                raise CorruptLogError("the entry is missing", f"entry {expected}")
            yield expected, data

    def entries(self) -> Iterator[tuple[int, int, bytes]]:
        """Return every entry's index, kind and payload, in order."""
        for index, data in self.raw_entries():
            try:
                kind, payload = decode_entry(data)
            except CorruptLogError as error:
                raise CorruptLogError(str(error), f"entry {index}") from error
            yield index, kind, payload

    def facts(self, kind: int) -> list[tuple[int, dict[str, Any]]]:
        """Return place in the log and content of all entries of a rare kind, in order."""
        return [(index, decode_facts(payload)) for index, found, payload in self.entries() if found == kind]

    @property
    def models(self) -> list[dict[str, Any]]:
        """The models published by the run: `step`, `model` (digest) and what was said of each."""
        return [{**self.body(index, facts), **facts} for index, facts in self.facts(CKPT)]

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """Events of the run and about credentials, in the order of the log."""
        return [facts for _, facts in self.events]

    @property
    def events(self) -> list[tuple[int, dict[str, Any]]]:
        """The same, each with the number of the run's steps before it."""
        steps, found = int(self.genesis["first_step"]), []
        for index, kind, payload in self.entries():
            steps += kind == STEP
            if kind == STATUS:
                try:
                    found.append((steps, decode_facts(payload)))
                except CorruptLogError as error:
                    raise CorruptLogError(str(error), f"entry {index}") from error
        return found

    def body(self, index: int, facts: dict[str, Any]) -> dict[str, Any]:
        """Return what an entry commits to by digest because it is too large for an entry.

        Raises:
            CorruptLogError: It is missing, or not what the entry commits to.
        """
        data = self._store.get(BODY, entry_key(index))
        if data is None or f"sha256:{sha256(data).hex()}" != facts.get("body"):
            raise CorruptLogError("the body of the entry is not what was signed", f"entry {index}")
        return decode_facts(data)

    def step_entries(self) -> Iterator[tuple[int, StepEntry]]:
        """Return every step's place in the log and its entry."""
        for index, kind, payload in self.entries():
            if kind == STEP:
                yield index, decode_step(payload)

    def raw_block(self, entry: StepEntry) -> RawBlock:
        """Return the block of a step, cut but not compared with anything."""
        where = f"step {entry.step}"
        data = self._store.get(BLOCK, block_key(entry.attempt, entry.step))
        if data is None:
            raise CorruptLogError("the block is missing", where)
        try:
            return cut_block(data, self.layout)
        except CorruptLogError as error:
            raise _within(where, error) from error

    def rank_leaves(self, entry: StepEntry, rank: int) -> tuple[bytes, ...]:
        """Return the leaves of one rank's rows, and of the book after those of rank 0.

        Raises:
            CorruptLogError: They are not what the entry commits to.
        """
        if rank != 0:
            raise CorruptLogError("the step has no such rank", f"step {entry.step}")
        raw = self.raw_block(entry)
        if root_of(raw.recomputed()) != entry.ranks[rank].inner_root:
            raise CorruptLogError("the rows are not those of the signed entry", f"step {entry.step}")
        return raw.leaves

    def block(self, entry: StepEntry) -> StepBlock:
        """Return the record of a step.

        Raises:
            CorruptLogError: It is not what the entry commits to.
        """
        raw = self.raw_block(entry)
        if root_of(raw.recomputed()) != entry.inner_root:
            raise CorruptLogError("the rows are not those of the signed entry", f"step {entry.step}")
        try:
            return decode_block(raw, self.layout)
        except CorruptLogError as error:
            raise _within(f"step {entry.step}", error) from error

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

    def heads(self) -> Iterator[tuple[int, bytes]]:
        """Return size and note of every signed head that the log kept, oldest first."""
        return ((int.from_bytes(key, "big"), note) for key, note in self._store.items(HEAD))


def _within(where: str, error: CorruptLogError) -> CorruptLogError:
    """Return the error with its place made absolute."""
    message = str(error).removeprefix(f"{error.where}: ")
    return CorruptLogError(message, f"{where}, {error.where}" if error.where else where)


def _describes_a_run(facts: dict[str, Any]) -> bool:
    run, names = facts.get("run"), [facts.get(name) for name in ("groups", "budgets", "phases", "stages")]
    return (
        facts.get("format") == FORMAT
        and isinstance(run, str)
        and _RUN.fullmatch(run) is not None
        and facts.get("origin") == origin_of(run)
        and type(facts.get("first_step")) is int
        and 0 <= facts["first_step"] < 2**63
        and all(_is_digest(facts.get(name)) for name in ("bundle", "manifest_root"))
        and all(isinstance(some, list) and all(_is_name(name) for name in some) for some in names)
    )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()  # it will be printed


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None
