"""Static tiles: a reader that was written from the specification alone finds everything in them, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lineage_runs import KEY, KEYRING, write_run
from support.proof_logs import ProofLog, steps_of_three_ranks
from support.static_log import StaticLog, merged, proved_root, wanted

from aqpolicy.errors import ForkedLogError, LineageError
from aqpolicy.export.source import open_verified
from aqpolicy.lineage import verify_log
from aqpolicy.lineage.entry import LARGEST_ENTRY
from aqpolicy.lineage.tiles import tile_path, write_tiles
from aqpolicy.trust import Checkpoint, Frontier, leaf_hash, root_of, sign_checkpoint

PUBLIC = {KEY.name: KEY.verify_key.public}
ORIGIN = "example.org/log"


def entry(number: int) -> bytes:
    return number.to_bytes(4, "big") * (number % 5)  # some are empty


def written(folder: Path, size: int) -> StaticLog:
    """Write a log of so many entries."""
    frontier = Frontier()
    for number in range(size):
        frontier.append(leaf_hash(entry(number)))
    head = Checkpoint(ORIGIN, size, frontier.root())
    write_tiles(folder, map(entry, range(size)), head, sign_checkpoint(head, KEY).encode())
    return StaticLog(folder, size)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", [0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 1000])
def test_roots_and_proofs_come_out_of_the_tiles_alone(tmp_path: Path, size: int) -> None:
    log = written(tmp_path, size)
    assert log.head(PUBLIC, ORIGIN) == (size, log.root())
    assert log.entries() == list(map(entry, range(size)))
    for index in {0, 1, 254, 255, 256, 511, size // 2, size - 1} & set(range(size)):
        assert proved_root(index, size, entry(index), log.proof(index)) == log.root()


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 1000])
def test_there_is_every_tile_of_the_specification_and_no_other_file(tmp_path: Path, size: int) -> None:
    written(tmp_path, size)
    assert files(tmp_path) == {*wanted(size), "checkpoint"}
    for path, (level, _, width) in wanted(size).items():
        if level != "entries":
            assert (tmp_path / path).stat().st_size == 32 * width


def test_three_levels_of_tiles_and_numbers_of_four_digits(tmp_path: Path) -> None:
    size = 256 * 1001 + 3
    log = written(tmp_path, size)
    assert {"tile/0/x001/000", "tile/0/x001/001.p/3", "tile/1/003.p/233", "tile/2/000.p/3"} < files(tmp_path)
    assert files(tmp_path) == {*wanted(size), "checkpoint"}
    assert log.head(PUBLIC, ORIGIN) == (size, log.root())
    for index in (0, 65_535, 65_536, 256 * 1000, size - 1):
        assert proved_root(index, size, entry(index), log.proof(index)) == log.root()
    tiles = [(tmp_path / f"tile/0/{index:03}").read_bytes() for index in range(256)]
    roots = [merged([tile[at : at + 32] for at in range(0, 8192, 32)]) for tile in tiles]
    assert (tmp_path / "tile/1/000").read_bytes() == b"".join(roots)


@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        (0, 0, 256, "tile/0/000"),
        (0, 999, 256, "tile/0/999"),
        (3, 1000, 7, "tile/3/x001/000.p/7"),
        (0, 1_234_067, 256, "tile/0/x001/x234/067"),
        ("entries", 5, 255, "tile/entries/005.p/255"),
    ],
)
def test_a_tile_lies_where_the_specification_says(level: int | str, index: int, width: int, path: str) -> None:
    assert tile_path(level, index, width) == path


def test_entries_as_large_as_a_bundle_takes_are_written_and_larger_ones_refused(tmp_path: Path) -> None:
    largest = b"x" * LARGEST_ENTRY
    head = Checkpoint(ORIGIN, 1, root_of([leaf_hash(largest)]))
    write_tiles(tmp_path, [largest], head, sign_checkpoint(head, KEY).encode())
    assert StaticLog(tmp_path, 1).entries() == [largest]
    with pytest.raises(LineageError, match="an entry of 65536 bytes does not fit"):
        write_tiles(tmp_path, [largest + b"x"], head, b"")


@pytest.mark.parametrize("entries", [[b"a"], [b"a", b"c"], [b"b", b"a"], [b"a", b"b", b"c"]])
def test_entries_that_were_not_signed_get_no_head(tmp_path: Path, entries: list[bytes]) -> None:
    head = Checkpoint(ORIGIN, 2, root_of([leaf_hash(b"a"), leaf_hash(b"b")]))
    with pytest.raises(ForkedLogError, match="not those that the head was signed over"):
        write_tiles(tmp_path, entries, head, sign_checkpoint(head, KEY).encode())
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("ended", [True, False])
def test_the_tiles_of_a_run_are_its_log(tmp_path: Path, ended: bool) -> None:
    if ended:
        run = write_run(tmp_path / "run", steps=300)
    else:
        with ProofLog(tmp_path) as log:
            steps_of_three_ranks(log)
            run = log.copy()
    (tmp_path / "tiles").mkdir()
    report = verify_log(run, KEYRING)
    with open_verified(run, KEYRING, report) as source:
        write_tiles(tmp_path / "tiles", source.entries(), source.head, source.note)
        entries = [data for _, data in source.reader.raw_entries()]
        origin = source.reader.genesis["origin"]
    static = StaticLog(tmp_path / "tiles", report.entries)
    assert static.entries() == entries
    assert static.head(PUBLIC, origin) == (len(entries), static.root())
