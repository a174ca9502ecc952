"""`aqpolicy lock`, as its users call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.trials import CLINIC, write_policy

from aqpolicy.cli.main import main

VOCABULARY = "taxonomy shared version 1 { authority crowd < expert }\n"
BASE = """\
policy org.base version 1.0.0
import "shared/vocabulary.aqp"
depth from input { head = modules "a" }
profile full { all 1 }
rule experts "Experts" when authority is expert admit full
budget everything on all surprisal at most 100 nat per run, at most 6 nat per update on exhaust deny
otherwise deny because "nobody says so"
"""
PROJECT = "policy team.project version 1.0.0\nextends org.base\nrule careful when anything limit head share 0.5\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shared").mkdir()
    for name, text in {"shared/vocabulary": VOCABULARY, "base": BASE, "project": PROJECT}.items():
        (tmp_path / f"{name}.aqp").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pinned(folder: Path) -> list[str]:
    return list(json.loads((folder / "aqpolicy.lock").read_text(encoding="utf-8"))["files"])


def test_everything_that_a_policy_stands_on_is_pinned(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "project.aqp"]) == 1
    assert "AQ223" in capsys.readouterr().out
    assert main(["lock", "project.aqp"]) == 0
    assert capsys.readouterr().out == (
        "  added    base.aqp\n  added    shared/vocabulary.aqp\naqpolicy.lock: 2 files pinned\n"
    )
    assert main(["check", "project.aqp"]) == 0
    capsys.readouterr()
    assert main(["lock", "project.aqp"]) == 0
    assert capsys.readouterr().out == "aqpolicy.lock: up to date, 2 files pinned\n"


def test_check_says_what_would_change_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lock", "project.aqp", "--check"]) == 1
    assert not (folder / "aqpolicy.lock").exists()
    main(["lock", "project.aqp"])
    assert main(["lock", "project.aqp", "--check"]) == 0
    before = (folder / "aqpolicy.lock").read_bytes()
    (folder / "base.aqp").write_text(BASE.replace('import "shared/vocabulary.aqp"', VOCABULARY), encoding="utf-8")
    capsys.readouterr()
    assert main(["lock", "project.aqp", "--check"]) == 1
    assert capsys.readouterr().out == (
        "  changed  base.aqp\n  removed  shared/vocabulary.aqp\n"
        "aqpolicy.lock: out of date; review the changes, then run `aqpolicy lock project.aqp`\n"
    )
    assert (folder / "aqpolicy.lock").read_bytes() == before
    assert main(["lock", "project.aqp"]) == 0
    assert pinned(folder) == ["base.aqp"]


def test_a_folder_is_locked_whole(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lock", "."]) == 0
    assert pinned(folder) == ["base.aqp", "shared/vocabulary.aqp"]
    assert "2 files pinned" in capsys.readouterr().out


def test_policies_of_several_folders_share_a_lock_in_their_common_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "team").mkdir()
    (folder / "team" / "project.aqp").write_text(
        PROJECT.replace("org.base", 'org.base from "../base.aqp"'), encoding="utf-8"
    )
    assert main(["lock", "team/project.aqp", "project.aqp"]) == 0
    assert pinned(folder) == ["base.aqp", "shared/vocabulary.aqp"]
    capsys.readouterr()
    assert main(["lock", "--check", "team/project.aqp"]) == 0


def test_the_nearest_lock_is_the_one_that_is_written(folder: Path) -> None:
    (folder / "shared" / "own.aqp").write_text(
        CLINIC.replace("taxonomy t version 1 {", 'import "more.aqp" taxonomy t version 1 {'), encoding="utf-8"
    )
    (folder / "shared" / "more.aqp").write_text("profile more { all 0.5 }\n", encoding="utf-8")
    (folder / "aqpolicy.lock").write_text('{"files": {}, "format": "aqpolicy lock 1"}', encoding="utf-8")
    assert main(["lock", "shared/own.aqp"]) == 0
    assert pinned(folder) == ["shared/more.aqp"]


def test_policies_under_different_locks_are_not_mixed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "team").mkdir()
    for path in (folder, folder / "team"):
        (path / "aqpolicy.lock").write_text('{"files": {}, "format": "aqpolicy lock 1"}', encoding="utf-8")
    write_policy(folder / "team")
    assert main(["lock", "project.aqp", "team/clinic.aqp"]) == 2
    assert "do not stand under one lock; lock them one after the other" in capsys.readouterr().err


def test_a_policy_that_stands_alone_needs_no_lock(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_policy(folder)
    assert main(["lock", "clinic.aqp"]) == 0
    assert capsys.readouterr().out == "nothing to lock: these policies stand alone\n"
    assert not (folder / "aqpolicy.lock").exists()


def test_a_lock_that_is_none_is_written_anew(folder: Path) -> None:
    (folder / "aqpolicy.lock").write_bytes(b"\xff")
    assert main(["lock", "project.aqp", "--check"]) == 1
    assert main(["lock", "project.aqp"]) == 0
    assert pinned(folder) == ["base.aqp", "shared/vocabulary.aqp"]


def test_a_file_that_is_missing_is_a_finding_at_its_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "base.aqp").unlink()
    assert main(["lock", "project.aqp"]) == 1
    out = capsys.readouterr().out
    assert "AQ221" in out
    assert "project.aqp:2:" in out
    assert not (folder / "aqpolicy.lock").exists()
