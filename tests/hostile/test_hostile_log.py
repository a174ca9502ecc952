"""Stores that were changed, cut, rolled back or swapped: always our own error, always a place."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.lineage_runs import KEY, KEYRING, LAYOUT, block, edit, row, write_run

from aqpolicy.errors import CorruptLogError, ForkedLogError, LineageError
from aqpolicy.lineage import LineageWriter, verify_log
from aqpolicy.lineage.block import HEAD_BYTES, encode_blocks
from aqpolicy.lineage.entry import STATUS, encode_entry
from aqpolicy.lineage.leaf import encode_row
from aqpolicy.lineage.store import TABLES, Store, block_key, entry_key


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("log") / "run")


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


def test_a_flipped_byte_of_a_row_is_located_to_its_example(copy: Path) -> None:
    store = copy / "lineage" / "data.mdb"
    data = bytearray(store.read_bytes())
    at = data.index(encode_row(row(4 * 7 + 2), LAYOUT))
    data[at + 37] ^= 1
    store.write_bytes(data)
    with pytest.raises(CorruptLogError) as caught:
        verify_log(copy, KEYRING)
    assert caught.value.where == f"step 7, row 2 (example key {row(30).example_key.hex()})"


def content(run: Path) -> dict[bytes, list[tuple[bytes, bytes]]]:
    """Return all that a store holds; what is not reachable from a table is nobody's evidence."""
    store = Store.open_to_read(run / "lineage")
    try:
        return {table: list(store.items(table)) for table in TABLES}
    finally:
        store.close()


