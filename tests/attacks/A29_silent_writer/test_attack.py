"""A29: the process that writes the log is gone, and training would go on without a record."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.lineage_runs import GENESIS, KEY, KEYRING, NAMES
from support.step_columns import columns

from aqpolicy.errors import LineageError
from aqpolicy.lineage import verify_log
from aqpolicy.scribe.link import Link
from aqpolicy.scribe.remote import RemoteWriter


def killed(run: Path) -> RemoteWriter:
    writer = RemoteWriter.create(run, GENESIS, KEY, **NAMES)
    writer.append_step(columns(0))
    writer.barrier()
    os.kill(writer.process_id, signal.SIGKILL)
    os.waitid(os.P_PID, writer.process_id, os.WEXITED | os.WNOWAIT)
    return writer


def test_the_next_step_is_refused(tmp_path: Path) -> None:
    writer = killed(tmp_path / "run")
    with pytest.raises(LineageError, match=r"training must stop: .*killed by signal 9"):
        writer.append_step(columns(1))
    writer.close()
    assert verify_log(tmp_path / "run", KEYRING).steps == 1


def test_without_listening_training_goes_on_unrecorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = killed(tmp_path / "run")
    monkeypatch.setattr(Link, "_look", lambda *_: True)
    for step in range(1, 4):
        writer.append_step(columns(step))
    monkeypatch.undo()
    with pytest.raises(LineageError, match="training must stop"):
        writer.append_model(4, bytes(32), {})  # and no model is published
    writer.close()
    report = verify_log(tmp_path / "run", KEYRING)
    assert (report.steps, report.ended) == (1, False)  # what is missing shows: the log has no end
