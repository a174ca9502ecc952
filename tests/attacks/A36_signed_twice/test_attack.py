"""A36: two processes are made to sign two heads of one size."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.attacking import begun, denied, rows_of, take
from support.lineage_runs import KEY, KEYRING

from aqpolicy.errors import ForkedLogError, LineageError
from aqpolicy.lineage import LineageWriter, verify_log
from aqpolicy.trust import open_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    writer = begun(tmp_path / "run")
    take(writer, rows_of(0, 2))
    writer.close()
    return tmp_path / "run"


def revoke(run: Path, credential: str) -> LineageWriter:
    writer = LineageWriter.open_for_status(run, KEY, KEYRING)
    writer.append_status({"credential": credential, "event": "revoked"})
    return writer


WITHOUT_LOCK = """
import sys
from pathlib import Path
from support.lineage_runs import KEY, KEYRING
from aqpolicy.lineage import LineageWriter, folder
if sys.argv[2] == "without":
    folder.fcntl.flock = lambda *_: None
LineageWriter.open_for_status(Path(sys.argv[1]), KEY, KEYRING).abandon()
"""


def in_another_process(run: Path, lock: str) -> int:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", WITHOUT_LOCK, str(run), lock]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def test_a_second_writer_waits_outside(run: Path) -> None:
    first = revoke(run, "reader-07")
    denied(lambda: revoke(run, "reader-08"), LineageError, "another process writes")
    assert in_another_process(run, "with") == 1
    assert in_another_process(run, "without") == 0  # both could sign now
    first.close()
    assert verify_log(run, KEYRING).entries == 7


def test_a_lock_that_is_held_elsewhere_holds(run: Path) -> None:
    held = os.open(run / "lineage" / "writer.lock", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    denied(lambda: revoke(run, "reader-07"), LineageError, "another process writes")
    os.close(held)
    revoke(run, "reader-07").close()


def test_two_copies_that_went_on_are_two_logs(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    revoke(run, "reader-07").close()
    revoke(copy, "reader-08").close()
    heads = [open_checkpoint((each / "head.note").read_bytes(), KEYRING.keys("log")) for each in (run, copy)]
    assert heads[0].size == heads[1].size
    assert heads[0].root != heads[1].root  # no lock reaches to another machine: whoever has both heads has the proof
    shutil.copy(run / "head.note", copy / "head.note")
    denied(lambda: verify_log(copy, KEYRING), ForkedLogError, "contradict each other")
    denied(lambda: revoke(copy, "reader-09"), ForkedLogError, "contradict each other")
