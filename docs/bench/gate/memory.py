"""Peak memory of a step above the loaded model, each in a process of its own.

The first step of a shape is told apart: in it the gate probes for mixed examples.

`python -m gate.memory KEY` loads one model, then forks a process per way to make
a step; on a CPU the peak is the kernel's `VmHWM`, on a GPU it is torch's.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from copy import deepcopy
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from .cases import Case, core_cases
from .modes import Step, on
from .timing import first_line
from .ways import make

THRESHOLD = 64 * 1024
"""From this size on, glibc gives freed memory back, so that the peak is the step's own."""

Peak = tuple[float, float] | str
"""Megabytes of the first step and of a later one, or the first line of what went wrong."""


def peaks(case: Case, keys: Sequence[str], device: str, *, threads: int, quick: bool) -> Iterator[tuple[str, Peak]]:
    """Return the peaks of every way to make a step."""
    if device == "cuda":  # torch counts what each step takes of a GPU, so that one process will do
        yield from ((key, _found(case, case.model(), key, device)) for key in keys)
        return
    command = [sys.executable, "-m", "gate.memory", case.key, device, str(threads), str(int(quick)), *keys]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(THRESHOLD)}
    with subprocess.Popen(  # noqa: S603 - our own words
        command, cwd=Path(__file__).parents[1], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        found = [json.loads(line) for line in process.stdout]
    yield from ((key, peak if isinstance(peak, str) else tuple(peak)) for key, peak in found)
    for key in keys[len(found) :]:
        yield key, f"the process ended with code {process.returncode}"


def main(arguments: Sequence[str]) -> None:
    """Print one line of JSON per way: its key and its peak."""
    key, device, threads, quick, *keys = arguments
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # a process with threads of its own cannot be forked
    case = next(case for case in core_cases(quick=quick == "1") if case.key == key)
    model = case.model()
    context = get_context("fork")
    for way in keys:
        receive, send = context.Pipe(duplex=False)
        child = context.Process(target=_measure, args=(send, int(threads), (case, model, way, device)))
        child.start()
        send.close()
        try:
            peak: Peak = receive.recv()
        except EOFError:
            child.join()
            peak = f"the process ended with code {child.exitcode}"
        child.join()
        print(json.dumps([way, peak]), flush=True)


def _measure(send: Connection, threads: int, what: tuple[Case, torch.nn.Module, str, str]) -> None:
    torch.set_num_threads(threads)
    send.send(_found(*what))


def _found(case: Case, model: torch.nn.Module, way: str, device: str) -> Peak:
    try:
        return _peak(case, model, way, device)
    except Exception as error:  # noqa: BLE001 - what goes wrong is the result
        return first_line(error)


def _peak(case: Case, model: torch.nn.Module, way: str, device: str) -> Peak:
    model.to(device)
    other = make(case, way, deepcopy(model), on(case.data(2), device))
    _run(other)  # libraries load what they need
    del other
    data = on(case.data(case.batch), device)
    gc.collect()
    before = _begin(device)
    step = make(case, way, model, data)
    _run(step)
    first = _most(device)
    _begin(device)
    _run(step)
    return (first - before) / 1e6, (_most(device) - before) / 1e6


def _run(step: Step) -> None:
    step.run()
    step.drop()


def _begin(device: str) -> int:
    """Let the peak begin anew, and return what is in use."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _most(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(field: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    main(sys.argv[1:])
