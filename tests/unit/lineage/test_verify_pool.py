"""Work in several processes gives what it gives in one, or a typed error."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from support import verifying

from aqpolicy.errors import LineageError
from aqpolicy.lineage.verify_pool import in_order


def done(begin: Callable[..., Any], argument: Any, tasks: int, workers: int) -> list[tuple[int, Any]]:
    return list(in_order(begin, (argument,), range(tasks), workers))


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_results_come_in_the_order_of_their_tasks(workers: int) -> None:
    results = done(verifying.doubling, 5, 20, workers)
    assert [(task, value) for task, (value, _) in results] == [(task, 2 * task + 5) for task in range(20)]
    where = {process for _, (_, process) in results}
    assert (os.getpid() in where) == (workers < 2)
    assert len(where) <= max(1, workers)


def test_a_slow_task_does_not_change_the_order() -> None:
    assert [result for _, result in done(verifying.slow_first, 0.3, 8, 2)] == list(range(8))


def test_no_tasks_give_no_results() -> None:
    assert done(verifying.doubling, 5, 0, 2) == []


@pytest.mark.parametrize(
    ("begin", "argument", "reason"),
    [
        (verifying.failing, 3, "failed: MemoryError: no room"),
        (verifying.dying, 3, "was killed by signal 9"),
        (verifying.unready, "no store", "failed: OSError: no store"),
    ],
)
def test_whatever_becomes_of_a_process_is_a_typed_error(begin: Callable[..., Any], argument: Any, reason: str) -> None:
    with pytest.raises(LineageError, match=reason):
        done(begin, argument, 8, 2)


def test_what_the_work_prints_disturbs_nothing() -> None:
    assert [result for _, result in done(verifying.talking, "hello", 4, 2)] == list(range(4))


def test_only_a_few_tasks_are_handed_out_ahead() -> None:
    handed: list[int] = []

    def tasks() -> Any:
        for number in range(100):
            handed.append(number)
            yield number

    results = in_order(verifying.doubling, (0,), tasks(), 2)
    next(results)
    assert len(handed) <= 5
    results.close()  # type: ignore[attr-defined]


def test_processes_end_with_the_work_and_with_their_parent() -> None:
    ends = iter(in_order(verifying.doubling, (0,), range(50), 2))
    _, (_, process) = next(ends)
    ends.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    program = (
        "import sys; sys.path[:] = sys.argv[1:]\n"
        "from support import verifying\n"
        "from aqpolicy.lineage.verify_pool import in_order\n"
        "_, (_, process) = next(in_order(verifying.doubling, (0,), range(50), 2))\n"
        "print(process, flush=True)\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, *sys.path]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    orphan = int(killed.stdout)
    for _ in range(100):
        if not running(orphan):
            return
        time.sleep(0.05)
    pytest.fail("a process outlived its parent")


def running(process: int) -> bool:
    """Return whether a process works; one that only waits to be reaped does not."""
    try:
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
