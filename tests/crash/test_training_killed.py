"""A training that is killed at any moment goes on from its latest checkpoint, as if it had never been killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.resuming import KEYRING, STEPS, whole, write_inputs

from aqpolicy.lineage import verify_log
from aqpolicy.trace.audit import audit_run

TESTS = Path(__file__).parent.parent


def started(folder: Path) -> subprocess.Popen[str]:
    """Start the training in a process of its own, and wait until its gate stands."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "support.resuming", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=TESTS,
    )
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
            return
        except Exception as error:
            if "another process writes" not in str(error):
                raise
            time.sleep(0.05)
    raise AssertionError("the log is still being written")


def check(tmp_path: Path, kills: int, seed: int) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        write_inputs(folder)
    whole(one)
    killed_until_done(other, kills, seed)
    report = verify_log(other / "run", KEYRING)
    assert (report.steps, report.ended) == (STEPS, True)
    assert audit_run(other / "run", KEYRING).steps == STEPS
    weights = [torch.load(folder / "run" / "model.pt", weights_only=True) for folder in (one, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_killed_training_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    check(tmp_path, kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_many_killed_trainings_end_as_the_undisturbed_one(tmp_path: Path, seed: int) -> None:
    check(tmp_path, kills=10, seed=100 + seed)
