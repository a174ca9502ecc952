"""Ask the index of a log of 10^8 cells for all updates of an example; a scan and SQLite beside it, in one run.

python docs/bench/lineage_index.py [STEPS]

977 steps are 10^8 cells, 9766 are 10^9.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aqpolicy.lineage import Book, LineageReader, LineageWriter
from aqpolicy.lineage.leaf import KEY as PLACE
from aqpolicy.lineage.lookup import Index
from aqpolicy.lineage.runs import RUNS, RunBuilder
from aqpolicy.scribe.columns import StepColumns
from aqpolicy.scribe.index import FastRunBuilder
from aqpolicy.trust import Keyring, SigningKey, example_key

ROWS, GROUPS, EXAMPLES, SESSION = 1024, 100, 100_000, 500
QUESTIONS = 200
KEY = SigningKey.generate("log")
KEYRING = Keyring.of([("log", KEY.verify_key)])
NAMES = [example_key(f"e{number}") for number in range(EXAMPLES)]
BOOK = Book(
    lr=0.1,
    momentum=0.0,
    dampening=0.0,
    weight_decay=0.0,
    nesterov=False,
    optimizer="SGD",
    movement=(0.5,) * GROUPS,
    residual=(0.0,) * GROUPS,
    closed=(False,) * GROUPS,
    denominator=float(ROWS),
    movement_charges=(0,),
    drift_charges=(0,),
)


def steps(count: int) -> Iterator[StepColumns]:
    """Yield steps of examples drawn at random, with norms as a training has them: of many sizes."""
    random = np.random.default_rng(0)
    norms = [np.exp(0.5 * random.standard_normal((ROWS, GROUPS))) for _ in range(8)]
    zeros = np.zeros(ROWS, np.int64)
    for step in range(count):
        index = random.integers(0, EXAMPLES, ROWS)
        yield StepColumns(
            step=step,
            epoch=0,
            phase="",
            stage="",
            today=0,
            time_ns=step,
            book=BOOK,
            keys=b"".join(map(NAMES.__getitem__, index.tolist())),
            index=index,
            route=random.integers(0, 50, ROWS),
            effect=zeros + 3,
            cause=zeros,
            reason=zeros,
            surprisal=zeros,
            entropy=zeros,
            norms=norms[step % 8] * random.lognormal(0.0, 0.1),
            charges=np.zeros((ROWS, 1), np.int64),
            exceptions=None,
            sketches=None,
        )


def write(run: Path, count: int) -> float:
    """Write a log, and return the seconds that it took."""
    genesis: dict[str, Any] = {"bundle": "sha256:" + "11" * 32, "manifest_root": "sha256:" + "22" * 32}
    names = [f"g{number}" for number in range(GROUPS)]
    start = time.perf_counter()
    writer = LineageWriter.create(run, genesis, KEY, groups=names, budgets=["all"], index=FastRunBuilder)
    for step in steps(count):
        writer.append_step(step)
    writer.close()
    return time.perf_counter() - start


def build_seconds(make: Callable[[], RunBuilder], reader: LineageReader) -> float:
    """Return the seconds that the runs of the first 256 steps take, reading not counted."""
    taken = [(index, entry, [reader.rank_leaves(entry, 0)]) for index, entry in _first(reader, 256)]
    start = time.perf_counter()
    builder = make()
    for index, entry, leaves in taken:
        builder.add(index, entry, leaves, reader.layout)
    builder.finish()
    return time.perf_counter() - start


def _first(reader: LineageReader, count: int) -> Iterator[Any]:
    for number, found in enumerate(reader.step_entries()):
        if number == count:
            return
        yield found


def scan(reader: LineageReader, key: bytes) -> list[tuple[int, int]]:
    """Return step and row of an example's visits by looking at every row."""
    return [
        (entry.step, row)
        for _, entry in reader.step_entries()
        for row, leaf in enumerate(reader.rank_leaves(entry, 0)[: entry.rows])
        if leaf[PLACE] == key
    ]


