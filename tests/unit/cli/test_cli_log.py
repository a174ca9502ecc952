"""`aqpolicy log`: the exit status and the place, and rows that a person can read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.lineage_runs import KEYRING, edit, row, write_run

from aqpolicy.cli.main import main
from aqpolicy.lineage.store import block_key
from aqpolicy.trust import Keyring, SigningKey


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run", steps=3)
    KEYRING.save(folder / "keyring.json")
    return folder


def test_a_clean_log_is_verified_and_the_run_is_not_its_own_witness(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", "verify", str(run), "--structure-only"]) == 0
    said = capsys.readouterr()
    assert "3 steps, 12 rows: every hash as signed" in said.out
    assert said.out.endswith("verified\n")
    assert "shows only that the run agrees with itself" in said.err


def test_a_keyring_of_ones_own_brings_no_warning(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    KEYRING.save(tmp_path / "mine.json")
    assert main(["log", "verify", str(run), "--keyring", str(tmp_path / "mine.json"), "--structure-only"]) == 0
    assert capsys.readouterr().err == ""


def test_a_run_whose_bundle_was_taken_away_is_not_verified(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "verify", str(run)]) == 2
    said = capsys.readouterr()
    assert "verified" not in said.out
    assert "has no bundle.aqb, so its decisions cannot be derived again" in said.err


def test_damage_is_status_1_with_its_place(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(run, b"blk", block_key(0, 1), lambda data: data[:-1] + b"\7")
    assert main(["log", "verify", str(run)]) == 1
    assert "damaged   step 1, book: the record is not what was signed" in capsys.readouterr().out


def test_a_head_by_a_stranger_is_status_1(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Keyring.of([("log", SigningKey.generate("log").verify_key)]).save(tmp_path / "other.json")
    assert main(["log", "verify", str(run), "--keyring", str(tmp_path / "other.json")]) == 1
    assert "refused   no trusted key signed" in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["lineage", "head.note", "keyring.json"])
def test_what_cannot_be_read_is_status_2(run: Path, capsys: pytest.CaptureFixture[str], missing: str) -> None:
    target = run / missing
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert main(["log", "verify", str(run)]) == 2
    assert "aqpolicy: error: " in capsys.readouterr().err


def test_steps_rows_and_visits_are_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "show", str(run)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main(["log", "show", str(run), "--step", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [row(number).example_key.hex() for number in range(4, 8)]
    assert "lowered to head=0.25 (per update)" in lines[1]
    assert main(["log", "show", str(run), "--example", "e5"]) == 0
    assert capsys.readouterr().out.startswith(f"step 1 epoch 0  {row(5).example_key.hex()} admit")
    assert main(["log", "show", str(run), "--example", "e5", "--step", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("what", [("--step", "9"), ("--example", "nobody"), ("--example", "e5", "--step", "0")])
def test_what_the_log_does_not_hold_is_an_error(
    run: Path, capsys: pytest.CaptureFixture[str], what: tuple[str, ...]
) -> None:
    assert main(["log", "show", str(run), *what]) == 2
    assert "the log has no" in capsys.readouterr().err
