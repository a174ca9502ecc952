"""Write, check and open the log at 1,024 examples and 100 depth groups; SQLite and a plain file beside it, in one run.

python docs/bench/lineage.py [--steps 256] [--repeat 3]

It prints one table: what was measured, and what it is held to. Every number is the median of the repetitions, which
alternate, so that all of them have the same machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lineage_index import GROUPS, KEY, KEYRING, ROWS, steps

from aqpolicy.lineage import Layout, LineageWriter, verify_log
from aqpolicy.lineage.leaf import KEY as PLACE
from aqpolicy.scribe.columns import StepColumns
from aqpolicy.scribe.index import FastRunBuilder
from aqpolicy.scribe.remote import RemoteWriter

CELLS = ROWS * GROUPS
LAYOUT = Layout(GROUPS, 1)
FACTS = {"bundle": "sha256:" + "11" * 32, "manifest_root": "sha256:" + "22" * 32}
TRAINING_S = 0.02
"""What the training does between two steps: it sleeps, so that the other process has a processor."""

Numbers = dict[str, list[float]]


def write(run: Path, given: Sequence[StepColumns], norms: str = "float32") -> float:
    """Write a log in this process and return the seconds, from the first step to the last one on disk."""
    names = {"groups": [f"g{number}" for number in range(GROUPS)], "budgets": ["all"]}
    writer = LineageWriter.create(run, {**FACTS, "norms": norms}, KEY, **names, index=FastRunBuilder)
    began = time.perf_counter()
    for step in given:
        writer.append_step(step)
    writer.close()
    return time.perf_counter() - began


def fresh(step: StepColumns) -> StepColumns:
    """Return a copy of a step."""
    columns = ("index", "route", "effect", "cause", "reason", "surprisal", "entropy", "norms", "charges")
    return replace(step, keys=bytes(bytearray(step.keys)), **{name: getattr(step, name).copy() for name in columns})


def trainer_cost(run: Path, given: Sequence[StepColumns]) -> list[float]:
    """Return what every step costs the thread that trains, in seconds."""
    names = {"groups": [f"g{number}" for number in range(GROUPS)], "budgets": ["all"]}
    writer = RemoteWriter.create(run, FACTS, KEY, **names)
    spent = []
    for step in given:
        time.sleep(TRAINING_S)
        step = fresh(step)  # noqa: PLW2901  # as a gate hands it over: made a moment ago
        began = time.perf_counter()
        writer.append_step(step)
        spent.append(time.perf_counter() - began)
    writer.close()
    return spent


def write_file(place: Path, given: Sequence[StepColumns]) -> float:
    """Write the same rows into a plain file that is flushed every 16 steps; nothing is hashed or indexed."""
    began = time.perf_counter()
    with place.open("wb") as file:
        for number, step in enumerate(given, 1):
            file.write(b"".join(step.leaves(LAYOUT)))
            if number % 16 == 0:
                file.flush()
                os.fdatasync(file.fileno())
    return time.perf_counter() - began


def write_sqlite(place: Path, given: Sequence[StepColumns]) -> float:
    """Write the same rows into a table of SQLite, one row per example, committed every 16 steps."""
    base = sqlite3.connect(place)
    base.execute("pragma journal_mode = wal")
    base.execute("pragma synchronous = full")
    base.execute("create table visit (step integer, example blob, leaf blob)")
    began = time.perf_counter()
    for number, step in enumerate(given, 1):
        rows = [(leaf[PLACE], leaf) for leaf in step.leaves(LAYOUT)]
        base.executemany("insert into visit values (?, ?, ?)", [(step.step, key, leaf) for key, leaf in rows])
        if number % 16 == 0:
            base.commit()
    base.commit()
    spent = time.perf_counter() - began
    base.execute("pragma wal_checkpoint(truncate)")
    base.close()
    return spent


def read_file(place: Path) -> float:
    """Read a plain file and hash it as a whole: the least that noticing a changed byte could cost."""
    import hashlib

    began = time.perf_counter()
    with place.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    return time.perf_counter() - began


def open_after_crash(run: Path) -> float:
    """Return the seconds that going on with a log takes; what it adds to the log is one entry."""
    began = time.perf_counter()
    writer = LineageWriter.resume(run, KEY, KEYRING, entry=-1, reason="measured")
    spent = time.perf_counter() - began
    writer.abandon()
    return spent


def crashed(run: Path, given: Sequence[StepColumns]) -> None:
    """Write a log that has no end."""
    names = {"groups": [f"g{number}" for number in range(GROUPS)], "budgets": ["all"]}
    writer = LineageWriter.create(run, FACTS, KEY, **names, index=FastRunBuilder)
    for step in given:
        writer.append_step(step)
    writer.barrier()
    writer.abandon()


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(folder: Path, given: Sequence[StepColumns], found: Numbers) -> None:
    """Measure all once."""
    cells = CELLS * len(given)
    for kind in ("float32", "float16"):
        run = folder / kind
        found[f"writer, {kind}, million cells/s"].append(cells / write(run, given, kind) / 1e6)
        size = (run / "lineage" / "data.mdb").stat().st_size
        found[f"disk, {kind}, bytes per cell"].append(size / cells)
        spent = timed(lambda run=run: verify_log(run, KEYRING, index=FastRunBuilder))
        found[f"verification, {kind}, million cells/s"].append(cells / spent / 1e6)
    spent = timed(lambda: verify_log(folder / "float32", KEYRING, workers=2, index=FastRunBuilder))
    found["verification, two processes, million cells/s"].append(cells / spent / 1e6)
    costs = trainer_cost(folder / "remote", given[:128])
    found["trainer, median of a step, ms"].append(statistics.median(costs) * 1e3)
    found["trainer, 95th of 100, ms"].append(statistics.quantiles(costs, n=20)[-1] * 1e3)
    spent = write_file(folder / "plain", given)
    found["plain file, million cells/s"].append(cells / spent / 1e6)
    found["plain file, hashed as a whole, million cells/s"].append(cells / read_file(folder / "plain") / 1e6)
    found["SQLite, million cells/s"].append(cells / write_sqlite(folder / "base", given) / 1e6)
    found["SQLite, bytes per cell"].append((folder / "base").stat().st_size / cells)
    for name, count in (("16 steps", 16), (f"{len(given)} steps", len(given))):
        crashed(folder / name, given[:count])
        found[f"opening after a crash, {name}, ms"].append(open_after_crash(folder / name) * 1e3)


TARGETS = {
    "writer, float32, million cells/s": ">= 50",
    "verification, float32, million cells/s": ">= 25",
    "verification, float16, million cells/s": ">= 25",
    "disk, float32, bytes per cell": "<= 4.6",
    "disk, float16, bytes per cell": "<= 2.6",
    "trainer, median of a step, ms": "<= 0.15",
}


def rows(found: Numbers) -> Iterator[str]:
    """Yield the table."""
    yield "| what | median | from | to | target |"
    yield "| --- | --- | --- | --- | --- |"
    for name, values in found.items():
        target = TARGETS.get(name, "<= 100" if name.startswith("opening") else "")
        yield f"| {name} | {statistics.median(values):.3g} | {min(values):.3g} | {max(values):.3g} | {target} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    given, found = list(steps(args.steps)), defaultdict[str, list[float]](list)
    for _ in range(args.repeat):
        folder = Path(tempfile.mkdtemp(prefix="aqpolicy-bench-"))
        try:
            measure(folder, given, found)
        finally:
            shutil.rmtree(folder)
    print(f"{ROWS} examples x {GROUPS} depth groups, {args.steps} steps, {args.repeat} repetitions")
    print("\n".join(rows(found)))


if __name__ == "__main__":
    main()
