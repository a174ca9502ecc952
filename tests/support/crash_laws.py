"""What must hold of a log after any crash (design: G1 to G5), looked at from outside.

G1 it is a prefix of what was appended; G2 all that was acknowledged is there; G3 what
was not is there or not, group by group; G4 no signed head contradicts an earlier one;
G5 no model is there without the steps that made it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from support.crashing import AGAIN, BARRIER, EVENT, MODEL, STATUS, STEP, made, mark, model_bytes, notice, plan
from support.lineage_runs import KEYRING

from aqpolicy.errors import LineageError
from aqpolicy.lineage import LineageReader, verify_log
from aqpolicy.lineage import entry as entries
from aqpolicy.lineage.attempts import Resumption
from aqpolicy.lineage.writer import GROUP
from aqpolicy.trust import Tree, leaf_hash, open_checkpoint, verify_consistency

_OF_THE_BEGINNING = (entries.GENESIS, entries.KEYRING, entries.POLICY, entries.MANIFEST)


@dataclass(slots=True)
class Life:
    """What a process that went on with a run was to do, and what it said."""

    seed: int
    acknowledged: list[int] = field(default_factory=list)
    """Numbers of operations that it said were safe; 0 when the log was open."""
    grouped: bool = True
    """Whether it says so at once, so that at most one group more can be there."""

    @property
    def safe(self) -> int:
        """How many of its operations are certainly there; -1 where not even the log was open."""
        return max(self.acknowledged, default=-1)

    def hear(self, said: bytes) -> None:
        """Take what it said, the last line perhaps cut."""
        for line in said[: said.rfind(b"\n") + 1].splitlines():
            word, number, *_ = line.split()
            if word in {b"durable", b"closed"}:
                self.acknowledged.append(int(number))


@dataclass(slots=True)
class Witness:
    """All that was ever seen of one run."""

    run: Path
    entries: list[bytes] = field(default_factory=list)
    notes: dict[int, bytes] = field(default_factory=dict)
    """Every signed head that was seen, by its size."""

    def see(self) -> None:
        """Remember the published head."""
        path = self.run / "head.note"
        if path.exists():
            note = path.read_bytes()
            self.notes[open_checkpoint(note, KEYRING.keys("log")).size] = note

    def look(self, life: Life) -> int:
        """Compare the log with all that is known, and return how many of the last process's operations it holds.

        Raises:
            AssertionError: A law is broken.
            AqpolicyError: The log is damaged.
        """
        if not (self.run / "head.note").exists():
            assert not self.entries, "a log is gone"
            assert life.safe == -1, "a log that was open is gone"
            assert not list(self.run.glob("*.bin")), "a model is there without a log"
            return 0
        self._verify()
        with LineageReader(self.run, KEYRING) as reader:
            found = [data for _, data in reader.raw_entries()]
            blocks = [reader.block(entry) for _, entry in reader.step_entries(superseded=True)]
            self.notes |= dict(reader.heads())
        assert found[: len(self.entries)] == self.entries, "what was there is not there any more"
        assert blocks == [made(block.step, block.attempt) for block in blocks]
        done = held(found[len(self.entries) :], life)
        self.entries = found
        self._heads_agree()
        self._models_have_steps()
        return done

    def _verify(self) -> None:
        """Verify as an auditor does who remembers the newest head that was ever seen."""
        remembered = self.run.parent / f"{self.run.name}.remembered"
        if self.notes:
            remembered.write_bytes(self.notes[max(self.notes)])
        verify_log(self.run, KEYRING, remembered=remembered)

    def _heads_agree(self) -> None:
        tree = Tree([leaf_hash(data) for data in self.entries])
        for size, note in self.notes.items():
            head = open_checkpoint(note, KEYRING.keys("log"))
            verify_consistency(size, tree.size, head.root, tree.root(), tree.consistency_path(size))

    def _models_have_steps(self) -> None:
        told = [entries.decode_facts(payload) for kind, payload in _decoded(self.entries) if kind == entries.CKPT]
        known = {facts["model"]: facts for facts in told}
        for file in self.run.glob("*.bin"):
            data = file.read_bytes()
            facts = known.get(hashlib.sha256(data).hexdigest())
            assert facts is not None, "a model is there that the log does not name"
            assert data == model_bytes(facts["step"], facts["attempt"])


def held(found: Sequence[bytes], life: Life) -> int:
    """Return how many operations of a process the entries hold that it appended: the first ones, and all safe ones."""
    operations = zip(count(), plan(life.seed), strict=False)
    done, is_open, attempt, step, tail = 0, False, 0, 0, 0
    for kind, payload in _decoded(found):
        if kind == entries.SEAL or (kind in _OF_THE_BEGINNING and not done):
            is_open = is_open or kind == entries.GENESIS
        elif kind == entries.RESUME:
            if is_open:
                last, done = done + _barriers(done, life.seed), _skipped(operations)
                assert not any(last < safe < done for safe in life.acknowledged), "what was safe was given up"
            said = Resumption.of(payload)
            is_open, attempt, step = True, said.attempt, said.from_step
        elif kind == entries.END:
            assert life.safe <= done + _barriers(done, life.seed)
        else:
            number, operation = next(one for one in operations if one[1] != BARRIER)
            assert is_open
            assert _says(kind, payload) == _due(operation, number, attempt, step)
            step += operation == STEP
            done = number + 1
            tail += operation == STEP and number >= life.safe
    done += _barriers(done, life.seed)
    assert done >= life.safe if is_open else life.safe == -1, "something acknowledged is not there"
    assert not life.grouped or tail <= GROUP, "more than a group is there that was not acknowledged"
    return done


def begin_anew_or_go_on(run: Path) -> None:
    """Say what may be wrong with opening a run that nobody has open."""
    if not (run / "head.note").exists():
        return
    with LineageReader(run, KEYRING):
        pass


def _decoded(found: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    return map(entries.decode_entry, found)


def _skipped(operations: Iterator[tuple[int, str]]) -> int:
    """Pass over what was given up, and return how many operations the log then stands for."""
    return 1 + next(number for number, operation in operations if operation == AGAIN)


def _barriers(done: int, seed: int) -> int:
    """Return how many operations that leave no entry follow."""
    following = (operation for number, operation in zip(count(), plan(seed), strict=False) if number >= done)
    return next(number for number, operation in enumerate(following) if operation != BARRIER)


def _says(kind: int, payload: bytes) -> tuple[Any, ...]:
    if kind == entries.STEP:
        step = entries.decode_step(payload)
        return STEP, step.attempt, step.step
    facts = entries.decode_facts(payload)
    if kind == entries.CKPT:
        return MODEL, facts["attempt"], facts["step"], facts["model"]
    assert kind == entries.STATUS
    return EVENT, facts


def _due(operation: str, number: int, attempt: int, step: int) -> tuple[Any, ...]:
    if operation == STEP:
        return STEP, attempt, step
    if operation == MODEL:
        return MODEL, attempt, step, hashlib.sha256(model_bytes(step, attempt)).hexdigest()
    return EVENT, notice(number) if operation == STATUS else mark(number)


def when_left(witness: Witness, life: Life) -> int:
    """Look as soon as no process writes any more."""
    import time

    for _ in range(1200):
        try:
            return witness.look(life)
        except LineageError as error:
            if "another process" not in str(error):
                raise
            time.sleep(0.02)
    raise AssertionError("the log is still being written")
