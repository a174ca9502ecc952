"""Several processes that stop go on as one run: every one with its own random state, the log with all their rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import resuming_ranks
from support.resuming import KEYRING, write_inputs

from aqpolicy.lineage import LineageReader, verify_log
from aqpolicy.trace.auditing.audit import audit_run

pytestmark = pytest.mark.slow


def launch(folder: Path, stop: int) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, resuming_ranks.__file__, str(folder), str(stop)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def test_two_processes_go_on_bit_for_bit_and_the_log_tells_them_apart(tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    for folder in (whole, parted):
        folder.mkdir()
        write_inputs(folder)
    launch(whole, resuming_ranks.END)
    launch(parted, 6)
    launch(parted, resuming_ranks.END)
    for rank in range(2):
        pair = [torch.load(folder / f"{rank}.pt", weights_only=True) for folder in (whole, parted)]
        assert all(torch.equal(*both) for both in zip(*pair, strict=True))
    steps = []
    for folder in (whole, parted):
        report = verify_log(folder / "run", KEYRING)
        assert report.steps == audit_run(folder / "run", KEYRING).steps == resuming_ranks.END
        with LineageReader(folder / "run", KEYRING) as reader:
            entries = [entry for _, entry in reader.step_entries()]
            steps.append(list(reader.steps()))
        assert all(tuple(rank.rows for rank in entry.ranks) == (3, 3) for entry in entries)
    assert [(step.rows, step.visits) for step in steps[0]] == [(step.rows, step.visits) for step in steps[1]]
    assert steps[0][0].visits == ((3, 3),)
    assert verify_log(parted / "run", KEYRING).superseded == 2
