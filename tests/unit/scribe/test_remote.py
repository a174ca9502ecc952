"""The log that another process writes is the log that this one would write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lineage_runs import GENESIS, KEY, KEYRING, NAMES, block
from support.step_columns import columns, said

from aqpolicy.errors import LineageError
from aqpolicy.lineage import LineageReader, LineageWriter, verify_log
from aqpolicy.lineage.entry import CKPT
from aqpolicy.scribe.remote import RemoteWriter
from aqpolicy.trust import SigningKey

ROOT = Path(__file__).resolve().parents[3]
PROCESSES = Path("/proc")
needs_proc = pytest.mark.skipif(not (PROCESSES / "self" / "maps").exists(), reason="this system has no /proc")

SCRIPT = f"""
import os, sys
sys.path[:0] = {[str(ROOT), str(ROOT / "tests")]!r}
from pathlib import Path
from support.lineage_runs import GENESIS, KEY, NAMES
from support.step_columns import columns
from aqpolicy.errors import LineageError
from aqpolicy.scribe.remote import RemoteWriter
writer = RemoteWriter.create(Path(sys.argv[1]), GENESIS, KEY, **NAMES)
"""
"""A training of its own, that has begun a log."""

Begin = Callable[..., RemoteWriter]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begin a log in another process, to be left at the end whatever happened."""
    writers: list[RemoteWriter] = []

    def start(**options: Any) -> RemoteWriter:
        run = options.pop("run", tmp_path / "run")
        writers.append(RemoteWriter.create(run, GENESIS, KEY, **NAMES, **options))
        return writers[-1]

    yield start
    for writer in writers:
        writer.abandon()


