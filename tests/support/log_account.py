"""The account of a log, in plain Python: what was done; from that follows what survives a crash and what counts."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Any

from support.lineage_runs import GENESIS

from aqpolicy.lineage import StepBlock


@dataclass(frozen=True)
class Act:
    """One thing that was done."""

    kind: str
    what: Any = None


@dataclass
class Counting:
    """What counts of a log."""

    steps: list[StepBlock] = field(default_factory=list)
    models: list[tuple[int, int]] = field(default_factory=list)
    """Place in the log, and steps."""
    events: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)
    """Number of the act, steps before it, and what it says."""
    places: dict[int, int] = field(default_factory=dict)
    """Number of the act that made a model, by the model's place in the log."""
    attempt: int = 0
    manifest_root: str = GENESIS["manifest_root"]
    keyring: int = 1

    def resume(self, entry: int) -> None:
        """Go back to a model, or to the beginning."""
        act, steps = (-1, 0) if entry == -1 else (self.places[entry], dict(self.models)[entry])
        self.attempt += 1
        self.steps = self.steps[:steps]
        self.models = [each for each in self.models if each[1] <= steps]
        kept = [each for each in self.events if each[0] < act or "credential" in each[2]]
        self.events = [(number, min(before, steps), said) for number, before, said in kept]

    @property
    def sums(self) -> bytes:
        """What steps add up to: the epoch; what was charged in it, in the run, for movement, for drift; the order."""
        epoch, in_epoch, in_run, movement, drift, order = 0, 0, 0, 0, 0, bytes(32)
        for step in self.steps:
            charged = sum(row.charges[0] for row in step.rows)
            in_epoch = charged + (in_epoch if step.epoch == epoch else 0)
            epoch, in_run = step.epoch, in_run + charged
            movement, drift = movement + step.book.movement_charges[0], drift + step.book.drift_charges[0]
            numbers = [len(step.visits), len(step.visits[0]), *(count for part in step.visits for count in part)]
            keys = b"".join(row.example_key for row in step.rows)
            order = hashlib.sha256(order + struct.pack(f"<{len(numbers)}I", *numbers) + keys).digest()
        return struct.pack("<I4Q", epoch, in_epoch, in_run, movement, drift) + order


class Account:
    """What was done to a log, and how much of it is durable."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.durable = 0

    def add(self, kind: str, what: Any = None, *, durable: bool = False) -> None:
        self.acts.append(Act(kind, what))
        if durable:
            self.commit()

    def commit(self) -> None:
        self.durable = len(self.acts)

    def crash(self) -> None:
        del self.acts[self.durable :]

    def counting(self, *, durable: bool) -> Counting:
        found = Counting()
        for number, act in enumerate(self.acts[: self.durable if durable else None]):
            if act.kind == "step":
                found.steps.append(act.what)
            elif act.kind == "model":
                found.models.append((act.what, len(found.steps)))
                found.places[act.what] = number
            elif act.kind == "event":
                found.events.append((number, len(found.steps), act.what))
            elif act.kind == "resume":
                found.resume(act.what)
            elif act.kind == "manifest":
                found.manifest_root = act.what
            elif act.kind == "keyring":
                found.keyring = act.what
        return found
