"""A log that is appended to, crashes, is gone on with, published, revoked and verified in any order says what it must.

Beside it stands its account: a plain list of what was done, from which follows what
must survive a crash and what counts. After every act the log is compared with it, as
a crash at this moment would leave it.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.lineage_runs import GENESIS, NAMES, block
from support.log_account import Account
from support.memory import in_memory

from aqpolicy.errors import LineageError
from aqpolicy.lineage import LineageReader, LineageWriter, StepBlock, verify_log
from aqpolicy.lineage.state import STATE_KEY, State
from aqpolicy.lineage.store import META
from aqpolicy.lineage.writer import GROUP
from aqpolicy.trust import Keyring, Retired, SigningKey, VerifyKey, parse_keyring, sign_keyring

ROOT = SigningKey.from_seed("root", bytes([7]) * 32)
LATER = "2999-01-01"


visits = st.integers(1, 3).flatmap(
    lambda ranks: st.lists(st.tuples(*[st.integers(0, 3)] * ranks), min_size=1, max_size=2).map(tuple)
)

shapes = st.lists(visits, min_size=1, max_size=12)
models = st.integers(0, 2)


class LogMachine(RuleBasedStateMachine):
    """A run, its account, and what is done to both."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="aqpolicy-machine-", dir=in_memory()))
        self.run = self.folder / "run"
        self.account = Account()
        self.signer, self.keys = SigningKey.from_seed("log", bytes([8]) * 32), 1
        self.keyring = signed((self.signer.verify_key,), 1)
        self.writer: LineageWriter
        self.marks = 0

    def teardown(self) -> None:
        if self.run.exists():
            self.writer.abandon()
        shutil.rmtree(self.folder)

    @initialize(norms=st.sampled_from(["float32", "float16"]), seal_every=st.sampled_from([3, 8, 256]))
    def begin(self, norms: str, seal_every: int) -> None:
        facts = {**GENESIS, "norms": norms, "seal_every": seal_every}
        self.writer = LineageWriter.create(self.run, facts, self.signer, **NAMES, keyring=self.keyring)

    # ---- a training

    @rule(shapes=shapes, new_epoch=st.booleans(), models=models)
    def train(self, shapes: list[tuple[tuple[int, ...], ...]], new_epoch: bool, models: int) -> None:
        last = self.account.counting(durable=False).steps[-1:]
        epoch = (last[0].epoch if last else 0) + new_epoch
        for shape in shapes:
            step = made(self.writer.steps, sum(map(sum, shape)))
            step = replace(step, attempt=self.writer.attempt, epoch=epoch, visits=shape)
            self.writer.append_step(step)
            # A group is durable at 16 steps; sooner, where an index is sealed that needs what the disk has.
            self.account.add("step", step, durable=self.writer.durable_steps == self.writer.steps)
            assert self.writer.steps - self.writer.durable_steps < GROUP
        for _ in range(models):
            self.publish()

    @rule()
    def publish(self) -> None:
        entry = self.writer.append_model(self.writer.steps, hashlib.sha256(b"model").digest(), {"name": "model"})
        self.account.add("model", entry, durable=True)

    @rule()
    def log_event(self) -> None:
        said = self.mark()
        self.writer.append_event(said)
        self.account.add("event", said)

    @rule()
    def barrier(self) -> None:
        self.writer.barrier()
        self.account.commit()

    @rule(root=st.binary(min_size=32, max_size=32))
    def supersede_manifest(self, root: bytes) -> None:
        self.writer.append_manifest(root, bytes(32))
        self.account.add("manifest", f"sha256:{root.hex()}")

    @rule()
    def log_keyring(self) -> None:
        if self.keyring.version > self.account.counting(durable=False).keyring:
            self.writer.append_keyring(self.keyring)
            self.account.add("keyring", self.keyring.version, durable=True)
        else:
            with pytest.raises(LineageError, match="does not follow"):
                self.writer.append_keyring(self.keyring)

    # ---- how it stops, what is done to it then, and how it goes on

    @rule(
        how=st.sampled_from(["close", "crash", "crash_before_a_commit", "crash_after_a_commit"]),
        meanwhile=st.lists(st.sampled_from(["revoke", "rotate_keys", "begin_again", "resume_wrongly"]), max_size=2),
        back=st.integers(0, 3),
        shapes=shapes,
        models=models,
    )
    def go_on_for_a_while_and_again(self, how: str, meanwhile: list[str], back: int, **some: Any) -> None:
        self.train(**some, new_epoch=False)
        self.stop_and_go_on(how, meanwhile, back)

    def stop_and_go_on(self, how: str, meanwhile: list[str], back: int) -> None:
        for each in (how, *meanwhile):
            getattr(self, each)()
            self.what_a_crash_leaves_is_what_must_be_there()
        found = self.account.counting(durable=True)
        entries = [*(entry for entry, _ in reversed(found.models)), -1]
        self.resume(entries[min(back, len(entries) - 1)])
        if "rotate_keys" in meanwhile:
            self.log_keyring()

    def close(self) -> None:
        self.writer.close()
        self.account.commit()

    def crash(self) -> None:
        self.writer.abandon()
        self.account.crash()

    def crash_before_a_commit(self) -> None:
        self._crash_in_a_commit(written=False)

    def crash_after_a_commit(self) -> None:
        """Die when a group is durable, before its head is published."""
        self._crash_in_a_commit(written=True)

    def _crash_in_a_commit(self, *, written: bool) -> None:
        store = self.writer._group.store
        put = store.put_group

        def dying(group: Any) -> None:
            if written:
                put(group)
            raise LineageError("the machine died")

        self.log_event()
        store.put_group = dying
        with pytest.raises(LineageError, match="the machine died"):
            self.writer.barrier()
        with pytest.raises(LineageError, match="takes no more"):
            self.writer.append_event({})
        if written:
            self.account.commit()
        self.crash()

    def resume(self, entry: int) -> None:
        self.writer = LineageWriter.resume(self.run, self.signer, self.keyring, entry=entry, reason="stopped")
        self.account.add("resume", entry, durable=True)

    def resume_wrongly(self) -> None:
        """Try to go on from models that count no longer, and from one that never was."""
        found = self.account.counting(durable=True)
        for entry in (*(found.places.keys() - dict(found.models).keys()), 1 << 40):
            with pytest.raises(LineageError, match=r"went back behind the model|has no model"):
                LineageWriter.resume(self.run, self.signer, self.keyring, entry=entry, reason="stopped")

    def begin_again(self) -> None:
        with pytest.raises(LineageError, match="already holds a log"):
            LineageWriter.create(self.run, GENESIS, self.signer, **NAMES)

    def revoke(self) -> None:
        said = {**self.mark(), "credential": "c"}
        writer = LineageWriter.open_for_status(self.run, self.signer, self.keyring)
        writer.append_status(said)
        writer.close()
        self.account.add("event", said, durable=True)

    def rotate_keys(self) -> None:
        """Retire the key that signs the log, and let another go on."""
        with LineageReader(self.run, self.keyring) as reader:
            bound = Retired("", ((reader.checkpoint.origin, reader.size),))
        old, self.keys = self.signer.verify_key, self.keys + 1
        self.signer = SigningKey.from_seed(f"log{self.keys}", bytes([7 + self.keys]) * 32)
        kept = [key for key in self.keyring.roles["log"] if key.retired is not None]
        retired = VerifyKey(old.name, old.public, bound)
        self.keyring = signed((*kept, retired, self.signer.verify_key), self.keyring.version + 1)

    # ---- what must be so

    @rule(remember=st.booleans(), stop=st.booleans())
    def verify(self, remember: bool, stop: bool) -> None:
        """Verify what a crash would leave, as an auditor who remembers a head, or who was interrupted."""
        run, found = self.left(), self.account.counting(durable=True)
        more: dict[str, Any] = {"remembered": self.folder / "remembered"} if remember else {}
        if stop:
            more["state"] = self.folder / "state"
            interrupted(lambda progress: verify_log(run, self.keyring, progress, **more))
        report = verify_log(run, self.keyring, **more)
        assert (report.steps, report.attempts) == (len(found.steps), found.attempt + 1)
        assert report == replace(verify_log(run, self.keyring), believed=report.believed)

    @invariant()
    def what_a_crash_leaves_is_what_must_be_there(self) -> None:
        if not self.run.exists():
            return
        found = self.account.counting(durable=True)
        with LineageReader(self.left(), self.keyring) as reader:
            assert list(reader.steps()) == found.steps
            assert [(model["entry"], model["step"]) for model in reader.models] == found.models
            assert reader.events == [(before, said) for _, before, said in found.events]
            trusted = self.keyring.within(reader.checkpoint.origin, reader.size)
            state = State.opened(reader.store.get(META, STATE_KEY), trusted)
        assert state.tally == found.sums
        assert (state.step, state.attempt, state.keyring) == (len(found.steps), found.attempt, found.keyring)
        assert f"sha256:{state.manifest_root.hex()}" == found.manifest_root

    @invariant()
    def the_writer_says_what_is_durable(self) -> None:
        if self.run.exists():
            assert self.writer.durable_steps == len(self.account.counting(durable=True).steps)
            assert self.writer.steps == len(self.account.counting(durable=False).steps)

    def left(self) -> Path:
        """Return a copy of the run as a crash would leave it now."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        (copy / "lineage").mkdir(parents=True)
        for name in ("head.note", "lineage/data.mdb"):
            shutil.copy(self.run / name, copy / name)
        return copy

    def mark(self) -> dict[str, Any]:
        self.marks += 1
        return {"event": "mark", "number": self.marks}


def made(step: int, rows: int) -> StepBlock:
    """Return a step of so many rows, whose norms every width of the log can hold."""
    found = block(step, rows or 1)
    members = tuple(replace(row, norms=(row.manifest_index % 1024 / 2, 0.5)) for row in found.rows)
    return replace(found, rows=members[:rows])


def signed(keys: tuple[VerifyKey, ...], version: int) -> Keyring:
    """Return a signed keyring of these log keys."""
    keyring = Keyring({"root": (ROOT.verify_key,), "log": keys}, version, LATER)
    return parse_keyring(sign_keyring(keyring, [ROOT]) + b"\n")


class _StoppedError(Exception):
    pass


def interrupted(verify: Callable[[Callable[[int, int], None]], Any]) -> None:
    """Begin a verification, and stop it after the second segment."""
    calls = 0

    def stop(_: int, __: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise _StoppedError

    with suppress(_StoppedError):
        verify(stop)


TestLog = LogMachine.TestCase
TestLog.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_a_model_whose_steps_all_count_may_be_gone_on_from() -> None:
    """Also one that was published after the model that training went back to, by the same steps."""
    machine = LogMachine()
    machine.begin("float32", 256)
    machine.train([((2,),)], new_epoch=False, models=2)
    for back in (1, 0):
        machine.stop_and_go_on("crash", [], back)
        machine.what_a_crash_leaves_is_what_must_be_there()
        machine.verify(remember=True, stop=False)
    machine.teardown()