def is_gone(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_run_is_written_in_order_and_ended(tmp_path: Path, begin: Begin) -> None:
    writer = begin()
    for step in range(40):
        writer.append_step(columns(step))
    assert (writer.steps, writer.attempt) == (40, 0)
    writer.close()
    writer.close()
    assert is_gone(writer.process_id)
    report = verify_log(tmp_path / "run", KEYRING)
    assert (report.steps, report.ended) == (40, True)
    with LineageReader(tmp_path / "run", KEYRING) as reader:
        assert list(reader.steps()) == [block(step) for step in range(40)]


number = st.integers(0, 3)
doings = st.lists(
    st.tuples(st.just("step"), st.integers(0, 7))
    | st.tuples(st.just("event"), number)
    | st.tuples(st.just("model"), number)
    | st.tuples(st.just("status"), number)
    | st.tuples(st.just("barrier"), number),
    max_size=30,
)


def do(writer: LineageWriter | RemoteWriter, name: str, number: int) -> Any:
    """Do one thing with a writer of either kind."""
    if name == "step":
        return writer.append_step(columns(writer.steps, number))
    if name == "event":
        return writer.append_event({"event": "promotion", "number": number, "names": ["ä", ""]})
    if name == "model":
        return writer.append_model(writer.steps, bytes([number]) * 32, {"number": number})
    if name == "status":
        return writer.append_status({"event": "revoked", "number": number})
    return writer.barrier()


@settings(max_examples=12, deadline=None)
@given(doings, st.sampled_from([8, 1024, 1 << 20]), st.sampled_from(["publish", "group", "step"]), st.booleans())
def test_both_writers_write_the_same_log(
    tmp_path_factory: pytest.TempPathFactory, things: list[tuple[str, int]], size: int, durability: Any, ends: bool
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    here = LineageWriter.create(folder / "here", GENESIS, KEY, **NAMES)
    there = RemoteWriter.create(folder / "there", GENESIS, KEY, **NAMES, ring_bytes=size, durability=durability)
    assert [do(here, *thing) for thing in things] == [do(there, *thing) for thing in things]
    assert there.steps == here.steps
    for writer in (here, there):
        writer.barrier()
        writer.close() if ends else writer.abandon()
    assert said(folder / "here") == said(folder / "there")
    report = verify_log(folder / "there", KEYRING)
    assert (report.steps, report.ended) == (here.steps, ends)


def test_steps_larger_than_the_ring_arrive_whole(tmp_path: Path, begin: Begin) -> None:
    writer = begin(ring_bytes=256)
    for step in range(5):
        writer.append_step(columns(step, 64))
    writer.close()
    with LineageReader(tmp_path / "run", KEYRING) as reader:
        assert list(reader.steps()) == [block(step, 64) for step in range(5)]


def test_a_step_waits_for_room_and_nothing_is_dropped(tmp_path: Path, begin: Begin) -> None:
    writer = begin(ring_bytes=4096)
    os.kill(writer.process_id, signal.SIGSTOP)
    continued = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -CONT {writer.process_id}"])
    for step in range(60):  # far more than there is room for
        writer.append_step(columns(step))
    assert continued.wait() == 0
    writer.close()
    assert verify_log(tmp_path / "run", KEYRING).steps == 60


def test_a_group_becomes_durable_without_being_asked_for(begin: Begin) -> None:
    writer = begin()
    for step in range(3):
        writer.append_step(columns(step))
    writer.append_event({"event": "promotion"})
    for _ in range(1000):
        if writer.durable_steps == 3:
            break
        time.sleep(0.01)
    assert writer.durable_steps == 3


@pytest.mark.parametrize(("durability", "lag"), [("step", 0), ("group", 16)])
def test_a_step_waits_until_it_may(begin: Begin, durability: Any, lag: int) -> None:
    writer = begin(durability=durability)
    for step in range(40):
        writer.append_step(columns(step))
        assert writer.durable_steps >= step + 1 - lag


def test_the_index_of_an_entry_comes_back(tmp_path: Path, begin: Begin) -> None:
    writer = begin()
    writer.append_step(columns(0))
    index = writer.append_model(1, bytes(32), {"loss": "0.5"})
    assert writer.durable_steps == 1
    assert writer.append_status({"event": "revoked"}) == index + 1
    writer.close()
    with LineageReader(tmp_path / "run", KEYRING) as reader:
        assert len(reader.models) == 1
    assert said(tmp_path / "run")["entry"][index][0] == CKPT


def test_a_run_that_was_left_is_gone_on_with(tmp_path: Path, begin: Begin) -> None:
    runs = []
    for name in ("here", "there"):
        run = tmp_path / name
        kind = LineageWriter if name == "here" else RemoteWriter
        writer = kind.create(run, GENESIS, KEY, **NAMES)
        for step in range(5):
            writer.append_step(columns(step))
        model = writer.append_model(5, bytes(32), {})
        for step in range(5, 8):
            writer.append_step(columns(step))
        writer.barrier()
        writer.abandon()
        writer = kind.resume(run, KEY, KEYRING, entry=model, reason="killed")
        assert (writer.steps, writer.attempt, writer.durable_steps) == (5, 1, 5)
        for step in range(5, 9):
            writer.append_step(replace(columns(step), attempt=1))
        writer.close()
        runs.append(said(run))
        assert verify_log(run, KEYRING).steps == 9
    assert runs[0] == runs[1]


def test_errors_in_opening_are_those_of_the_writer(tmp_path: Path, begin: Begin) -> None:
    writer = begin()
    with pytest.raises(LineageError, match="already holds a log"):
        begin()
    with pytest.raises(LineageError, match="another process"):
        RemoteWriter.resume(tmp_path / "run", KEY, KEYRING, entry=-1, reason="")
    writer.append_step(columns(0))
    writer.close()
    other = SigningKey.from_seed("log", bytes(32))
    with pytest.raises(LineageError, match="not the key of this log"):
        RemoteWriter.resume(tmp_path / "run", other, KEYRING, entry=-1, reason="")


def test_what_the_log_refuses_is_refused_where_it_comes_from(tmp_path: Path, begin: Begin) -> None:
    writer = begin()
    with pytest.raises(LineageError, match="step 7 came where step 0 was due"):
        writer.append_step(columns(7))
    with pytest.raises(LineageError, match="no such facts"):
        writer.append_event({"event": 0.5})
    writer.append_step(columns(0))
    writer.close()
    assert verify_log(tmp_path / "run", KEYRING).steps == 1


def test_a_step_that_cannot_be_written_stops_the_training(tmp_path: Path, begin: Begin) -> None:
    writer = begin()
    writer.append_step(columns(0))
    writer.append_step(replace(columns(1), phase="unheard of"))
    with pytest.raises(LineageError, match=r"training must stop: .*`unheard of`"):
        writer.barrier()
    for call in (writer.barrier, lambda: writer.append_step(columns(2)), lambda: writer.append_event({})):
        with pytest.raises(LineageError, match=r"training must stop: .*`unheard of`"):
            call()
    writer.close()  # the failure was told
    assert verify_log(tmp_path / "run", KEYRING).ended is False


def test_closing_tells_a_failure_that_no_call_has_told(begin: Begin) -> None:
    writer = begin()
    writer.append_step(replace(columns(0), phase="unheard of"))
    with pytest.raises(LineageError, match="unheard of"):
        writer.close()
    writer.close()


def test_nothing_is_taken_after_the_end(begin: Begin) -> None:
    writer = begin()
    writer.close()
    with pytest.raises(LineageError, match="it was closed"):
        writer.append_step(columns(0))
    assert writer.durable_steps == 0


def test_an_abandoned_log_has_all_steps_and_no_end(tmp_path: Path, begin: Begin) -> None:
    writer = begin()
    for step in range(20):
        writer.append_step(columns(step))
    writer.abandon()
    writer.abandon()
    report = verify_log(tmp_path / "run", KEYRING)
    assert (report.steps, report.ended) == (20, False)


def test_a_writer_that_is_forgotten_leaves_a_whole_log(tmp_path: Path) -> None:
    script = f"{SCRIPT}\nfor step in range(20):\n    writer.append_step(columns(step))\n"
    subprocess.run([sys.executable, "-W", "error", "-c", script, tmp_path], check=True, timeout=120)
    report = verify_log(tmp_path, KEYRING)
    assert (report.steps, report.ended) == (20, False)


def test_a_fork_of_the_training_cannot_write(tmp_path: Path) -> None:
    script = f"""
{SCRIPT}
if os.fork() == 0:
    try:
        writer.append_step(columns(0))
    except LineageError as error:
        print(error, flush=True)
    finally:
        os._exit(0)
os.wait()
writer.append_step(columns(0))
writer.close()
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], check=True, capture_output=True, text=True)
    assert "a fork of that cannot write" in done.stdout
    assert verify_log(tmp_path, KEYRING).steps == 1


def test_signals_to_all_do_not_end_it_before_the_training_does(tmp_path: Path, begin: Begin) -> None:
    writer = begin()
    assert os.getpgid(writer.process_id) != os.getpgid(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(writer.process_id, number)
    writer.append_step(columns(0))
    writer.close()
    assert verify_log(tmp_path / "run", KEYRING).ended


@needs_proc
def test_the_process_is_light_and_knows_no_torch(begin: Begin) -> None:
    folder = PROCESSES / str(begin().process_id)
    libraries = (folder / "maps").read_text()
    assert "lmdb" in libraries
    assert [name for name in ("libtorch", "libz3", "pydantic") if name in libraries] == []
    (resident,) = (line.split()[1] for line in (folder / "status").read_text().splitlines() if "RssAnon" in line)
    assert int(resident) < 64 * 1024


def test_the_process_imports_no_torch() -> None:
    script = "import aqpolicy.scribe.process, sys; print([n for n in ('torch', 'z3', 'lark') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


@needs_proc
def test_the_key_is_in_no_argument_environment_or_file(tmp_path: Path, begin: Begin) -> None:
    writer = begin()
    writer.append_step(columns(0))
    secret = KEY.private_text.rpartition("+")[2][2:40].encode()
    folder = PROCESSES / str(writer.process_id)
    assert b"process" in (folder / "cmdline").read_bytes()
    assert secret not in (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
    writer.close()
    assert [file for file in tmp_path.rglob("*") if file.is_file() and secret in file.read_bytes()] == []


def test_an_interpreter_that_was_told_where_to_look_tells_its_process(tmp_path: Path) -> None:
    """Nothing is installed for this interpreter: it finds all that it needs by its path alone."""
    places = sorted({str(Path(module.__file__).parents[1]) for module in (lmdb, np)})
    script = f"import sys\nsys.path += {places!r}\n{SCRIPT}\nwriter.close()"
    bare = str(Path(sys.base_prefix) / "bin" / "python3")
    subprocess.run([bare, "-I", "-c", script, tmp_path], check=True, timeout=120, cwd=tmp_path)
    assert verify_log(tmp_path, KEYRING).ended


def test_a_process_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch, begin: Begin) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(LineageError, match="cannot be started"):
        begin()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LineageError, match="ended with code 1"):
        begin()
