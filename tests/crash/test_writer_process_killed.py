"""The training and the process that writes its log die apart: what was handed over is there, or training stops."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.lineage_runs import GENESIS, KEY, KEYRING, NAMES, block
from support.step_columns import columns

from aqpolicy.errors import LineageError
from aqpolicy.lineage import LineageReader, verify_log
from aqpolicy.scribe.remote import RemoteWriter

FULL = "(File too large|Input/output error)"
"""What LMDB says, by whether a page just fits no more or in part."""

TESTS = Path(__file__).resolve().parents[1]

TRAINING = f"""
import os, sys, time
sys.path[:0] = {[str(TESTS.parent), str(TESTS)]!r}
from pathlib import Path
from support.lineage_runs import GENESIS, KEY, NAMES
from support.step_columns import columns
from aqpolicy.scribe.remote import RemoteWriter
sizes = {{"ring_bytes": int(sys.argv[2]), "patience_s": float(sys.argv[3])}}
writer = RemoteWriter.create(Path(sys.argv[1]), GENESIS, KEY, **NAMES, **sizes)
print(writer.process_id, flush=True)
if sys.argv[4] == "fork":
    worker = os.fork()
    if worker == 0:
        time.sleep(100)  # a worker that outlives the training, and holds all that it held
        os._exit(0)
    print(worker, flush=True)
for step in range(100_000):
    writer.append_step(columns(step))
    print(step, flush=True)
"""


def new_writer(run: Path, patience_s: float = 60) -> RemoteWriter:
    return RemoteWriter.create(run, GENESIS, KEY, **NAMES, patience_s=patience_s)


def report_when_left(run: Path) -> tuple[int, bool]:
    """Wait until nobody writes a log; return how many steps it has, each as it should be, and whether it has an end."""
    for _ in range(600):
        try:
            with LineageReader(run, KEYRING) as reader:
                assert list(reader.steps()) == [block(step) for step in range(reader_steps(reader))]
            break
        except LineageError as error:
            if "another process" not in str(error):
                raise
            time.sleep(0.05)
    report = verify_log(run, KEYRING)
    return report.steps, report.ended


def train(writer: RemoteWriter, steps: int, then: Callable[[], None] = lambda: None) -> None:
    """Append steps, doing something after each."""
    for _ in range(steps):
        writer.append_step(columns(writer.steps))
        then()


def reader_steps(reader: LineageReader) -> int:
    return sum(1 for _ in reader.step_entries())


def begin_training(run: Path, ring_bytes: int, workers: str, patience_s: float = 60) -> subprocess.Popen[str]:
    """Start a training that says the number of its writer's process, that of a worker if it has one, and its steps."""
    command = [sys.executable, "-c", TRAINING, str(run), str(ring_bytes), str(patience_s), workers]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_after(training: subprocess.Popen[str], steps: int, pause: float) -> None:
    """Let a training hand over some steps, and kill it."""
    for _ in range(steps):
        assert training.stdout.readline()
    time.sleep(pause)
    training.kill()
    training.wait()


@pytest.mark.parametrize("number", range(6))
def test_all_that_was_handed_over_is_written_when_the_training_is_killed(tmp_path: Path, number: int) -> None:
    ring_bytes = (1 << 20, 4096, 256)[number % 3]
    with begin_training(tmp_path, ring_bytes, "none") as training:
        assert training.stdout.readline()
        kill_after(training, 1 + 7 * number, 0.0013 * number)
        handed_over = max([7 * number, *map(int, training.stdout)]) + 1
    steps, ended = report_when_left(tmp_path)
    assert handed_over <= steps <= handed_over + 1  # the last one may be whole, and not said to be
    assert not ended


def test_a_worker_that_outlives_the_training_does_not_hold_the_log(tmp_path: Path) -> None:
    with begin_training(tmp_path, 1 << 20, "fork") as training:
        _, worker = (int(training.stdout.readline()) for _ in range(2))
        kill_after(training, 5, 0)
    steps, ended = report_when_left(tmp_path)
    os.kill(worker, signal.SIGKILL)  # it was still there
    assert (steps >= 5, ended) == (True, False)


