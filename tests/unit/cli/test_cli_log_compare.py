"""`aqpolicy log compare` and `check-fork`: a fork is a finding, and its proof needs neither run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.lineage_runs import KEY, KEYRING, write_run

from aqpolicy.cli.main import main
from aqpolicy.lineage import LineageWriter
from aqpolicy.trust import Keyring, SigningKey


def append(run: Path, name: str) -> Path:
    """Log that a credential was revoked; return a copy of the head from then."""
    writer = LineageWriter.open_for_status(run, KEY, KEYRING)
    writer.append_status({"credential": name})
    writer.close()
    return Path(shutil.copy(run / "head.note", run.parent / f"{run.name}-{name}.note"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with a run, a copy of it that went another way, and heads of both."""
    run = write_run(tmp_path / "run", steps=3)
    shutil.copy(run / "head.note", tmp_path / "old.note")
    shutil.copytree(run, tmp_path / "copy")
    append(run, "reader-07")
    append(run, "reader-09")
    append(tmp_path / "copy", "reader-08")
    KEYRING.save(tmp_path / "keyring.json")
    return tmp_path


def compare(place: Path, first: str, second: str, *more: str) -> int:
    keyring = str(place / "keyring.json")
    return main(["log", "compare", str(place / first), str(place / second), "--keyring", keyring, *more])


def test_histories_that_agree_are_status_0(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(place, "run", "run-reader-09.note") == 0
    assert "same      both heads are one" in capsys.readouterr().out
    assert compare(place, "old.note", "run") == 0
    assert "prefix    the longer history begins with the shorter one, shown by a consistency proof" in (
        capsys.readouterr().out
    )


def test_heads_that_do_not_tell_are_status_3(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(place, "old.note", "run-reader-09.note") == 3
    assert "give the folder of the longer history" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("first", "second", "differs"),
    [
        ("run", "copy", True),
        ("copy", "run", True),
        ("run-reader-07.note", "copy-reader-08.note", False),
        ("run", "copy-reader-08.note", False),
    ],
)
def test_a_fork_is_status_1_and_its_proof_needs_neither_run(
    place: Path, capsys: pytest.CaptureFixture[str], first: str, second: str, differs: bool
) -> None:
    proof = place / "found.aqfork"
    assert compare(place, first, second, "--out", str(proof)) == 1
    said = capsys.readouterr().out
    assert "FORK      the log signed two histories" in said
    assert ("differ    first at entry " in said) == differs
    shutil.rmtree(place / "run")
    shutil.rmtree(place / "copy")
    assert main(["log", "check-fork", str(proof), "--keyring", str(place / "keyring.json")]) == 1
    assert "FORK      trusted keys signed both heads" in capsys.readouterr().out


def test_a_file_that_proves_no_fork_is_status_2(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proof, keyring = place / "found.aqfork", str(place / "keyring.json")
    assert compare(place, "run", "copy", "--out", str(proof)) == 1
    Keyring.of([("log", SigningKey.generate("log").verify_key)]).save(place / "other.json")
    assert main(["log", "check-fork", str(proof), "--keyring", str(place / "other.json")]) == 2
    assert "no trusted key signed" in capsys.readouterr().err
    proof.write_bytes(proof.read_bytes().replace(b'"begin":"', b'"begin":"A'))
    assert main(["log", "check-fork", str(proof), "--keyring", keyring]) == 2
    assert main(["log", "check-fork", str(place / "none"), "--keyring", keyring]) == 2


def test_a_fork_is_only_said_without_out(place: Path) -> None:
    before = set(place.iterdir())
    assert compare(place, "run", "copy") == 1
    assert set(place.iterdir()) == before
