"""Append to the log of one run: steps in groups, every group under a signed head.

It writes in the training process (docs/adr/0003). The rules it keeps: what was
appended is never changed; a group becomes durable together with the head that
signs it, so nothing durable is unsigned; lineage is durable before
`append_model` returns, so before a model is published. Any failure to write
raises, and the writer takes nothing more.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aqpolicy import __version__
from aqpolicy.errors import AqpolicyError, LineageError
from aqpolicy.lineage.block import Step, encode_block, name_number
from aqpolicy.lineage.entry import (
    CKPT,
    END,
    FORMAT,
    GENESIS,
    MANIFEST,
    POLICY,
    STATUS,
    STEP,
    RankEntry,
    StepEntry,
    encode_entry,
    encode_facts,
    encode_step,
)
from aqpolicy.lineage.reader import LineageReader, digest_of, layout_of, origin_of
from aqpolicy.lineage.store import BLOCK, BODY, ENTRY, HEAD, Item, Store, block_key, entry_key
from aqpolicy.lineage.tally import Tally
from aqpolicy.lineage.verify import signed_frontier
from aqpolicy.trust import (
    Checkpoint,
    Frontier,
    Keyring,
    SigningKey,
    VerifyKey,
    digest_text,
    leaf_hash,
    replace_file,
    sha256,
    sign_checkpoint,
)

GROUP: Final = 16
"""Steps that become durable together."""

PUBLISH_EVERY: Final = 64
"""Steps after which `head.note` is replaced at the latest."""


class LineageWriter:
    """The one writer of a run's log. Made by `create` and `open_for_status`."""

    def __init__(
        self, run: Path, store: Store, signer: SigningKey, genesis: dict[str, Any], frontier: Frontier
    ) -> None:
        """Take over an open store whose entries have this frontier."""
        self._run, self._store, self._signer, self._frontier = run, store, signer, frontier
        self._origin, self._run_id = str(genesis["origin"]), bytes.fromhex(str(genesis["run"]))
        self._bundle, self._manifest_root = digest_of(genesis, "bundle"), digest_of(genesis, "manifest_root")
        self._layout = layout_of(genesis)
        self._tally = Tally(self._layout.budgets)
        self._pending: dict[bytes, list[Item]] = {ENTRY: [], BLOCK: [], BODY: []}
        self._ends = True
        self._unpublished = 0
        self._dead = ""
        self.steps = int(genesis["first_step"])
        """Steps taken, those before this log included."""
        self.durable_steps = self.steps
        """Steps that survive a crash."""

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
            genesis: What the first entry says of the run; `bundle` and `manifest_root` are digests as text, `phases`
                and `stages` names in order, `first_step` the number of the first step.
            signer: Signs the heads.
            groups: Names of the depth groups, in order.
            budgets: Names of the budgets, in order.

        Raises:
            LineageError: The folder already holds a log, or cannot be written.
        """
        run_id = secrets.token_hex(16)
        facts = {
            "phases": [],
            "stages": [],
            "first_step": 0,
            **genesis,
            "format": FORMAT,
            "aqpolicy": __version__,
            "run": run_id,
            "origin": origin_of(run_id),
            "groups": list(groups),
            "budgets": list(budgets),
            "log_key": signer.verify_key.text,
            "started_s": int(time.time()),
        }
        _refuse_incomplete(facts)
        payload = encode_facts(facts)
        if (run / "head.note").exists():
            raise LineageError(f"`{run}` already holds a log, or its head; give another folder")
        writer = cls(run, Store.create(run / "lineage"), signer, facts, Frontier())
        try:
            writer._append(GENESIS, payload)
            writer._append(POLICY, encode_facts({"bundle": facts["bundle"]}))
            writer._append(MANIFEST, encode_facts({"root": facts["manifest_root"]}))
            writer._commit(publish=True)
        except BaseException:
            writer._store.close()
            raise
        return writer

    @classmethod
    def open_for_status(cls, run: Path, signer: SigningKey, keyring: Keyring) -> LineageWriter:
        """Open the log of a run that has stopped, to append events about credentials.

        Trust:
            The folder is untrusted: all entries are compared with the signed heads before another is signed.

        Raises:
            ForkedLogError: The log is older than its head, or another one.
            CorruptLogError: An entry is not what was signed.
            LineageError: The keyring does not trust the key for logs, or not any more; or the log is in use.
        """
        store = Store.open_to_write(run / "lineage")
        reader = LineageReader(run, keyring, store=store)
        try:
            if not _succeeds(signer.verify_key, str(reader.genesis.get("log_key")), keyring):
                raise LineageError(f"the key `{signer.verify_key.label}` is not the key of this log, nor its successor")
            writer = cls(run, store, signer, reader.genesis, signed_frontier(reader, keyring))
        except BaseException:
            store.close()
            raise
        writer._ends = False
        return writer

    def append_step(self, block: Step) -> None:
        """Take the record of one step.

        Durability: with its group, at the latest when `append_model` or `close` returns.

        Raises:
            LineageError: The step is not the next one, or the log cannot be written; training must stop.
        """
        self._refuse_when_dead()
        if block.step != self.steps:
            raise LineageError(f"step {block.step} came where step {self.steps} was due")
        data, root, rows = encode_block(block, self._layout)
        self._tally.add(block)
        entry = StepEntry(
            self._run_id,
            block.attempt,
            block.step,
            block.epoch,
            name_number(block.phase, self._layout.phases),
            name_number(block.stage, self._layout.stages),
            block.today,
            block.time_ns,
            self._bundle,
            self._manifest_root,
            self._tally.budget_state,
            self._tally.data_cursor,
            (RankEntry(0, rows, rows * self._layout.groups, root),),
        )
        self._append(STEP, encode_step(entry))
        self._pending[BLOCK].append((block_key(block.attempt, block.step), data))
        self.steps += 1
        self._unpublished += 1
        if len(self._pending[BLOCK]) >= GROUP:
            self._commit(publish=self._unpublished >= PUBLISH_EVERY)

    def append_model(self, step: int, model_digest: bytes, facts: Mapping[str, Any]) -> None:
        """Record that a model made by the first `step` steps is about to be published.

        Durability: on return, this and every entry so far, under a published head.

        Raises:
            LineageError: The log cannot be written; the model must not be published.
        """
        body = encode_facts(facts)
        said = {"step": step, "model": model_digest.hex(), "body": digest_text(sha256(body))}
        place = entry_key(self._frontier.size)
        self._append(CKPT, encode_facts(said))
        self._pending[BODY].append((place, body))
        self._commit(publish=True)

    def append_event(self, facts: Mapping[str, Any]) -> None:
        """Record something that happened to the running training, between the steps before and after it.

        Durability: with the group of steps that it falls into, at the latest when `append_model` or `close` returns.

        Raises:
            LineageError: The facts are too many or have no canonical form, or the log takes no more; training must
                stop.
        """
        self._append(STATUS, encode_facts(facts))

    def append_status(self, facts: Mapping[str, Any]) -> int:
        """Record an event about a credential and return its place in the log.

        Durability: on return, under a published head.
        """
        self._append(STATUS, encode_facts(facts))
        self._commit(publish=True)
        return self._frontier.size - 1

    def close(self) -> None:
        """End the log of a run, publish its head, and close. Does nothing the second time."""
        try:
            if self._ends and not self._dead:
                self._append(END, encode_facts({"steps": self.steps}))
                self._commit(publish=True)
        finally:
            self._dead = self._dead or "it was closed"
            self._store.close()

    def _append(self, kind: int, payload: bytes) -> None:
        self._refuse_when_dead()
        data = encode_entry(kind, payload)
        self._pending[ENTRY].append((entry_key(self._frontier.size), data))
        self._frontier.append(leaf_hash(data))

    def _commit(self, *, publish: bool) -> None:
        """Make what is pending durable, under a head that signs it."""
        self._dead = "an earlier group was interrupted"
        checkpoint = Checkpoint(self._origin, self._frontier.size, self._frontier.root())
        note = sign_checkpoint(checkpoint, self._signer).encode("utf-8")
        try:
            self._store.put_group({**self._pending, HEAD: [(entry_key(checkpoint.size), note)]})
            if publish:
                # After the group: a head that names entries which a crash could still take would read as a rollback.
                replace_file(self._run / "head.note", note)
                self._unpublished = 0
        except AqpolicyError as error:
            self._dead = str(error)
            raise LineageError(f"the log cannot be written, training must stop: {error}") from error
        self._pending = {ENTRY: [], BLOCK: [], BODY: []}
        self.durable_steps = self.steps
        self._dead = ""

    def _refuse_when_dead(self) -> None:
        if self._dead:
            raise LineageError(f"the log takes no more entries: {self._dead}")


def _refuse_incomplete(facts: Mapping[str, Any]) -> None:
    for name in ("bundle", "manifest_root"):
        text = str(facts.get(name, "")).removeprefix("sha256:")
        if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
            raise LineageError(f"the run names no `{name}` digest")


def _succeeds(key: VerifyKey, first: str, keyring: Keyring) -> bool:
    """Say whether a key may sign further heads: the one that began the log, or a trusted one after that was rotated."""
    trusted = keyring.keys("log")
    rotated = any(other.text == first and other.retired is not None for other in trusted)
    return key in trusted and (rotated or key.text == first)  # a rotated key is not equal to itself