def test_flips_anywhere_end_in_our_own_error_or_change_nothing(copy: Path) -> None:
    store = copy / "lineage" / "data.mdb"
    intact, before = store.read_bytes(), content(copy)
    chance = random.Random(7)
    caught = 0
    for number in range(60):
        data = bytearray(intact)
        at = chance.randrange(4 * 4096) if number % 3 == 0 else chance.randrange(len(data))
        data[at] ^= 1 << chance.randrange(8)
        store.write_bytes(data)
        try:
            verify_log(copy, KEYRING)
        except LineageError:
            caught += 1
        else:
            assert content(copy) == before
    assert caught


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
    environment = lmdb.open(str(cut / "lineage"), max_dbs=8, map_size=1 << 30)
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
    data[data.index(encode_row(row(9, lowered=True), LAYOUT)) + 54] ^= 4
    store.write_bytes(data)
    command = [sys.executable, "-m", "aqpolicy", "log", "verify", str(copy), "--structure-only"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "damaged   step 2, row 1" in done.stdout
    assert "Traceback" not in done.stderr


def located(run: Path) -> str:
    with pytest.raises(CorruptLogError) as caught:
        verify_log(run, KEYRING)
    return caught.value.where


@pytest.mark.parametrize("index", [0, 1, 2, 43, 44])
def test_a_change_of_any_rare_entry_is_located_to_it(copy: Path, index: int) -> None:
    def change_the_last_digit(data: bytes) -> bytes:
        at = max(number for number, byte in enumerate(data) if byte in b"0123456789")
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    edit(copy, b"entry", entry_key(index), change_the_last_digit)
    assert located(copy) == f"entry {index}"


@pytest.mark.parametrize("at", range(16, 16 + 180 + 48, 7))
def test_a_change_of_any_field_of_a_step_is_located(copy: Path, at: int) -> None:
    edit(copy, b"entry", entry_key(20), lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    where = located(copy)
    assert "step 17" in where or where == "entry 20"


def test_a_step_that_was_changed_with_all_its_hashes_is_not_what_was_signed(copy: Path) -> None:
    changed = block(17)
    changed = replace(changed, rows=(replace(changed.rows[0], surprisal=1), *changed.rows[1:]))
    (one,) = encode_blocks(changed, LAYOUT, 20)
    edit(copy, b"blk", block_key(0, 17), lambda _: one.data)
    edit(copy, b"entry", entry_key(20), lambda old: old[:-32] + one.root)
    assert located(copy) == "entries 19 to 34"  # the steps that one head signed


@pytest.mark.parametrize("at", range(HEAD_BYTES))
def test_a_change_of_any_byte_of_a_blocks_head_is_located(copy: Path, at: int) -> None:
    edit(copy, b"blk", block_key(0, 17), lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert located(copy).startswith("step 17")


def test_every_damaged_row_is_counted(copy: Path) -> None:
    for step in (5, 6, 9):
        edit(copy, b"blk", block_key(0, step), lambda data: data[:-10] + b"\xff" + data[-9:])
    with pytest.raises(CorruptLogError, match=r"step 5, book: .*; 2 more places are damaged"):
        verify_log(copy, KEYRING)


def test_a_changed_stored_hash_is_told_from_a_changed_row(copy: Path) -> None:
    edit(
        copy,
        b"blk",
        block_key(0, 5),
        lambda data: data[: HEAD_BYTES + 4] + bytes([data[HEAD_BYTES + 4] ^ 1]) + data[HEAD_BYTES + 5 :],
    )
    with pytest.raises(CorruptLogError, match=r"step 5, row 0 .*the record is as signed"):
        verify_log(copy, KEYRING)


def test_a_missing_an_exchanged_and_a_surplus_block_are_found(copy: Path) -> None:
    taken: list[bytes] = []
    edit(copy, b"blk", block_key(0, 8), taken.append)
    assert located(copy) == "step 8"
    edit(copy, b"blk", block_key(0, 8), lambda _: encode_blocks(block(9), LAYOUT, 12)[0].data)
    assert located(copy) == "step 8, its entry or all its rows"
    edit(copy, b"blk", block_key(0, 8), lambda _: taken[0])
    edit(copy, b"blk", block_key(1, 8), lambda _: taken[0])
    with pytest.raises(CorruptLogError, match="holds 41 blocks, the log names 40"):
        verify_log(copy, KEYRING)


def test_a_body_and_a_kept_head_are_covered_too(copy: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(copy, tmp_path / "other"))
    edit(copy, b"body", entry_key(43), lambda _: b'{"x":1}')
    assert located(copy) == "entry 43"
    edit(other, b"cp", entry_key(19), lambda note: note.replace(b"\n19\n", b"\n18\n"))
    assert located(other) == "head of size 19"


def test_entries_that_nobody_signed_are_refused(copy: Path) -> None:
    edit(copy, b"entry", entry_key(45), lambda _: encode_entry(STATUS, b"{}"))
    assert located(copy) == "entry 45"


def test_an_older_copy_of_the_whole_folder_is_told_by_the_head(copy: Path, tmp_path: Path) -> None:
    older = Path(shutil.copytree(copy, tmp_path / "older"))
    writer = LineageWriter.open_for_status(copy, KEY, KEYRING)
    writer.append_status({"credential": "reader-07"})
    writer.close()
    shutil.copy(copy / "head.note", older / "head.note")
    for refuse in (verify_log, lambda run, keyring: LineageWriter.open_for_status(run, KEY, keyring)):
        with pytest.raises(ForkedLogError, match="cut or rolled back"):
            refuse(older, KEYRING)


def test_two_continuations_of_one_log_are_a_fork(copy: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(copy, tmp_path / "other"))
    for run, name in ((copy, "reader-07"), (other, "reader-08")):
        writer = LineageWriter.open_for_status(run, KEY, KEYRING)
        writer.append_status({"credential": name})
        writer.close()
    shutil.copy(copy / "head.note", other / "head.note")
    for refuse in (verify_log, lambda run, keyring: LineageWriter.open_for_status(run, KEY, keyring)):
        with pytest.raises(ForkedLogError, match="contradict"):
            refuse(other, KEYRING)


def test_no_status_is_signed_over_a_changed_entry(copy: Path, tmp_path: Path) -> None:
    def change(run: Path, index: int) -> None:
        edit(run, b"entry", entry_key(index), lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])

    older = Path(shutil.copytree(copy, tmp_path / "older"))
    change(copy, 44)  # of the last group
    with pytest.raises(CorruptLogError):
        LineageWriter.open_for_status(copy, KEY, KEYRING)
    change(older, 12)  # opening does not look there, and what it signs is the entry as it was
    writer = LineageWriter.open_for_status(older, KEY, KEYRING)
    writer.append_status({"credential": "reader-07"})
    writer.close()
    assert "step 9" in located(older)


def test_the_head_of_another_run_is_refused(copy: Path, tmp_path: Path) -> None:
    stranger = write_run(tmp_path / "stranger")
    shutil.copy(stranger / "head.note", copy / "head.note")
    assert located(copy) == "head.note"


def test_no_damage_of_a_page_harms_the_process(copy: Path) -> None:
    """Flips in page heads, node tables and page numbers, where LMDB itself would crash or loop."""
    child = """
import random, sys
from pathlib import Path
from aqpolicy.errors import AqpolicyError
from aqpolicy.lineage import verify_log
from aqpolicy.trust import load_keyring
run = Path(sys.argv[1])
keyring, store = load_keyring(run / "keyring.json"), run / "lineage" / "data.mdb"
intact, chance, refused = store.read_bytes(), random.Random(11), 0
for number in range(120):
    data = bytearray(intact)
    page = chance.randrange(len(data) // 4096) * 4096
    at = page + chance.randrange(24 if number % 2 else 160)
    data[at] = chance.randrange(256) if number % 4 else data[at] ^ 1 << chance.randrange(8)
    if number % 10 == 9:
        data = data[: chance.randrange(len(data))]
    store.write_bytes(data)
    try:
        verify_log(run, keyring)
    except AqpolicyError:
        refused += 1
print(refused)
"""
    KEYRING.save(copy / "keyring.json")
    done = subprocess.run([sys.executable, "-c", child, str(copy)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 30
