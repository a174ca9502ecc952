"""Compare every entry of a log with those before it, and put together what is to be compared with the rows.

One pass, in order, over the entries alone. What an entry says of the rows of a step
is left to `verify_blocks`: the pass hands out segments, each up to a seal, and what
lies between their steps that the sums over all steps depend on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage.attempts import Resumption
from aqpolicy.lineage.entry import (
    CKPT,
    END,
    GENESIS,
    KEYRING,
    KINDS,
    MANIFEST,
    POLICY,
    RESUME,
    SEAL,
    STATUS,
    STEP,
    StepEntry,
    decode_entry,
    decode_facts,
    decode_step,
)
from aqpolicy.lineage.genesis import digest_of
from aqpolicy.lineage.reader import LineageReader
from aqpolicy.lineage.tally import Tally
from aqpolicy.lineage.verify_blocks import Place, SegmentTask, StepTask
from aqpolicy.trust import sha256

AFTER_END: Final = frozenset({STATUS, KEYRING, RESUME})


@dataclass(frozen=True, slots=True)
class Mark:
    """A model, or a going back, among the steps of a segment."""

    index: int
    """Of its entry."""
    model: int | None = None
    """The model entry that training goes back to, -1 for the beginning; None where this is a model."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Steps to be compared with their rows, and in their order what else changes the sums."""

    task: SegmentTask
    order: tuple[StepTask | Mark, ...]


@dataclass(frozen=True, slots=True)
class _Point:
    """Where a training is after some steps, as entries say it."""

    step: int
    """Number of the next step."""
    epoch: int
    budget_state: bytes
    data_cursor: bytes

    @property
    def digest(self) -> str:
        """What a model entry names."""
        return sha256(self.budget_state + self.data_cursor).hex()


