"""A log says what was appended, in order, under signed heads."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from support.lineage_runs import BUDGETS, GENESIS, GROUPS, KEY, KEYRING, block, write_run

from aqpolicy.errors import LineageError, SignatureError
from aqpolicy.lineage import LineageReader, LineageWriter, verify_log
from aqpolicy.trust import Keyring, SigningKey


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=20)
    with LineageReader(run, KEYRING) as reader:
        assert list(reader.steps()) == [block(step) for step in range(20)]
        assert reader.step(7) == block(7)
        assert reader.models[0]["step"] == 20
        assert reader.genesis["groups"] == list(GROUPS)


def test_a_finished_log_verifies(tmp_path: Path) -> None:
    report = verify_log(write_run(tmp_path / "run", steps=130), KEYRING)
    assert (report.entries, report.steps, report.rows, report.ended) == (133, 130, 520, True)
    assert report.heads == 5  # genesis, every 64 steps, the model, the end


def test_a_key_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    stranger = Keyring.of([("log", SigningKey.generate("log").verify_key)])
    with pytest.raises(SignatureError):
        verify_log(run, stranger)


def test_a_log_is_never_begun_twice(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    with pytest.raises(LineageError, match="already holds a log"):
        LineageWriter.create(run, GENESIS, KEY, groups=GROUPS, budgets=BUDGETS)


def test_a_step_out_of_turn_is_refused(tmp_path: Path) -> None:
    writer = LineageWriter.create(tmp_path / "run", GENESIS, KEY, groups=GROUPS, budgets=BUDGETS)
    with pytest.raises(LineageError, match="step 3 came where step 0 was due"):
        writer.append_step(block(3))
    writer.close()


def test_two_writers_exclude_each_other(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    with (run / "lineage" / "writer.lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(LineageError, match="another process writes"):
            LineageWriter.open_for_status(run, KEY, KEYRING)
    LineageWriter.open_for_status(run, KEY, KEYRING).close()


def test_a_status_extends_the_log_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=3)
    before = verify_log(run, KEYRING)
    writer = LineageWriter.open_for_status(run, KEY, KEYRING)
    assert writer.append_status({"credential": "reader-07"}) == before.entries
    writer.close()
    assert verify_log(run, KEYRING).entries == before.entries + 1
    with LineageReader(run, KEYRING) as reader:
        assert reader.statuses == [{"credential": "reader-07"}]


def test_another_key_cannot_append_a_status(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    other = SigningKey.generate("log")
    trusted = KEYRING.with_key("log", other.verify_key)
    with pytest.raises(LineageError, match="is not the key of this log"):
        LineageWriter.open_for_status(run, other, trusted)


def test_the_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    assert (run / "lineage" / "data.mdb").stat().st_mode & 0o077 == 0
