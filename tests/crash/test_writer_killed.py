"""Killed at any moment: the log is a prefix of what was appended, and all that was acknowledged is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.lineage_runs import KEYRING, block

from aqpolicy.lineage import LineageReader, verify_log

TESTS = Path(__file__).resolve().parents[1]

CHILD = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from support.lineage_runs import BUDGETS, GENESIS, GROUPS, KEY, block
from aqpolicy.lineage import LineageWriter
writer = LineageWriter.create(Path(sys.argv[1]), GENESIS, KEY, groups=GROUPS, budgets=BUDGETS)
for step in range(100_000):
    writer.append_step(block(step))
    if step == writer.durable_steps - 1:
        print(step, flush=True)
"""


def kill_after(run: Path, acknowledgements: int, pause: float) -> int:
    """Run the child, kill it some time after an acknowledgement, and return the last step acknowledged."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(run)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(acknowledgements):
        assert child.stdout.readline()
    time.sleep(pause)
    os.kill(child.pid, signal.SIGKILL)
    rest = child.stdout.read().split()
    child.stdout.close()
    child.wait()
    return max([16 * acknowledgements - 1, *map(int, rest)])


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    for number in range(15):
        run = tmp_path / f"run{number}"
        acknowledged = kill_after(run, 1 + number % 5, 0.0013 * number)
        with LineageReader(run, KEYRING) as reader:
            steps = list(reader.steps())
        report = verify_log(run, KEYRING)  # what is durable is signed, too
        assert (report.steps, report.ended) == (len(steps), False)
        assert len(steps) > acknowledged
        assert steps == [block(step) for step in range(len(steps))]