class Entries:
    """One pass over the entries of a log."""

    def __init__(self, reader: LineageReader) -> None:
        """Start before the first entry."""
        genesis = reader.genesis
        tally = Tally(reader.layout.budgets)
        self._reader, self._run_id = reader, bytes.fromhex(genesis["run"])
        self._beginning = _Point(int(genesis["first_step"]), 0, tally.budget_state, tally.data_cursor)
        self._point = self._beginning
        self._models: dict[int, _Point] = {}
        self.bundle, self.manifest_root = digest_of(genesis, "bundle"), digest_of(genesis, "manifest_root")
        self.keyring = self.last_step = -1
        self._opened: set[int] = set()
        self._order: list[StepTask | Mark] = []
        self._steps: list[StepTask] = []
        self.attempt = 0
        self.steps = self.rows = self.blocks = self.bodies = self.models = self.runs = 0
        self.ended = False

    @property
    def next_step(self) -> int:
        """Number of the step that would come next."""
        return self._point.step

    def take(self, index: int, data: bytes) -> tuple[int, list[Place], Segment | None]:
        """Take the next entry: return its kind, what is wrong with it, and the segment that it ends."""
        where = f"entry {index}"
        try:
            kind, payload = decode_entry(data)
            problems, segment = self._taken(index, kind, payload)
        except CorruptLogError as error:
            return 0, [(error.where or where, error.problem)], None
        return kind, [(where, said) for said in problems], segment

    def rest(self) -> Segment | None:
        """Return the steps that no seal covers, after the last entry."""
        return self._segment(SegmentTask(tuple(self._steps))) if self._order else None

    def _taken(self, index: int, kind: int, payload: bytes) -> tuple[list[str], Segment | None]:
        found = list(self._out_of_place(kind))
        if kind == STEP:
            found += self._step(index, decode_step(payload))
            return found, None
        if kind == RESUME:
            return found + list(self._resume(index, Resumption.of(payload))), None
        facts = decode_facts(payload)
        if kind == SEAL:
            wrong, segment = self._seal(index, facts)
            return found + wrong, segment
        if kind in {POLICY, MANIFEST}:
            found += self._ground(kind, facts)
        elif kind == KEYRING:
            found += self._key_ring(index, facts)
        elif kind == CKPT:
            found += self._model(index, facts)
        elif kind == END:
            found += self._end(facts)
        return found, None

    def _out_of_place(self, kind: int) -> Iterator[str]:
        """Compare a kind with those before it: first what the run is, then policy and manifest, then all else."""
        first = not self._opened
        self._opened.add(kind)
        if (kind == GENESIS) != first:
            yield f"a {KINDS[kind]} entry has no place here"
        elif kind not in {GENESIS, KEYRING, POLICY} and not {POLICY, MANIFEST} <= self._opened:
            yield f"a {KINDS[kind]} entry comes before policy and manifest"
        if self.ended and kind not in AFTER_END:
            yield f"a {KINDS[kind]} entry follows the end"

    def _step(self, index: int, entry: StepEntry) -> Iterator[str]:
        point = self._point
        task = StepTask(index, entry, point.data_cursor)
        self._order.append(task)
        self._steps.append(task)
        self.last_step = index
        self.steps, self.rows, self.blocks = self.steps + 1, self.rows + entry.rows, self.blocks + len(entry.ranks)
        self._point = _Point(point.step + 1, entry.epoch, entry.budget_state, entry.data_cursor)
        if (entry.attempt, entry.step) != (self.attempt, point.step):
            yield f"step {point.step} is missing, or not in its place"
        if (entry.run_id, entry.bundle, entry.manifest_root) != (self._run_id, self.bundle, self.manifest_root):
            yield "the step belongs to another run, policy or manifest"
        if entry.epoch < point.epoch:
            yield "the epochs go back"

    def _resume(self, index: int, said: Resumption) -> Iterator[str]:
        point = self._beginning if said.entry == -1 else self._models.get(said.entry)
        if point is None:
            yield "training goes on from a model that the log does not have, or that no longer counts"
            return
        supersedes = self._point.step - point.step
        if (said.attempt, said.from_step, said.supersedes) != (self.attempt + 1, point.step, supersedes):
            yield "it says something else of the steps before it than they do"
        self.attempt, self._point, self.ended = said.attempt, point, False
        self._models = {model: at for model, at in self._models.items() if at.step <= point.step}
        self._order.append(Mark(index, said.entry))

    def _model(self, index: int, facts: dict[str, object]) -> Iterator[str]:
        self.bodies, self.models = self.bodies + 1, self.models + 1
        self._models[index] = self._point
        self._order.append(Mark(index))
        said = (facts.get("step"), facts.get("attempt"), facts.get("state"))
        if said != (self._point.step, self.attempt, self._point.digest):
            yield f"it does not describe the model of the {self._point.step} steps before it"
        self._reader.body(index, facts)

    def _seal(self, index: int, facts: dict[str, object]) -> tuple[list[str], Segment | None]:
        runs = facts.get("runs")
        if not isinstance(runs, dict) or not all(isinstance(digest, str) for digest in runs.values()):
            return ["the seal names no runs"], None
        self.runs += len(runs)
        steps = [task.entry for task in self._steps]
        segment = self._segment(SegmentTask(tuple(self._steps), index, runs))
        is_due = bool(steps) and facts == {
            "attempt": steps[-1].attempt,
            "blocks": sum(len(step.ranks) for step in steps),
            "from_step": steps[0].step,
            "runs": runs,
            "to_step": steps[-1].step + 1,
        }
        return [] if is_due else ["the seal does not cover the steps before it"], segment

    def _segment(self, task: SegmentTask) -> Segment:
        segment = Segment(task, tuple(self._order))
        self._order, self._steps = [], []
        return segment

    def _ground(self, kind: int, facts: dict[str, object]) -> Iterator[str]:
        """Take the policy or manifest in force from here on; the first ones are those that the first entry names."""
        name, field = ("policy", "bundle") if kind == POLICY else ("manifest", "root")
        old = self.bundle if kind == POLICY else self.manifest_root
        is_first = not self._steps and not self.steps and facts.keys() == {field}
        try:
            new = digest_of(facts, field)
            before = old if is_first or kind == POLICY else digest_of(facts, "supersedes")
        except ValueError:
            yield f"the {name} is not named"
            return
        if before != old or (is_first and new != old):
            yield f"the {name} is not that of the run"
        if kind == POLICY:
            self.bundle = new
        else:
            self.manifest_root = new

    def _key_ring(self, index: int, facts: dict[str, object]) -> Iterator[str]:
        self.bodies += 1
        version = facts.get("version")
        if type(version) is not int or version <= self.keyring:
            yield "the keyring does not follow the one before it"
        else:
            self.keyring = version
        self._reader.raw_body(index, facts.get("keyring"))

    def _end(self, facts: dict[str, object]) -> Iterator[str]:
        self.ended = True
        if facts != {"steps": self._point.step}:
            yield f"it counts other steps than the {self._point.step} before it"
