"""The log's writer as the training sees it: hands every step to the process that writes it.

The training thread does no hashing and no flush; it copies a step's columns into a
ring. Nothing is ever dropped: where the ring is full a step waits, and where
nothing moves for too long, or the process is gone, this and every later call
raises, so that no training goes on without its record (docs/adr/0015).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from aqpolicy.errors import LineageError
from aqpolicy.lineage.entry import encode_facts
from aqpolicy.lineage.writer import GROUP
from aqpolicy.scribe.child import RING_BYTES, Child
from aqpolicy.scribe.columns import StepColumns
from aqpolicy.scribe.link import Link
from aqpolicy.scribe.parcel import pack
from aqpolicy.trust import Keyring, SigningKey

Durability = Literal["publish", "group", "step"]

PATIENCE_S: Final = 60.0

_LAGS: Final[dict[Durability, int | None]] = {"publish": None, "group": GROUP, "step": 0}
"""How many steps the training may be ahead of what is durable."""


class RemoteWriter:
    """`lineage.LineageWriter` in a process of its own. Made by `create` and `resume`."""

    def __init__(
        self, child: Child, greeting: Mapping[str, Any], signer: SigningKey, durability: Durability, patience_s: float
    ) -> None:
        """Greet a process that was started, and wait until it has opened the log."""
        self.process_id = child.process.pid
        """The number of the process that writes."""
        self._link, self._lag = Link(child, patience_s), _LAGS[durability]
        opened = self._link.greet({**greeting, "at_once": self._lag == 0}, signer)
        self.steps = int(opened["steps"])
        """Steps taken, those before this log included."""
        self.attempt = int(opened["attempt"])
        """Number of the attempt that they are made in."""

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
        durability: Durability = "publish",
        ring_bytes: int = RING_BYTES,
        patience_s: float = PATIENCE_S,
    ) -> RemoteWriter:
        """Begin the log of a new run, as `LineageWriter.create` does.

        Args:
            run: The run's folder.
            genesis: What the first entry says of the run.
            signer: Signs the heads; it goes to the other process through a pipe and nowhere else.
            groups: Names of the depth groups, in order.
            budgets: Names of the budgets, in order.
            keyring: The keys that the run trusts.
            durability: What waits for the disk: a model to be published alone (`publish`), also a step for the group
                before its own (`group`), or every step for itself (`step`).
            ring_bytes: Memory shared with the process; a step that is larger goes in pieces.
            patience_s: After how many seconds without any progress the process counts as hung.

        Raises:
            LineageError: The folder already holds a log, or cannot be written, or the process does not start.
        """
        names = {"groups": list(groups), "budgets": list(budgets)}
        greeting = {"open": "create", **_opening(run, keyring), **names, "genesis": _facts(genesis)}
        return cls(Child.start(ring_bytes), greeting, signer, durability, patience_s)

    @classmethod
    def resume(
        cls,
        run: Path,
        signer: SigningKey,
        keyring: Keyring,
        *,
        entry: int,
        reason: str,
        durability: Durability = "publish",
        ring_bytes: int = RING_BYTES,
        patience_s: float = PATIENCE_S,
    ) -> RemoteWriter:
        """Go on with the log of a run that has stopped, as `LineageWriter.resume` does; the rest is `create`'s.

        Raises:
            ForkedLogError: The log is older than its head, or another one.
            CorruptLogError: An entry is not what was signed.
            LineageError: The log does not have that model entry, or is in use, or the process does not start.
        """
        greeting = {"open": "resume", **_opening(run, keyring), "entry": entry, "reason": reason}
        return cls(Child.start(ring_bytes), greeting, signer, durability, patience_s)

    @property
    def durable_steps(self) -> int:
        """Steps that survive a crash, as far as this process knows.

        Raises:
            LineageError: The log can no longer be written; training must stop.
        """
        if not self._link.is_lost:
            self._link.listen()
        return self._link.durable_steps

    def append_step(self, step: StepColumns) -> None:
        """Take the record of one step.

        Durability: as chosen; at the latest when `append_model`, `barrier` or `close` returns.

        Raises:
            LineageError: The step is not the next one, or the log cannot be written; training must stop.
        """
        if step.step != self.steps:
            self._link.listen()  # that training must stop goes before
            raise LineageError(f"step {step.step} came where step {self.steps} was due")
        self._link.hand_over(pack(step))
        self.steps += 1
        if self._lag is not None:
            self._link.wait_durable(self.steps - self._lag)

    def append_event(self, facts: Mapping[str, Any]) -> None:
        """Record something that happened to the running training, between the steps before and after it.

        Durability: as a step's.

        Raises:
            LineageError: The facts have no canonical form, or the log cannot be written; training must stop.
        """
        self._link.post("event", facts=_facts(facts))

    def append_model(self, step: int, model_digest: bytes, facts: Mapping[str, Any]) -> int:
        """Record that a model made by the first `step` steps is about to be published, and return its entry's index.

        Durability: on return, this and every entry so far, under a published head.

        Raises:
            LineageError: The log cannot be written; the model must not be published.
        """
        return int(self._link.call("model", step=step, digest=model_digest.hex(), facts=_facts(facts)))

    def append_status(self, facts: Mapping[str, Any]) -> int:
        """Record an event about a credential and return its entry's index; durable as `append_model`."""
        return int(self._link.call("status", facts=_facts(facts)))

    def barrier(self) -> None:
        """Wait until every entry so far is durable, under a published head; raises as `append_model` does."""
        self._link.call("barrier")

    def close(self) -> None:
        """End the log, publish its head, and let the process go. Does nothing the second time, or after a failure.

        Raises:
            LineageError: The log could not be ended, and no call has said so before.
        """
        try:
            if not self._link.is_lost:
                self._link.call("close")
        finally:
            self._link.leave("it was closed")

    def abandon(self) -> None:
        """Leave the log without an end, as a training that dies does: what was appended becomes durable."""
        try:
            if not self._link.is_lost:
                self._link.flush()
        finally:
            self._link.leave("it was abandoned")


def _opening(run: Path, keyring: Keyring | None) -> dict[str, Any]:
    keys = None if keyring is None else keyring.to_bytes().decode("ascii")
    return {"run": str(Path(run).absolute()), "keyring": keys}


def _facts(facts: Mapping[str, Any]) -> Any:
    """Return facts as the log will have them, or refuse them here, where they come from."""
    return json.loads(encode_facts(facts))
