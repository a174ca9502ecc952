"""A training that is killed at any moment goes on from its latest checkpoint, as if it had never been killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.crash_disk import strace
from support.resuming import KEYRING, STEPS, whole, write_inputs

from aqpolicy.lineage import verify_log
from aqpolicy.trace.auditing.audit import audit_run

TESTS = Path(__file__).parent.parent


def begun(folder: Path, *before: str) -> subprocess.Popen[str]:
    """Start the training in a process of its own, or another process that starts it."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*before, sys.executable, "-m", "support.resuming", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=TESTS,
    )


def started(folder: Path) -> subprocess.Popen[str]:
    """Start the training, and wait until its gate stands."""
    process = begun(folder)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("attached"), process.communicate()
    return process


def killed_until_done(folder: Path, kills: int, seed: int) -> None:
    """Kill the training several times, each time at another moment, then let it end."""
    moment = random.Random(seed)
    for _ in range(kills):
        process = started(folder)
        time.sleep(moment.uniform(0.0, 0.15))
        process.kill()
        process.communicate()
        verified_when_quiet(folder)
    process = started(folder)
    out, problems = process.communicate(timeout=120)
    assert process.returncode == 0, problems
    assert "done" in out


def verified_when_quiet(folder: Path) -> None:
    """Verify the log as soon as the process that writes it has seen that the training is gone."""
    for _ in range(200):
        try:
            verify_log(folder / "run", KEYRING)
        except Exception as error:
            if "another process writes" not in str(error):
                raise
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the log is still being written")


def killed_at_its_call(folder: Path, call: str, number: int, whom: str) -> None:
    """Kill the training, or the process that writes its log, before its Nth call of a kind."""
    of = ("-f",) if whom == "writer" else ()
    inject = f"inject={call}:signal=KILL:when={number}"
    process = begun(folder, strace(), *of, "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", inject)
    out, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "attached" not in out
    if (folder / "run" / "head.note").exists():
        verified_when_quiet(folder)


def check(tmp_path: Path, kills: int, seed: int, before: Callable[[Path], None] = lambda _: None) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        write_inputs(folder)
    whole(one)
    before(other)
    killed_until_done(other, kills, seed)
    report = verify_log(other / "run", KEYRING)
    assert (report.steps, report.ended) == (STEPS, True)
    assert audit_run(other / "run", KEYRING).steps == STEPS
    weights = [torch.load(folder / "run" / "model.pt", weights_only=True) for folder in (one, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_killed_training_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    check(tmp_path, kills=2, seed=1)


# The writer gives its first name to the store and its second to the head; the training then names its three files.
FIRST_MOMENTS = [("training", 1), ("writer", 1), ("training", 3), ("writer", 2)]


@pytest.mark.parametrize(
    ("whom", "number"), [*FIRST_MOMENTS[:1], *(pytest.param(*one, marks=pytest.mark.slow) for one in FIRST_MOMENTS[1:])]
)
def test_a_training_killed_in_its_first_moments_is_started_again(tmp_path: Path, whom: str, number: int) -> None:
    check(tmp_path, 0, 1, lambda folder: killed_at_its_call(folder, "rename", number, whom))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
def test_many_killed_trainings_end_as_the_undisturbed_one(tmp_path: Path, seed: int) -> None:
    check(tmp_path, kills=10, seed=100 + seed)
