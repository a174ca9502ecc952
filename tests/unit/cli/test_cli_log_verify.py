"""`aqpolicy log verify`: its options, and what it says while it works."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.lineage_runs import KEY, KEYRING, write_run

from aqpolicy.cli.log.meter import Meter
from aqpolicy.cli.main import main
from aqpolicy.lineage import LineageWriter


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run", steps=20)
    KEYRING.save(folder / "keyring.json")
    return folder


def test_a_remembered_head_tells_an_older_log(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.note"
    shutil.copytree(run, tmp_path / "older")
    writer = LineageWriter.open_for_status(run, KEY, KEYRING)
    writer.append_status({"event": "seen"})
    writer.close()
    assert main(["log", "verify", str(run), "--structure-only", "--remember", str(mine)]) == 0
    assert mine.read_bytes() == (run / "head.note").read_bytes()
    assert main(["log", "verify", str(tmp_path / "older"), "--structure-only"]) == 0
    assert main(["log", "verify", str(tmp_path / "older"), "--remember", str(mine)]) == 1
    assert "refused   ROLLBACK: the log has" in capsys.readouterr().out


def test_a_run_that_went_back_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LineageWriter.resume(run, KEY, KEYRING, entry=-1, reason="again").close()
    assert main(["log", "verify", str(run), "--structure-only", "--workers", "2"]) == 0
    assert "attempts  2; 20 steps were computed, then superseded" in capsys.readouterr().out


@pytest.mark.parametrize("workers", ["0", "257", "many"])
def test_another_number_of_processes_is_refused(run: Path, workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["log", "verify", str(run), "--workers", workers])
    assert "invalid number from 1 to 256" in capsys.readouterr().err


def test_the_state_of_a_whole_verification_is_removed(run: Path, tmp_path: Path) -> None:
    assert main(["log", "verify", str(run), "--structure-only", "--state", str(tmp_path / "state")]) == 0
    assert not (tmp_path / "state").exists()


WITHOUT_TRAINING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {"numpy", "torch"}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Missing())
from aqpolicy.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""The command as an auditor has it who installed nothing to train with."""


@pytest.mark.parametrize("words", [("verify", "--structure-only"), ("find", "--example", "e5"), ("stats",)])
def test_an_auditor_needs_neither_numpy_nor_torch(run: Path, words: tuple[str, ...]) -> None:
    verb, *options = words
    command = [sys.executable, "-c", WITHOUT_TRAINING, "log", verb, str(run), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Terminal(io.StringIO):
    """A terminal that keeps what is written."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("kind", "said"), [(Terminal, "\rhashing step 5 of 10, 2.5 steps/s, 2 s left"), (io.StringIO, "")]
)
def test_progress_is_shown_in_place_on_a_terminal_and_now_and_then_elsewhere(
    kind: type[io.StringIO], said: str
) -> None:
    stream, clock = kind(), iter(float(number) for number in range(100))
    with Meter("hashing", stream, lambda: next(clock)) as meter:
        meter(0, 10)
        meter(5, 10)
    assert said in stream.getvalue()
    assert bool(stream.getvalue()) == bool(said)


def test_a_long_verification_says_where_it_is_in_a_file_too() -> None:
    stream, now = io.StringIO(), [0.0]
    with Meter("hashing", stream, lambda: now[0]) as meter:
        for done in range(0, 100, 10):
            now[0] += 3
            meter(done, 100)
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "hashing step 30 of 100",
        "hashing step 70 of 100",
    ]
