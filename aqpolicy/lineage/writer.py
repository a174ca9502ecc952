"""Append to the log of one run: steps in groups, every group under a signed head.

It writes in the process that calls it (docs/adr/0015 has one of its own). The rules
it keeps: what was appended is never changed; a group becomes durable together with
the head that signs it, so nothing durable is unsigned; lineage is durable before
`append_model` returns, so before a model is published. Going back is a further
entry (RESUME). Any failure to write raises, and the writer takes nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from aqpolicy.errors import LineageError
from aqpolicy.lineage import resume as opening
from aqpolicy.lineage.block import RankBlock, Step, encode_blocks, name_number
from aqpolicy.lineage.entry import (
    CKPT,
    END,
    GENESIS,
    KEYRING,
    MANIFEST,
    MOST_CELLS,
    MOST_RANKS,
    POLICY,
    RESUME,
    SEAL,
    STATUS,
    STEP,
    RankEntry,
    StepEntry,
    encode_facts,
    encode_step,
)
from aqpolicy.lineage.genesis import first_facts, layout_of
from aqpolicy.lineage.group import Group
from aqpolicy.lineage.runs import RunBuilder
from aqpolicy.lineage.seal import MakeBuilder, Sealer
from aqpolicy.lineage.state import State
from aqpolicy.lineage.store import BLOCK, BODY, META, RUN, Store, block_key, entry_key, model_key, run_key
from aqpolicy.lineage.tally import Tally
from aqpolicy.trust import Frontier, Keyring, SigningKey, digest_text, sha256

GROUP: Final = 16
"""Steps that become durable together."""

PUBLISH_EVERY: Final = 64
"""Steps after which `head.note` is replaced at the latest."""


class LineageWriter:
    """The one writer of a run's log. Made by `create`, `resume` and `open_for_status`."""

    def __init__(self, group: Group, genesis: dict[str, Any], state: State, tally: Tally, sealer: Sealer) -> None:
        """Take over an open log."""
        self._group, self._tally, self._sealer = group, tally, sealer
        self._run_id, self._layout = bytes.fromhex(str(genesis["run"])), layout_of(genesis)
        self._seal_every = int(genesis["seal_every"])
        self._bundle, self._manifest_root = state.bundle, state.manifest_root
        self._keyring, self._last_step = state.keyring, state.last_step
        self._steps, self._rows = state.steps, state.rows
        self._ended, self._trains = state.ended, True
        self._waiting = self._unpublished = 0
        self.attempt = state.attempt
        """Number of the attempt that steps are made in."""
        self.steps = state.step
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
        keyring: Keyring | None = None,
        index: MakeBuilder = RunBuilder,
    ) -> Self:
        """Begin the log of a new run. What a process left that was killed in here is replaced.

        Durability: on return, all that it says, under a published head.

        Args:
            run: The run's folder; the log lies in its `lineage`.
            genesis: What the first entry says of the run; `bundle` and `manifest_root` are digests as text, `phases`
                and `stages` names in order, `first_step` the number of the first step, `norms` how norms are kept,
                `seal_every` after how many steps an index is sealed.
            signer: Signs the heads.
            groups: Names of the depth groups, in order.
            budgets: Names of the budgets, in order.
            keyring: The keys that the run trusts, to be logged.
            index: What makes the index; `scribe.index` has a faster one.

        Raises:
            LineageError: The folder already holds a log, or cannot be written.
        """
        facts = first_facts(genesis, signer.verify_key.text, groups, budgets)
        payload = encode_facts(facts)
        if (run / "head.note").exists():
            raise LineageError(f"`{run}` already holds a log, or its head; give another folder")
        group = Group(run, Store.create(run / "lineage"), signer, str(facts["origin"]), Frontier())
        layout = layout_of(facts)
        writer = cls(group, facts, opening.beginning(facts), Tally(layout.budgets), Sealer(layout, index))
        try:
            group.append(GENESIS, payload)
            if keyring is not None:
                writer._append_keyring(keyring)
            group.append(POLICY, encode_facts({"bundle": facts["bundle"]}))
            group.append(MANIFEST, encode_facts({"root": facts["manifest_root"]}))
            writer._commit(publish=False)
            group.store.settle(run / "lineage")
            writer._commit(publish=True)
        except BaseException:
            group.close("it was not begun")
            raise
        return writer

    @classmethod
    def resume(
        cls,
        run: Path,
        signer: SigningKey,
        keyring: Keyring,
        *,
        entry: int,
        reason: str,
        index: MakeBuilder = RunBuilder,
    ) -> Self:
        """Go on with the log of a run that has stopped, from a model that it published.

        How long that takes does not depend on the log's size.

        Durability: on return, the entry that says so, under a published head.

        Args:
            run: The run's folder.
            signer: The key that signed the log.
            keyring: The keys that are trusted.
            entry: Index of the model entry, or -1 for the beginning.
            reason: Why; people read it.
            index: As for `create`.

        Trust:
            The folder is one's own; the end of the log is checked (`tail`).

        Raises:
            ForkedLogError: The log is older than its head, or another one.
            CorruptLogError: Something at its end is not what was signed.
            SignatureError: No trusted key signed its head.
            LineageError: The log has no such model entry, or went back behind it already, or has another key, or is
                in use.
        """
        log = opening.opened(run, signer, keyring)
        try:
            resumption, tally = opening.gone_back(log, entry, reason)
            writer = cls(log.group, log.genesis, log.tail.state, tally, opening.sealer(log, index))
            writer._ended = False
            writer.attempt, writer.steps = resumption.attempt, resumption.from_step
            writer.durable_steps = resumption.from_step
            log.group.append(RESUME, encode_facts(resumption.facts))
            writer._commit(publish=True)
        except BaseException:
            log.group.close("it was not opened")
            raise
        return writer

    @classmethod
    def open_for_status(cls, run: Path, signer: SigningKey, keyring: Keyring) -> Self:
        """Open the log of a run that has stopped, to append events about credentials; raises as `resume` does."""
        log = opening.opened(run, signer, keyring)
        writer = cls(log.group, log.genesis, log.tail.state, log.tail.tally, opening.sealer(log, RunBuilder))
        writer._trains = False
        return writer

    def append_step(self, step: Step) -> None:
        """Take the record of one step.

        Durability: with its group, at the latest when `append_model`, `barrier` or `close` returns.

        Raises:
            LineageError: The step is not the next one, or the log cannot be written; training must stop.
        """
        self._refuse_when_not_training()
        if step.step != self.steps:
            raise LineageError(f"step {step.step} came where step {self.steps} was due")
        if step.attempt != self.attempt:
            raise LineageError(f"a step of attempt {step.attempt} came in attempt {self.attempt}")
        place = self._group.size
        blocks = encode_blocks(step, self._layout, place)
        ranks = self._rank_entries(blocks)
        self._tally.add(step)
        entry = StepEntry(
            self._run_id,
            step.attempt,
            step.step,
            step.epoch,
            name_number(step.phase, self._layout.phases),
            name_number(step.stage, self._layout.stages),
            step.today,
            step.time_ns,
            self._bundle,
            self._manifest_root,
            self._tally.budget_state,
            self._tally.data_cursor,
            ranks,
        )
        self._group.append(STEP, encode_step(entry))
        for rank, block in enumerate(blocks):
            self._group.add(BLOCK, block_key(step.attempt, step.step, rank), block.data)
        self._count(place, entry, blocks)

    def _rank_entries(self, blocks: Sequence[RankBlock]) -> tuple[RankEntry, ...]:
        groups = self._layout.groups
        if len(blocks) > MOST_RANKS or max(block.rows for block in blocks) * groups > MOST_CELLS:
            raise LineageError(f"a step has at most {MOST_RANKS} ranks, and each of them {MOST_CELLS} cells")
        return tuple(RankEntry(rank, block.rows, block.rows * groups, block.root) for rank, block in enumerate(blocks))

    def _count(self, place: int, entry: StepEntry, blocks: Sequence[RankBlock]) -> None:
        self.steps, self._last_step = self.steps + 1, place
        self._steps, self._rows = self._steps + 1, self._rows + entry.rows
        self._waiting, self._unpublished = self._waiting + 1, self._unpublished + 1
        self._sealer.add(place, entry, [block.leaves for block in blocks])
        if self._sealer.steps >= self._seal_every:
            self._seal()
        if self._waiting >= GROUP:
            self._commit(publish=self._unpublished >= PUBLISH_EVERY)

    def append_model(self, step: int, model_digest: bytes, facts: Mapping[str, Any]) -> int:
        """Record that a model made by the first `step` steps is about to be published, and return its entry's index.

        Durability: on return, this and every entry so far, under a published head.

        Raises:
            LineageError: The model is not one of the steps so far, or the log cannot be written; the model must not be
                published.
        """
        self._refuse_when_not_training()
        if step != self.steps:
            raise LineageError(f"a model of {step} steps cannot be logged after {self.steps}")
        body = encode_facts(facts)
        said = {
            "attempt": self.attempt,
            "body": digest_text(sha256(body)),
            "model": model_digest.hex(),
            "state": self._tally.digest.hex(),
            "step": step,
        }
        place = self._group.append(CKPT, encode_facts(said))
        self._group.add(BODY, entry_key(place), body)
        self._group.add(META, model_key(place), self._tally.to_bytes())
        self._commit(publish=True)
        return place

    def append_event(self, facts: Mapping[str, Any]) -> None:
        """Record something that happened to the running training, between the steps before and after it.

        Durability: with the group of steps that it falls into, at the latest when `append_model`, `barrier` or `close`
        returns.

        Raises:
            LineageError: The facts are too many or have no canonical form, or the log takes no more; training must
                stop.
        """
        self._group.append(STATUS, encode_facts(facts))

    def append_status(self, facts: Mapping[str, Any]) -> int:
        """Record an event about a credential and return its place in the log.

        Durability: on return, under a published head.
        """
        place = self._group.append(STATUS, encode_facts(facts))
        self._commit(publish=True)
        return place

    def append_policy(self, bundle: bytes) -> int:
        """Record the digest of the bundle that decides from here on, and return its place in the log."""
        place = self._group.append(POLICY, encode_facts({"bundle": digest_text(bundle)}))
        self._bundle = bundle
        return place

    def append_manifest(self, root: bytes, digest: bytes) -> int:
        """Record the manifest in force from here on, which supersedes the one before; return its place in the log.

        Args:
            root: The manifest's root.
            digest: Of its file.
        """
        said = {
            "digest": digest_text(digest),
            "root": digest_text(root),
            "supersedes": digest_text(self._manifest_root),
        }
        place = self._group.append(MANIFEST, encode_facts(said))
        self._manifest_root = root
        return place

    def append_keyring(self, keyring: Keyring) -> int:
        """Record the keyring in force from here on, and return its place in the log; durable as `append_status`.

        Raises:
            LineageError: It is no later version than the one before.
        """
        place = self._append_keyring(keyring)
        self._commit(publish=True)
        return place

    def _append_keyring(self, keyring: Keyring) -> int:
        if keyring.version <= self._keyring:
            raise LineageError(
                f"version {keyring.version} of the keyring does not follow version {self._keyring}, which the log has"
            )
        data = keyring.to_bytes()
        said = {"keyring": digest_text(sha256(data)), "version": keyring.version}
        place = self._group.append(KEYRING, encode_facts(said))
        self._group.add(BODY, entry_key(place), data)
        self._keyring = keyring.version
        return place

    def barrier(self) -> None:
        """Make every entry so far durable, under a published head; raises as `append_step` does."""
        self._commit(publish=True)

    def close(self) -> None:
        """End the log of a run, publish its head, and close. Does nothing the second time."""
        try:
            if not self._group.dead:
                if self._trains and not self._ended:
                    self._end()
                self._commit(publish=True)
        finally:
            self._group.close("it was closed")

    def _end(self) -> None:
        if self._sealer.steps:
            self._seal()
        self._group.append(END, encode_facts({"steps": self.steps}))
        self._ended = True

    def abandon(self) -> None:
        """Close the log as a crash would leave it: without an end, and without what is not durable yet."""
        self._group.close("it was abandoned")

    def _seal(self) -> None:
        if self._sealer.lacks:
            self._commit(publish=False)
            self._group.guard(lambda: self._sealer.read(self._group.store))
        facts, runs = self._sealer.seal(self._group.size)
        place = self._group.append(SEAL, encode_facts(facts))
        for name, data in runs.items():
            self._group.add(RUN, run_key(place, name), data)

    def _commit(self, *, publish: bool) -> None:
        self._group.commit(self._state, publish=publish)
        self.durable_steps, self._waiting = self.steps, 0
        if publish:
            self._unpublished = 0

    def _state(self, group: bytes) -> State:
        return State(
            size=self._group.size,
            group=group,
            tally=self._tally.to_bytes(),
            step=self.steps,
            attempt=self.attempt,
            last_step=self._last_step,
            bundle=self._bundle,
            manifest_root=self._manifest_root,
            keyring=self._keyring,
            sealed=self._sealer.start,
            unsealed=self._sealer.steps,
            steps=self._steps,
            rows=self._rows,
            ended=self._ended,
        )

    def _refuse_when_not_training(self) -> None:
        self._group.refuse_when_dead()
        if not self._trains or self._ended:
            raise LineageError("the log was not opened for a training; resume it from a model that it published")