@pytest.mark.parametrize("number", range(4))
def test_training_stops_when_the_process_is_killed(tmp_path: Path, number: int) -> None:
    writer = new_writer(tmp_path)
    for step in range(1 + 9 * number):
        writer.append_step(columns(step))
    acknowledged = writer.durable_steps
    os.kill(writer.process_id, signal.SIGKILL)
    os.waitid(os.P_PID, writer.process_id, os.WEXITED | os.WNOWAIT)
    for _ in range(2):
        with pytest.raises(LineageError, match=r"training must stop: .*killed by signal 9"):
            writer.append_step(columns(writer.steps))
    with pytest.raises(LineageError, match="training must stop"):
        writer.append_model(writer.steps, bytes(32), {})
    writer.close()
    steps, ended = report_when_left(tmp_path)
    assert acknowledged <= steps <= writer.steps
    assert not ended


@pytest.mark.parametrize("call", ["barrier", "close", "append_step"])
def test_a_wait_ends_when_the_process_is_killed(tmp_path: Path, call: str) -> None:
    writer = RemoteWriter.create(tmp_path, GENESIS, KEY, **NAMES, ring_bytes=64)
    os.kill(writer.process_id, signal.SIGSTOP)
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -KILL {writer.process_id}"])
    with pytest.raises(LineageError, match=r"training must stop: .*killed by signal 9"):
        getattr(writer, call)(*[columns(0)][: call == "append_step"])
    assert killer.wait() == 0
    writer.close()
    assert report_when_left(tmp_path) == (0, False)


@pytest.mark.parametrize("call", ["barrier", "append_step", "abandon"])
def test_training_stops_when_the_process_hangs(tmp_path: Path, call: str) -> None:
    writer = new_writer(tmp_path, patience_s=0.5)
    writer.append_step(columns(0))
    writer.barrier()
    os.kill(writer.process_id, signal.SIGSTOP)
    if call == "abandon":
        writer.abandon()  # it is not waited for endlessly, and leaves nobody behind
    else:
        with pytest.raises(LineageError, match=r"training must stop: .*no progress for 0\.5 seconds"):
            train(writer, 1000, writer.barrier if call == "barrier" else lambda: time.sleep(0.05))
    with pytest.raises(LineageError, match="training must stop"):
        writer.append_step(columns(writer.steps))
    with pytest.raises(ProcessLookupError):
        os.kill(writer.process_id, 0)
    assert report_when_left(tmp_path) == (1, False)


def test_a_machine_that_slept_stops_nothing(tmp_path: Path) -> None:
    """Both stand still for longer than any patience, the training while it waits; then they go on, one by one."""
    with begin_training(tmp_path, 4096, "none", patience_s=1) as training:
        writer = int(training.stdout.readline())
        assert training.stdout.readline()
        os.kill(writer, signal.SIGSTOP)
        time.sleep(0.2)
        training.send_signal(signal.SIGSTOP)
        time.sleep(2)
        training.send_signal(signal.SIGCONT)
        time.sleep(0.1)
        os.kill(writer, signal.SIGCONT)
        kill_after(training, 200, 0)
    steps, _ = report_when_left(tmp_path)
    assert steps > 200


def test_a_process_that_stood_still_between_two_steps_stops_nothing(tmp_path: Path) -> None:
    writer = new_writer(tmp_path, patience_s=1)
    os.kill(writer.process_id, signal.SIGSTOP)
    writer.append_step(columns(0))
    time.sleep(1.5)
    os.kill(writer.process_id, signal.SIGCONT)
    writer.append_step(columns(1))
    writer.close()
    assert report_when_left(tmp_path) == (2, True)


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file grow beyond half a megabyte, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_training_stops_when_the_disk_is_full(tmp_path: Path) -> None:
    writer = RemoteWriter.create(tmp_path, GENESIS, KEY, **NAMES, ring_bytes=1 << 16)
    with pytest.raises(LineageError, match=rf"training must stop: the log cannot be written: .*{FULL}"):
        train(writer, 10_000)
    acknowledged = writer.durable_steps
    with pytest.raises(LineageError, match=FULL):
        writer.append_model(writer.steps, bytes(32), {})
    writer.close()
    steps, ended = report_when_left(tmp_path)
    assert (steps >= acknowledged > 16, ended) == (True, False)