def into_sqlite(reader: LineageReader, file: Path) -> tuple[sqlite3.Connection, float]:
    """Return a table of all visits with an index over examples, and the seconds that it took, reading not counted."""
    rows = [
        (leaf[PLACE], entry.step, row)
        for _, entry in reader.step_entries()
        for row, leaf in enumerate(reader.rank_leaves(entry, 0)[: entry.rows])
    ]
    start = time.perf_counter()
    table = sqlite3.connect(file)
    table.execute("CREATE TABLE visit (example BLOB, step INTEGER, row INTEGER)")
    table.executemany("INSERT INTO visit VALUES (?, ?, ?)", rows)
    table.execute("CREATE INDEX by_example ON visit (example)")
    table.commit()
    return table, time.perf_counter() - start


def milliseconds(ask: Callable[[int], object], questions: int = QUESTIONS) -> str:
    """Return how long questions take: median, 95th percentile and largest."""
    taken = []
    for number in range(questions):
        start = time.perf_counter()
        ask(number)
        taken.append(1e3 * (time.perf_counter() - start))
    taken.sort()
    return f"median {statistics.median(taken):8.2f} ms  p95 {taken[int(0.95 * len(taken))]:8.2f}  most {taken[-1]:8.2f}"


def main() -> None:
    """Write, ask, compare, print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 977
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        seconds = write(run, count)
        cells = count * ROWS * GROUPS
        size = (run / "lineage" / "data.mdb").stat().st_size
        print(f"log of {count} steps x {ROWS} examples x {GROUPS} groups = {cells:.3g} cells")
        print(f"  {size / cells:.2f} bytes per cell on disk")
        print(f"  written in {seconds:.1f} s with drawing, {cells / seconds / 1e6:.0f} million cells/s")
        start = time.perf_counter()
        with LineageReader(run, KEYRING) as reader:
            print(f"  opened, with a look at all pages, in {time.perf_counter() - start:.2f} s")
            describe(reader, cells)
            ask(run, reader, Index(reader))


def describe(reader: LineageReader, cells: int) -> None:
    """Say what the index costs."""
    sizes = {name: sum(len(data) for *_, data in reader.runs(name)) for name in RUNS}
    print("  runs: " + ", ".join(f"{name} {size / cells:.3f}" for name, size in sizes.items()) + " bytes per cell")
    for make in (RunBuilder, FastRunBuilder):
        print(f"  {make.__name__:<16} {1e3 * build_seconds(make, reader):6.0f} ms for a seal of 256 steps")


def ask(run: Path, reader: LineageReader, index: Index) -> None:
    """Ask the same of index, scan and SQLite."""
    start = time.perf_counter()
    index.visits_of_example(NAMES[-1])
    first = 1e3 * (time.perf_counter() - start)
    print(f"first question, which opens the runs and compares their digests: {first:.1f} ms")
    print("example -> all its updates   index  " + milliseconds(lambda number: index.visits_of_example(NAMES[number])))
    for number in range(3):
        assert places(index, number) == scan(reader, NAMES[number])
    print("                             scan   " + milliseconds(lambda number: scan(reader, NAMES[number]), 3))
    table, seconds = into_sqlite(reader, run / "visits.db")
    query = "SELECT step, row FROM visit WHERE example = ? ORDER BY rowid"

    def select(number: int) -> list[tuple[int, int]]:
        return table.execute(query, (NAMES[number],)).fetchall()

    for number in range(QUESTIONS):
        assert select(number) == places(index, number)
    print(
        "                             sqlite " + milliseconds(select) + f"  (made in {seconds:.1f} s, proves nothing)"
    )
    session = milliseconds(
        lambda n: index.steps_of_examples(NAMES[SESSION * n : SESSION * (n + 1)]), EXAMPLES // SESSION
    )
    print("session of 500 -> steps      index  " + session)
    print("route -> steps               index  " + milliseconds(index.steps_of_route, 50))
    print("group -> steps               index  " + milliseconds(index.steps_of_group, GROUPS))
    print("group -> 10 largest          index  " + milliseconds(lambda number: index.top(number, 10), GROUPS))
    last = sum(1 for _ in reader.step_entries())
    print("step -> rows                 index  " + milliseconds(lambda n: index.visits_of_step(n * last // QUESTIONS)))
    table.close()


def places(index: Index, number: int) -> list[tuple[int, int]]:
    """Return step and row of an example's visits as the index says them."""
    return [(visit.step, visit.row) for visit in index.visits_of_example(NAMES[number])]


if __name__ == "__main__":
    main()
