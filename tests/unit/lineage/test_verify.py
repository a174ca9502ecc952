"""Verifying a whole log: in several processes, after an interruption, against a remembered head, with attempts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from support.lineage_runs import GENESIS, KEY, KEYRING, NAMES, block, edit

from aqpolicy.errors import CorruptLogError, ForkedLogError, InputError
from aqpolicy.lineage import LineageWriter, verify_log
from aqpolicy.lineage.entry import CKPT, POLICY, RESUME, SEAL, encode_facts
from aqpolicy.lineage.state import State
from aqpolicy.lineage.store import block_key
from aqpolicy.scribe.index import FastRunBuilder
from aqpolicy.trust import digest_text


def begun(run: Path, steps: int = 0) -> LineageWriter:
    """Begin a log that is sealed every eight steps."""
    writer = LineageWriter.create(run, {**GENESIS, "seal_every": 8}, KEY, **NAMES)
    take(writer, steps)
    return writer


def take(writer: LineageWriter, until: int) -> None:
    """Append steps until there are so many."""
    for step in range(writer.steps, until):
        writer.append_step(replace(block(step), attempt=writer.attempt))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a log that went back once."""
    writer = begun(tmp_path / "run", 10)
    model = writer.append_model(10, bytes(32), {})
    take(writer, 21)
    writer.barrier()
    writer.abandon()
    writer = LineageWriter.resume(tmp_path / "run", KEY, KEYRING, entry=model, reason="stopped")
    take(writer, 30)
    writer.append_model(30, b"\1" * 32, {})
    writer.close()
    return tmp_path / "run"


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_it_says_the_same_however_many_processes_there_are(run: Path, workers: int) -> None:
    report = verify_log(run, KEYRING, workers=workers, index=FastRunBuilder)
    assert (report.steps, report.attempts, report.superseded, report.ended) == (30, 2, 11, True)
    edit(run, b"blk", block_key(1, 17), lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    edit(run, b"blk", block_key(0, 3), lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    with pytest.raises(CorruptLogError, match="1 more places") as caught:
        verify_log(run, KEYRING, workers=workers)
    assert caught.value.where.startswith("step 3")


def test_progress_counts_every_step_of_every_attempt(run: Path) -> None:
    seen: list[tuple[int, int]] = []
    verify_log(run, KEYRING, lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (41, 41)


# ---- a remembered head


def test_a_log_that_grew_is_remembered_and_one_that_shrank_is_refused(tmp_path: Path) -> None:
    run, mine = tmp_path / "run", tmp_path / "mine.note"
    writer = begun(run, 5)
    writer.barrier()
    writer.abandon()
    shutil.copytree(run, tmp_path / "older")
    verify_log(run, KEYRING, remembered=mine)
    first = mine.read_bytes()
    writer = LineageWriter.resume(run, KEY, KEYRING, entry=-1, reason="again")
    take(writer, 9)
    writer.close()
    verify_log(run, KEYRING, remembered=mine)
    assert mine.read_bytes() != first
    verify_log(tmp_path / "older", KEYRING)  # whole and signed: only who remembers can tell
    with pytest.raises(ForkedLogError, match=r"ROLLBACK: the log has \d+ entries, the remembered head"):
        verify_log(tmp_path / "older", KEYRING, remembered=mine)


def test_another_history_of_the_same_log_is_a_fork(tmp_path: Path) -> None:
    run, mine = tmp_path / "run", tmp_path / "mine.note"
    writer = begun(run, 5)
    writer.barrier()
    writer.abandon()
    shutil.copytree(run, tmp_path / "other")
    for place, reason in ((run, "one"), (tmp_path / "other", "other")):
        writer = LineageWriter.resume(place, KEY, KEYRING, entry=-1, reason=reason)
        take(writer, 4 if reason == "one" else 7)
        writer.close()
    verify_log(run, KEYRING, remembered=mine)
    before = mine.read_bytes()
    verify_log(tmp_path / "other", KEYRING)
    with pytest.raises(ForkedLogError, match="FORK: the log and the remembered head"):
        verify_log(tmp_path / "other", KEYRING, remembered=mine)
    assert mine.read_bytes() == before


def test_the_head_of_another_log_is_no_head_of_this_one(tmp_path: Path, run: Path) -> None:
    begun(tmp_path / "other", 3).close()
    verify_log(tmp_path / "other", KEYRING, remembered=tmp_path / "mine.note")
    with pytest.raises(InputError, match="the head of another log"):
        verify_log(run, KEYRING, remembered=tmp_path / "mine.note")


# ---- after an interruption


class StopError(Exception):
    """Stands for Ctrl-C."""


def stopping(at: int) -> Callable[[int, int], None]:
    """Return a progress that stops the verification once so many steps are checked."""

    def show(done: int, _: int) -> None:
        if done >= at:
            raise StopError

    return show


def test_an_interrupted_verification_goes_on_where_it_was(run: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with pytest.raises(StopError):
        verify_log(run, KEYRING, stopping(24), state=state)
    report = verify_log(run, KEYRING, state=state)
    assert report.believed == 16
    assert replace(report, believed=0) == verify_log(run, KEYRING)
    assert not state.exists()


def test_what_an_earlier_run_did_not_reach_is_still_checked(run: Path, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        verify_log(run, KEYRING, stopping(24), state=tmp_path / "state")
    edit(run, b"blk", block_key(1, 25), lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    with pytest.raises(CorruptLogError) as caught:
        verify_log(run, KEYRING, state=tmp_path / "state")
    assert caught.value.where.startswith("step 25")


def test_after_a_change_of_the_store_all_is_checked_again(run: Path, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        verify_log(run, KEYRING, stopping(24), state=tmp_path / "state")
    edit(run, b"blk", block_key(0, 3), lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    with pytest.raises(CorruptLogError) as caught:
        verify_log(run, KEYRING, state=tmp_path / "state")
    assert caught.value.where.startswith("step 3")


# ---- logs of a writer that does wrong, all signed


def forged(run: Path, kind: int, facts: dict[str, Any]) -> None:
    """Append an entry that no writer appends, under a head of its own."""
    writer = begun(run, 6)
    writer.append_model(6, bytes(32), {})
    take(writer, 9)
    writer._group.append(kind, encode_facts(facts))
    writer.barrier()
    writer.abandon()


RESUMED = {"attempt": 1, "entry": 9, "from_step": 6, "reason": "stopped", "supersedes": 3, "time_s": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attempt": 2}, "something else of the steps"),
        ({"from_step": 5}, "something else of the steps"),
        ({"supersedes": 2}, "something else of the steps"),
        ({"entry": 8}, "a model that the log does not have"),
        ({"entry": -1}, "something else of the steps"),
        ({"attempt": 0}, "something that no resumption is"),
        ({"reason": 7}, "does not say what training goes on from"),
    ],
)
def test_a_going_back_that_hides_something_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    forged(tmp_path / "run", RESUME, RESUMED | change)
    with pytest.raises(CorruptLogError, match=said):
        verify_log(tmp_path / "run", KEYRING)


def test_a_seal_that_leaves_a_step_out_is_refused(tmp_path: Path) -> None:
    facts = {"attempt": 0, "blocks": 0, "from_step": 8, "runs": {}, "to_step": 8}
    forged(tmp_path / "run", SEAL, facts)
    with pytest.raises(CorruptLogError, match="the seal does not cover the steps before it"):
        verify_log(tmp_path / "run", KEYRING)


def test_a_model_of_other_sums_is_refused(tmp_path: Path) -> None:
    facts = {"attempt": 0, "body": digest_text(bytes(32)), "model": "00" * 32, "state": "00" * 32, "step": 9}
    forged(tmp_path / "run", CKPT, facts)
    with pytest.raises(CorruptLogError):
        verify_log(tmp_path / "run", KEYRING)


def test_a_state_that_is_not_that_of_the_log_is_found(run: Path) -> None:
    edit(run, b"meta", b"state", lambda data: data.replace(b"a", b"b", 1))
    with pytest.raises(CorruptLogError) as caught:
        verify_log(run, KEYRING)
    assert caught.value.where == "meta"


@pytest.mark.parametrize(
    "name", [field.name for field in fields(State) if field.name not in {"group", "sealed", "unsealed"}]
)
def test_a_state_that_says_something_else_than_the_log_is_found_whoever_signed_it(run: Path, name: str) -> None:
    def change(data: bytes) -> bytes:
        state = State.opened(data, KEYRING)
        old = getattr(state, name)
        new = not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else old[:-1] + bytes([old[-1] ^ 1])
        return replace(state, **{name: new}).signed(KEY)

    edit(run, b"meta", b"state", change)
    with pytest.raises(
        CorruptLogError, match="the state that the writer goes on from is not that of the log"
    ) as caught:
        verify_log(run, KEYRING)
    assert caught.value.where == "meta"


@pytest.mark.parametrize("said", ["11" * 32, "sha256:" + "AA" * 32, "sha256:11", 7])
def test_a_digest_that_is_written_otherwise_names_nothing(tmp_path: Path, said: object) -> None:
    forged(tmp_path / "run", POLICY, {"bundle": said})
    with pytest.raises(CorruptLogError, match="the policy is not named"):
        verify_log(tmp_path / "run", KEYRING)


def test_sums_kept_for_a_model_that_were_changed_are_found(run: Path) -> None:
    edit(run, b"meta", b"model" + (14).to_bytes(8, "big"), lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptLogError, match="the sums kept for going on from this model"):
        verify_log(run, KEYRING)


@pytest.mark.parametrize("table", [b"blk", b"body", b"run", b"meta"])
def test_what_is_left_over_is_found(run: Path, table: bytes) -> None:
    edit(run, table, b"\xff" * 16, lambda _: b"more")
    with pytest.raises(CorruptLogError):
        verify_log(run, KEYRING)
