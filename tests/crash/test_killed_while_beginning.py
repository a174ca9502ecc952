"""A run that was killed while its log was begun is begun again in the same folder; a log is never replaced."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from support.lineage_runs import GENESIS, KEY, KEYRING, NAMES, block, write_run

from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage import LineageReader, LineageWriter, verify_log


def begin(run: Path) -> LineageWriter:
    return LineageWriter.create(run, GENESIS, KEY, **NAMES)


def begun(run: Path) -> Path:
    """Leave what a process does that is killed before the first head is published."""
    begin(run).abandon()
    (run / "head.note").unlink()
    return run


def files(run: Path) -> dict[str, bytes]:
    return {str(each.relative_to(run)): each.read_bytes() for each in run.rglob("*") if each.is_file()}


def test_a_log_without_head_and_steps_is_begun_again(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    old = (run / "lineage" / "data.mdb").read_bytes()
    writer = begin(run)
    writer.append_step(block(0))
    writer.close()
    assert verify_log(run, KEYRING).steps == 1
    with LineageReader(run, KEYRING) as reader:
        assert reader.genesis["run"].encode() not in old
    assert not (run / "lineage.new").exists()


@pytest.mark.parametrize("data", [b"", bytes(8192), b"x" * 5000])
def test_what_a_store_was_when_the_process_died_does_not_matter(tmp_path: Path, data: bytes) -> None:
    making = tmp_path / "run" / "lineage.new"
    making.mkdir(parents=True)
    (making / "data.mdb").write_bytes(data)
    (making / "lock.mdb").write_bytes(data)
    begin(tmp_path / "run").close()
    assert verify_log(tmp_path / "run", KEYRING).ended


def test_both_leftovers_of_two_kills_are_replaced(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    (run / "lineage.new").mkdir()
    (run / "lineage.new" / "data.mdb").write_bytes(b"x")
    begin(run).close()
    assert verify_log(run, KEYRING).ended


def test_who_uses_a_log_that_was_never_begun_is_told_what_to_do(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    for use in (
        lambda: verify_log(run, KEYRING),
        lambda: LineageReader(run, KEYRING),
        lambda: LineageWriter.open_for_status(run, KEY, KEYRING),
        lambda: LineageWriter.resume(run, KEY, KEYRING, entry=-1, reason="killed"),
    ):
        with pytest.raises(LineageError, match="begin the run again"):
            use()


def with_step(run: Path) -> None:
    writer = begin(run)
    writer.append_step(block(0))
    writer.barrier()
    writer.abandon()


def with_event(run: Path) -> None:
    writer = begin(run)
    writer.append_status({"event": "revoked", "credential": "c"})
    writer.abandon()


@pytest.mark.parametrize("make", [with_step, with_event, write_run])
def test_a_log_whose_head_is_missing_is_never_replaced(tmp_path: Path, make) -> None:
    run = tmp_path / "run"
    make(run)
    (run / "head.note").unlink()
    before = files(run)
    with pytest.raises(LineageError, match=r"already holds a log, whose `head\.note` is missing"):
        begin(run)
    assert files(run)["lineage/data.mdb"] == before["lineage/data.mdb"]


def test_a_damaged_log_whose_head_is_missing_is_never_replaced(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=3)
    (run / "head.note").unlink()
    data = run / "lineage" / "data.mdb"
    data.write_bytes(data.read_bytes()[:20_000])
    before = files(run)
    with pytest.raises(CorruptLogError):
        begin(run)
    assert files(run)["lineage/data.mdb"] == before["lineage/data.mdb"]


@pytest.mark.parametrize("name", ["lineage", "lineage.new"])
def test_a_log_that_another_process_begins_is_left_alone(tmp_path: Path, name: str) -> None:
    run = begun(tmp_path / "run")
    (run / name).mkdir(exist_ok=True)
    with (run / name / "writer.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        before = files(run)
        with pytest.raises(LineageError, match="another process"):
            begin(run)
        assert before.items() <= files(run).items()
