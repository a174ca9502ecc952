"""Killed with `kill -9` at any moment, again and again: the laws of the log hold each time (design: G1 to G5).

A life is one process that begins a run or goes on with it; it is killed at a random
time, or at a random call to the system, which are the moments at which what others see
can change. Killed are the training, the process that writes its log, or both.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support.crash_disk import strace
from support.crash_laws import Life, Witness, when_left
from support.crashing import begin
from support.lineage_runs import KEYRING

from aqpolicy.lineage import verify_log

CALLS = ("pwrite64", "writev", "fdatasync", "fsync", "rename", "unlink", "mkdir", "flock", "ftruncate", "write")
VICTIMS = ("training", "writer", "both")
Process = subprocess.Popen[bytes]


def heard(process: Process, life: Life, acknowledgements: int) -> int:
    """Listen until a process has started and said so often that something is safe, or has ended; return its number."""
    number = 0
    while not number or len(life.acknowledged) < acknowledgements:
        line = process.stdout.readline()
        if not line:
            break
        life.hear(line)
        number = int(line.split()[1]) if line.startswith(b"ready") else number
    return number


def children(number: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def has_ended(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for_end(numbers: list[int]) -> None:
    for _ in range(3000):
        if all(map(has_ended, numbers)):
            return
        time.sleep(0.01)
    raise AssertionError("the process that writes the log does not end")


def killed_by_time(run: Path, life: Life, kind: str, victim: str, draw: random.Random) -> None:
    """Let a process live for a random time, and kill whom one is told to."""
    process = begin(run, life.seed, kind)
    number = heard(process, life, draw.choice((0, 0, 1, 2, 8)))
    assert number, process.communicate()
    wait = draw.uniform(0, 0.4 if kind == "remote" and not life.acknowledged else 0.03)
    select.select([], [], [], wait)
    os.kill(number, signal.SIGSTOP)  # so that none is missed who is being started
    writers = kill_writers(number) if victim != "training" else children(number)
    os.kill(number, signal.SIGCONT if victim == "writer" and writers else signal.SIGKILL)
    while True:
        try:
            out, problems = process.communicate(timeout=0.2)
            break
        except subprocess.TimeoutExpired:  # it had just left this writer, and has a new one
            writers += kill_writers(number)
    life.hear(out)
    assert not problems
    wait_for_end(writers)


def kill_writers(number: int) -> list[int]:
    """Kill the process that writes for a training."""
    found = children(number)
    for one in found:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    return found


def killed_at_a_call(run: Path, life: Life, draw: random.Random) -> bool:
    """Let a process live until its Nth call of a kind, which it does not come to make; say whether it made so many."""
    call, number = draw.choice(CALLS), int(draw.expovariate(0.06)) + 1
    before = (
        strace(),
        "-f",
        "-qq",
        "-o",
        os.devnull,
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:signal=KILL:when={number}",
    )
    process = begin(run, life.seed, "local", 60, before=before)
    out, problems = process.communicate(timeout=60)
    life.hear(out)
    assert not problems
    assert (process.returncode == 0) == (b"closed" in out)
    return process.returncode != 0


def one_life(witness: Witness, kind: str, draw: random.Random) -> bool:
    """Let a process begin the run or go on with it, look at what it left, and say whether it was killed."""
    life, killed = Life(draw.getrandbits(32), grouped=kind != "remote"), True
    if kind == "call":
        killed = killed_at_a_call(witness.run, life, draw)
    else:
        killed_by_time(witness.run, life, kind, draw.choice(VICTIMS) if kind == "remote" else "training", draw)
    witness.see()
    when_left(witness, life)
    return killed


def lives(run: Path, kind: str, kills: int, seed: int) -> None:
    """Kill a run again and again, then let it end."""
    draw, witness = random.Random(seed), Witness(run)
    while kills:
        kills -= one_life(witness, kind, draw)
    life = Life(draw.getrandbits(32))
    process = begin(run, life.seed, "local", 20)
    out, problems = process.communicate(timeout=60)
    assert b"closed" in out, problems
    life.hear(out)
    witness.look(life)
    assert verify_log(run, KEYRING).ended


@pytest.mark.parametrize("kind", ["local", "remote", "call"])
def test_the_laws_hold_after_kills(tmp_path: Path, kind: str) -> None:
    lives(tmp_path / "run", kind, kills=4, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["local", "remote", "call"])
@pytest.mark.parametrize("seed", range(20))
def test_the_laws_hold_after_many_kills(tmp_path: Path, kind: str, seed: int) -> None:
    lives(tmp_path / "run", kind, kills=4, seed=100 + seed)
