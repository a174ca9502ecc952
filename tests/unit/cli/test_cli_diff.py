"""`aqpolicy diff`, as its users call it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support.trials import CLINIC, write_policy

from aqpolicy.cli.main import main

WIDER = CLINIC.replace("agreed(0.9)", "agreed(0.8)")
NARROWER = CLINIC.replace("share 0.125", "share 0.1")
VOCABULARY = "taxonomy shared version 1 { authority crowd < expert }\n"
BASE = """\
policy org.base version 1.0.0
import "../shared/vocabulary.aqp"
depth from input { head = modules "a" }
profile full { all 1 }
rule experts "Experts" when authority is expert admit full
budget everything on all surprisal at most 100 nat per run, at most 6 nat per update on exhaust deny
otherwise deny because "nobody says so"
"""
PROJECT = "policy team.project version 1.0.0\nextends org.base\nrule careful when anything limit head share 0.5\n"


@pytest.fixture
def old(tmp_path: Path) -> str:
    return write_policy(tmp_path, name="old.aqp")


def test_equal_policies_are_proved_equal(old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = CLINIC.replace("agreed(0.9)", "(agreed(0.9) or agreed(0.95))").replace("Only a hint", "Just a hint")
    new = write_policy(tmp_path, same, "new.aqp")
    assert main(["diff", old, new, "--fail-on", "any"]) == 0
    assert capsys.readouterr().out == "equivalent: proved for every observation\n"


def test_a_wider_policy_says_where_with_a_witness_and_the_rules(
    old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = write_policy(tmp_path, WIDER, "new.aqp")
    assert main(["diff", old, new]) == 0
    out = capsys.readouterr().out
    assert out.startswith("wider: the share of `surface` rises from 0.5 to 1; the share of `semantic` rises")
    assert "consensus >= 0.8 and < 0.9" in out
    assert "  such as authority = expert, review = draft, consensus = 0.8, judgments = 3\n" in out
    assert f"by hint [{old}:14]" in out
    assert f"by truth [{new}:13]" in out
    assert out.endswith("the new policy is wider in 1 way\n")


@pytest.mark.parametrize(
    ("text", "fail_on", "status"),
    [
        (WIDER, "widened", 1),
        (WIDER, "narrowed", 0),
        (WIDER, "any", 1),
        (NARROWER, "widened", 0),
        (NARROWER, "narrowed", 1),
        (CLINIC.replace("100 nat per run", "200 nat per run"), "widened", 1),
        (CLINIC.replace("100 nat per run", "50 nat per run"), "widened", 0),
        (CLINIC.replace("0..20", "0..30"), "any", 1),
        (CLINIC.replace("0..20", "0..30"), "widened", 0),
    ],
)
def test_a_pull_request_fails_on_what_it_must_not_do(
    old: str, tmp_path: Path, text: str, fail_on: str, status: int
) -> None:
    assert main(["diff", old, write_policy(tmp_path, text, "new.aqp"), "--fail-on", fail_on]) == status


def test_wider_comes_first_and_budgets_and_vocabulary_are_told(
    old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = NARROWER.replace("100 nat per run", "200 nat per run").replace("0..20", "0..30")
    assert main(["diff", old, write_policy(tmp_path, text, "new.aqp"), "--format", "concise"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("wider: budget `everything`")
    assert lines[1].startswith("narrower: the share of `head` falls from 0.125 to 0.1")
    assert f"[{old}:" in lines[1]
    assert lines[2].startswith("vocabulary: ")
    assert lines[-1] == "the new policy is wider in 1 way and narrower in 1 way"


def test_json_holds_everything(old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", old, write_policy(tmp_path, WIDER, "new.aqp"), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "wider"
    (change,) = document["changes"]
    assert change["witness"]["consensus"] == "0.8"
    assert change["old"]["by"] == [f"hint [{old}:14]"]


def test_a_policy_with_errors_is_shown_and_not_compared(
    old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = write_policy(tmp_path, CLINIC.replace("admit full", "admit fill"), "new.aqp")
    assert main(["diff", old, new]) == 2
    assert "AQ201" in capsys.readouterr().out


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {"shared/vocabulary": VOCABULARY, "team/base": BASE, "team/project": PROJECT}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.aqp").write_text(text, encoding="utf-8")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "policies")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_policy_is_compared_with_a_revision_and_all_that_it_held(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["lock", "team/project.aqp"])
    (repository / "team" / "base.aqp").write_text(BASE.replace("is expert", "is crowd"), encoding="utf-8")
    main(["lock", "team/project.aqp"])
    capsys.readouterr()
    assert main(["diff", "main:team/project.aqp", "team/project.aqp", "--fail-on", "narrowed"]) == 1
    out = capsys.readouterr().out
    assert "wider: the share of `head` rises from 0 to 0.5\n  where authority is crowd" in out
    assert "narrower: the share of `head` falls from 0.5 to 0" in out
    assert "experts [main:team/base.aqp:5]" in out
    assert main(["diff", "main:team/project.aqp", "HEAD:team/project.aqp"]) == 0
    assert "equivalent" in capsys.readouterr().out


def test_paths_in_a_revision_are_relative_to_the_current_folder(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository / "team")
    assert main(["diff", "main:project.aqp", "HEAD:project.aqp"]) == 0
    assert "equivalent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("main:team/none.aqp", "cannot read `main:team/none.aqp`: "),
        ("nowhere:team/project.aqp", "cannot read `nowhere:team/project.aqp`: "),
        ("main:/etc/passwd", "is no revision and a path relative to"),
    ],
)
def test_a_revision_that_cannot_be_read_is_one_line(
    repository: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    assert main(["diff", name, "team/project.aqp"]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_what_a_revision_lacks_is_a_finding_at_its_place(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(repository, "rm", "-q", "--cached", "team/base.aqp")
    git(repository, "commit", "-q", "-m", "without its base")
    assert main(["diff", "HEAD:team/project.aqp", "main:team/project.aqp"]) == 2
    out = capsys.readouterr().out
    assert "no file of revision `HEAD` holds policy `org.base`" in out
    assert "HEAD:team/project.aqp:2:" in out
