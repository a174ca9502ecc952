"""A28: the disk is full, a flush fails, the clock goes back: training stops, and what was durable stays so."""

from __future__ import annotations

import time
from pathlib import Path

import lmdb
import pytest
from support.attacking import begun, denied, rows_of, take, take_away
from support.lineage_runs import KEYRING

from aqpolicy.errors import ForkedLogError, LineageError
from aqpolicy.lineage import group, verify_log
from aqpolicy.lineage.group import Group
from aqpolicy.lineage.store import Store


@pytest.mark.parametrize("error", [lmdb.DiskError("No space left"), OSError(5, "Input/output error")])
def test_a_group_that_is_not_written_ends_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    writer = begun(tmp_path / "run")
    take(writer, rows_of(0, 2))
    writer.barrier()
    take(writer, rows_of(2, 2))
    monkeypatch.setattr(Store, "_put", fail)
    with pytest.raises(LineageError, match="training must stop"):
        writer.append_model(2, bytes(32), {})
    monkeypatch.undo()
    with pytest.raises(LineageError, match="takes no more entries"):
        take(writer, rows_of(4, 1))
    writer.close()
    assert verify_log(tmp_path / "run", KEYRING).steps == 1


def test_without_the_end_of_the_log_training_goes_on_after_a_failed_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    writer = begun(tmp_path / "run")
    take(writer, rows_of(0, 2))
    with monkeypatch.context() as broken:
        broken.setattr(Store, "_put", fail)
        denied(writer.barrier, LineageError, "the log cannot be written, training must stop: the log cannot be")
    denied(writer.barrier, LineageError, "the log takes no more entries: the log cannot be written")
    take_away(monkeypatch, Group.refuse_when_dead, "the log takes no more entries")
    for step in range(1, 15):
        take(writer, rows_of(2 * step, 2))
    assert (writer.steps, writer.durable_steps) == (15, 0)  # nobody knows what the disk holds of the first
    writer.barrier()
    assert writer.durable_steps == 15
    writer.abandon()


def test_a_disk_that_lies_leaves_a_hole_that_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = begun(tmp_path / "run")
    take(writer, rows_of(0, 2))
    with monkeypatch.context() as context:
        context.setattr(Store, "put_group", lambda *_: None)  # says that it wrote, as a disk that lies
        writer.barrier()
    take(writer, rows_of(2, 2))
    writer.close()
    denied(lambda: verify_log(tmp_path / "run", KEYRING), ForkedLogError, "ROLLBACK: the log holds 6 entries")


def test_a_head_that_is_not_published_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LineageError("no space")

    writer = begun(tmp_path / "run")
    take(writer, rows_of(0, 2))
    monkeypatch.setattr(group, "replace_file", fail)
    with pytest.raises(LineageError, match="training must stop"):
        writer.barrier()
    writer.close()
    monkeypatch.undo()
    assert verify_log(tmp_path / "run", KEYRING).steps == 1


def test_the_order_is_the_logs_whatever_the_clock_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = begun(tmp_path / "run")
    for number, moment in enumerate((2_000_000_000, 1_000_000_000, 0)):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        take(writer, rows_of(2 * number, 2), time_ns=moment * 10**9)
    writer.close()
    assert verify_log(tmp_path / "run", KEYRING).steps == 3
