"""Stores that were changed, cut, rolled back or swapped: always our own error, always a place."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.lineage_runs import KEYRING, row, write_run

from aqpolicy.errors import CorruptLogError, ForkedLogError, LineageError
from aqpolicy.lineage import verify_log
from aqpolicy.lineage.record import encode_row


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("log") / "run")


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


def test_a_flipped_byte_of_a_row_is_located_to_its_example(copy: Path) -> None:
    store = copy / "lineage" / "data.mdb"
    data = bytearray(store.read_bytes())
    at = data.index(encode_row(row(4 * 7 + 2)))
    data[at + 50] ^= 1
    store.write_bytes(data)
    with pytest.raises(CorruptLogError) as caught:
        verify_log(copy, KEYRING)
    assert caught.value.where == f"step 7, row 2 (example key {row(30).example_key.hex()})"


def test_flips_anywhere_end_in_our_own_error_or_change_nothing(copy: Path) -> None:
    store = copy / "lineage" / "data.mdb"
    intact = store.read_bytes()
    chance = random.Random(7)
    caught = 0
    for number in range(20):
        data = bytearray(intact)
        at = chance.randrange(4 * 4096) if number % 3 == 0 else chance.randrange(len(data))
        data[at] ^= 1 << chance.randrange(8)
        store.write_bytes(data)
        try:
            verify_log(copy, KEYRING)
        except LineageError:
            caught += 1
    assert caught >= 5


@pytest.mark.parametrize("part", [0, 10, 4096, 0.3, 0.6])
def test_a_truncated_store_is_refused(copy: Path, part: float) -> None:
    store = copy / "lineage" / "data.mdb"
    data = store.read_bytes()
    store.write_bytes(data[: int(part * len(data)) if part < 1 else int(part)])
    with pytest.raises(CorruptLogError):
        verify_log(copy, KEYRING)


def test_a_rolled_back_store_is_told_by_its_head(copy: Path, tmp_path: Path) -> None:
    older = write_run(tmp_path / "older", steps=5)
    shutil.copy(copy / "head.note", older / "head.note")
    with pytest.raises(LineageError):
        verify_log(older, KEYRING)


def test_the_same_log_cut_below_its_head_is_a_rollback(original: Path, tmp_path: Path) -> None:
    import lmdb

    cut = Path(shutil.copytree(original, tmp_path / "cut"))
    environment = lmdb.open(str(cut / "lineage"), max_dbs=4, map_size=1 << 30)
    entries = environment.open_db(b"entry")
    with environment.begin(write=True) as transaction:
        cursor = transaction.cursor(db=entries)
        cursor.last()
        cursor.delete()
    environment.close()
    with pytest.raises(ForkedLogError, match="cut or rolled back"):
        verify_log(cut, KEYRING)


def test_two_heads_of_one_size_are_a_fork(copy: Path) -> None:
    from aqpolicy.trust import open_checkpoint, sign_checkpoint
    from aqpolicy.trust.note import Checkpoint
    from support.lineage_runs import KEY

    head = open_checkpoint((copy / "head.note").read_bytes(), KEYRING.keys("log"))
    other = Checkpoint(head.origin, head.size, bytes(32))
    (copy / "head.note").write_text(sign_checkpoint(other, KEY))
    with pytest.raises(ForkedLogError, match="contradict"):
        verify_log(copy, KEYRING)


@pytest.mark.parametrize("damage", ["missing", "empty", "garbage"])
def test_a_missing_or_foreign_head_is_refused(copy: Path, damage: str) -> None:
    head = copy / "head.note"
    if damage == "missing":
        head.unlink()
    else:
        head.write_bytes(b"" if damage == "empty" else b"\xff\x00garbage\n\n")
    with pytest.raises(LineageError):
        verify_log(copy, KEYRING)


def test_the_command_names_the_place_and_exits_with_1(copy: Path) -> None:
    KEYRING.save(copy / "keyring.json")
    store = copy / "lineage" / "data.mdb"
    data = bytearray(store.read_bytes())
    data[data.index(encode_row(row(9, lowered=True))) + 50] ^= 4
    store.write_bytes(data)
    command = [sys.executable, "-m", "aqpolicy", "log", "verify", str(copy), "--structure-only"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "damaged   step 2, row 1" in done.stdout
    assert "Traceback" not in done.stderr
