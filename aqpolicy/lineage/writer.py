"""Append to the log of one run: steps in groups, a signed head at every publication.

It writes in the training process (docs/adr/0003). The rules it keeps: what was
appended is never changed; a head is signed only over entries that are durable;
lineage is durable before `append_model` returns, so before a model is published.
Any failure to write raises, and the writer takes nothing more.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aqpolicy.errors import ForkedLogError, LineageError
from aqpolicy.lineage.entry import CKPT, END, GENESIS, STATUS, STEP, StepEntry, encode_entry, encode_facts, encode_step
from aqpolicy.lineage.reader import LineageReader
from aqpolicy.lineage.record import StepBlock, encode_block, total_cells
from aqpolicy.lineage.store import Store, block_key, entry_key
from aqpolicy.trust import Checkpoint, Frontier, Keyring, SigningKey, leaf_hash, replace_file, sign_checkpoint

GROUP: Final = 16
"""Steps that become durable together."""

SIGN_EVERY: Final = 64
"""Steps after which a head is signed at the latest."""


class LineageWriter:
    """The one writer of a run's log."""

    def __init__(self, run: Path, store: Store, signer: SigningKey, genesis: Mapping[str, Any]) -> None:
        """Take over an open store; use `create` or `open_for_status`."""
        self._run, self._store, self._signer = run, store, signer
        self._frontier = Frontier()
        self._origin = str(genesis["origin"])
        self._run_id = bytes.fromhex(str(genesis["run"]))
        self._bundle, self._manifest_root = _digest(genesis, "bundle"), _digest(genesis, "manifest_root")
        self._entries: list[tuple[bytes, bytes]] = []
        self._blocks: list[tuple[bytes, bytes]] = []
        self._since_signed = 0
        self._next_step = 0
        self._dead = ""

    @classmethod
    def create(
        cls,
        run: Path,
        genesis: Mapping[str, Any],
        signer: SigningKey,
        *,
        groups: Sequence[str],
        budgets: Sequence[str],
    ) -> LineageWriter:
        """Begin the log of a new run.

        Args:
            run: The run's folder; the log lies in its `lineage`.
            genesis: What the first entry says of the run; `bundle` and `manifest_root` are digests as text.
            signer: Signs the heads.
            groups: Names of the depth groups, in order.
            budgets: Names of the budgets, in order.

        Raises:
            LineageError: The folder already holds a log, or cannot be written.
        """
        run_id = secrets.token_hex(16)
        facts = {
            **genesis,
            "format": 1,
            "run": run_id,
            "origin": f"aqpolicy.local/run/{run_id}",
            "groups": list(groups),
            "budgets": list(budgets),
            "log_key": signer.verify_key.text,
            "started_s": int(time.time()),
        }
        writer = cls(run, Store(run / "lineage", create=True), signer, facts)
        writer._append(GENESIS, encode_facts(facts))
        writer._sign()
        return writer

    @classmethod
    def open_for_status(cls, run: Path, signer: SigningKey, keyring: Keyring) -> LineageWriter:
        """Open a finished log to append a status, after comparing it with its signed head.

        Raises:
            ForkedLogError: The log is older than its head, or another one.
            LineageError: The key is not the one that signed the log.
        """
        with LineageReader(run, keyring) as reader:
            head, entries = reader.checkpoint, [data for _, data in reader.raw_entries()]
            genesis = reader.genesis
        if signer.verify_key.text != genesis["log_key"]:
            raise LineageError(f"key `{signer.verify_key.label}` is not the key of this log")
        writer = cls(run, Store(run / "lineage", write=True), signer, genesis)
        try:
            for data in entries[: head.size]:
                writer._frontier.append(leaf_hash(data))
            if writer._frontier.size < head.size:
                raise ForkedLogError("the log is shorter than its signed head: it was rolled back")
            if writer._frontier.root() != head.root:
                raise ForkedLogError("the log and its signed head contradict each other")
            for data in entries[head.size :]:
                writer._frontier.append(leaf_hash(data))
        except BaseException:
            writer._store.close()
            raise
        return writer

    def append_step(self, block: StepBlock) -> None:
        """Take the record of one step.

        Durability: with its group, at the latest when `append_model` or `close` returns.

        Raises:
            LineageError: The step is not the next one, or the log cannot be written; training must stop.
        """
        self._refuse_when_dead()
        if block.step != self._next_step:
            raise LineageError(f"step {block.step} came where step {self._next_step} was due")
        data, root = encode_block(block)
        entry = StepEntry(
            self._run_id,
            block.attempt,
            block.step,
            block.epoch,
            block.time_ns,
            self._bundle,
            self._manifest_root,
            len(block.rows),
            total_cells(block.rows),
            root,
        )
        self._append(STEP, encode_step(entry))
        self._blocks.append((block_key(block.attempt, block.step), data))
        self._next_step += 1
        self._since_signed += 1
        if self._since_signed >= SIGN_EVERY:
            self._sign()
        elif len(self._blocks) >= GROUP:
            self._commit({})

    def append_model(self, step: int, model_digest: bytes, facts: Mapping[str, Any]) -> None:
        """Record that a model made by the first `step` steps is published.

        Durability: on return, every entry so far, under a signed head.
        """
        self._append(CKPT, encode_facts({"step": step, "model": model_digest.hex(), **facts}))
        self._sign()

    def append_status(self, facts: Mapping[str, Any]) -> int:
        """Record an event about a credential and return its place in the log."""
        self._append(STATUS, encode_facts(dict(facts)))
        self._sign()
        return self._frontier.size - 1

    def close(self) -> None:
        """End the log of a run that was being written; sign and close."""
        try:
            if self._next_step and not self._dead:
                self._append(END, encode_facts({"steps": self._next_step}))
                self._sign()
        finally:
            self._store.close()

    def _append(self, kind: int, payload: bytes) -> None:
        self._refuse_when_dead()
        data = encode_entry(kind, payload)
        self._entries.append((entry_key(self._frontier.size), data))
        self._frontier.append(leaf_hash(data))

    def _sign(self) -> None:
        checkpoint = Checkpoint(self._origin, self._frontier.size, self._frontier.root())
        note = sign_checkpoint(checkpoint, self._signer).encode("utf-8")
        self._commit({b"cp": [(entry_key(checkpoint.size), note)]})
        replace_file(self._run / "head.note", note)
        self._since_signed = 0

    def _commit(self, more: Mapping[bytes, list[tuple[bytes, bytes]]]) -> None:
        try:
            self._store.put_group({b"entry": self._entries, b"blk": self._blocks, **more}, {})
        except LineageError as error:
            self._dead = str(error)
            raise
        self._entries, self._blocks = [], []

    def _refuse_when_dead(self) -> None:
        if self._dead:
            raise LineageError(f"the log takes no more entries: {self._dead}")


def _digest(genesis: Mapping[str, Any], name: str) -> bytes:
    text = str(genesis.get(name, ""))
    try:
        digest = bytes.fromhex(text.removeprefix("sha256:"))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise LineageError(f"the run names no `{name}` digest")
    return digest
