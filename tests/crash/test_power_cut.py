"""Whatever a power cut leaves of a log, it opens, is whole, and holds all that was acknowledged (design: G1 to G5).

A process that does all that one does to a log is watched. For every moment at which it
waits for the disk, folders are made that hold what was flushed and any part of the
rest; each is looked at, gone on with, and looked at again.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.crash_disk import Disk, watched
from support.crash_laws import Life, Witness
from support.crashing import FACTS, Training, begin, made
from support.lineage_runs import KEY, KEYRING, NAMES
from support.memory import in_memory

from aqpolicy.errors import AqpolicyError, CorruptLogError, LineageError
from aqpolicy.lineage import LineageReader, LineageWriter, verify_log
from aqpolicy.trust import open_checkpoint


def run_watched(folder: Path, seed: int, operations: int, kind: str = "local") -> tuple[Disk, Path]:
    """Let a process do all that one does to a log; return the disk before, and what it did."""
    folder.mkdir(exist_ok=True)
    disk, trace = Disk(folder), folder.with_suffix(".trace")
    process = begin(folder / "run", seed, kind, operations, before=watched(trace))
    out, problems = process.communicate(timeout=300)
    assert b"closed" in out, problems
    return disk, trace


def moments(disk: Disk, trace: Path, seed: int) -> Iterator[tuple[Disk, Life, dict[int, bytes]]]:
    """Return the disk at every moment, what was acknowledged then, and every head that anybody can have seen."""
    notes: dict[int, bytes] = {}
    for _ in disk.follow(trace):
        life = Life(seed)
        life.hear(disk.said)
        note = disk.head()
        if note:
            notes[open_checkpoint(note, KEYRING.keys("log")).size] = note
        yield disk, life, notes


def go_on(run: Path, *, training: bool) -> None:
    """Go on with a log, as a training or as who revokes."""
    if training:
        trainer = Training(run, remote=False)
        trainer.open()
        trainer.writer.append_step(made(trainer.writer.steps, trainer.writer.attempt))
        trainer.writer.close()
    else:
        writer = LineageWriter.open_for_status(run, KEY, KEYRING)
        writer.append_status({"event": "revoked", "credential": "late"})
        writer.close()


def check(root: Path, life: Life, notes: dict[int, bytes], *, training: bool) -> None:
    """Look at what a power cut left, go on with it, and look at it again."""
    run = root / "run"
    run.mkdir(exist_ok=True)
    witness = Witness(run, notes=dict(notes))
    witness.look(life)
    begun = (run / "head.note").exists()
    if not begun:
        refused_until_begun(run)
    go_on(run, training=training or not begun)
    remembered = root / "run.remembered"
    if witness.entries:
        with LineageReader(run, KEYRING) as reader:
            assert [data for _, data in reader.raw_entries(0, len(witness.entries))] == witness.entries
    verify_log(run, KEYRING, remembered=remembered)


def refused_until_begun(run: Path) -> None:
    """Whoever reads or goes on with a log that was never begun is told so."""
    for use in (verify_log, lambda *at: LineageWriter.open_for_status(at[0], KEY, at[1])):
        with pytest.raises(LineageError, match="begin the run") as caught:
            use(run, KEYRING)
        assert not isinstance(caught.value, CorruptLogError)


@pytest.fixture
def memory() -> Iterator[Path]:
    """Where images lie: they need no disk of their own."""
    with TemporaryDirectory(dir=in_memory()) as name:
        yield Path(name)


def check_all(folder: Path, disk: Disk, trace: Path, seed: int, images: int) -> int:
    """Check so many images of every moment; return how many there were."""
    draw, count = random.Random(seed), 0
    for seen, life, notes in moments(disk, trace, seed):
        for _ in range(images):
            root = folder / "image"
            seen.leave(root, draw)
            check(root, life, notes, training=draw.random() < 0.5)
            shutil.rmtree(root)
            count += 1
    return count


def test_the_disk_holds_what_the_process_wrote(tmp_path: Path) -> None:
    disk, trace = run_watched(tmp_path / "disk", seed=2, operations=30)
    for _ in disk.follow(trace):
        pass
    disk.leave_all(tmp_path / "other")
    names = sorted(
        each.relative_to(tmp_path / "disk") for each in (tmp_path / "disk").rglob("*.*") if each.name != "lock.mdb"
    )
    assert "data.mdb" in {each.name for each in names}
    for name in names:
        assert (tmp_path / "disk" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_nothing_acknowledged_is_lost_by_a_power_cut(tmp_path: Path, memory: Path) -> None:
    disk, trace = run_watched(tmp_path / "disk", seed=3, operations=40)
    assert check_all(memory, disk, trace, 3, images=5) >= 250


def test_nothing_is_lost_by_a_power_cut_while_a_run_is_begun_again(tmp_path: Path, memory: Path) -> None:
    run = tmp_path / "disk" / "run"
    LineageWriter.create(run, FACTS, KEY, **NAMES).abandon()
    (run / "head.note").unlink()
    disk, trace = run_watched(tmp_path / "disk", seed=4, operations=1)
    assert check_all(memory, disk, trace, 4, images=8) >= 150


def test_a_log_that_is_not_flushed_is_found_out(tmp_path: Path, memory: Path) -> None:
    """What the other tests look for happens, and they see it, where LMDB flushes nothing."""
    disk, trace = run_watched(tmp_path / "disk", 5, 20, "hasty")
    draw, lost = random.Random(5), 0
    for seen, life, notes in moments(disk, trace, 5):
        seen.leave(memory / "image", draw)
        try:
            Witness(memory / "image" / "run", notes=dict(notes)).look(life)
        except (AqpolicyError, AssertionError):
            lost += 1
        shutil.rmtree(memory / "image")
    assert lost > 3


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 18))
def test_nothing_acknowledged_is_lost_by_any_power_cut(tmp_path: Path, memory: Path, seed: int) -> None:
    disk, trace = run_watched(tmp_path / "disk", seed, operations=100)
    assert check_all(memory, disk, trace, seed, images=10) >= 600
