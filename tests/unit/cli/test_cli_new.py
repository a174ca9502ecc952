"""`aqpolicy new`, as its users call it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aqpolicy.cli.main import main
from aqpolicy.cli.new import examples
from aqpolicy.diagnostics import Source
from aqpolicy.library import Files, read_source
from aqpolicy.model import load_policy


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("example", examples())
def test_every_example_starts_a_policy_of_another_name(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "acme.own", "--from", example]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"own.aqp: policy acme.own 1.0.0, started from `{example}`\n")
    own = load_policy(read_source("own.aqp"), Files(None, is_locking=True))
    original = load_policy(read_source(examples()[example]), Files(None, is_locking=True))
    assert (own.name, own.version) == ("acme.own", "1.0.0")
    assert [rule.name for rule in own.rules] == [rule.name for rule in original.rules]
    assert own.cases == () or len(own.cases) == len(original.cases)


def test_what_to_do_next_can_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "triage"]) == 0
    out = capsys.readouterr().out
    assert "prove that nothing conflicts and everything is bounded: aqpolicy check triage.aqp" in out
    assert "aqpolicy lock" not in out
    assert main(["check", "triage.aqp"]) == 0
    assert main(["test", "triage.aqp", "--require-tests"]) == 0


def test_an_example_of_several_files_is_copied_whole_and_locked_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "own", "--from", "layered", "--out", "deep/own.aqp"]) == 0
    out = capsys.readouterr().out
    assert "deep/domain.aqp: copied from `layered`" in out
    assert "  1. pin the files that it stands on: aqpolicy lock deep/own.aqp\n" in out
    assert main(["lock", "deep/own.aqp"]) == 0
    assert main(["check", "deep/own.aqp"]) == 0


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "domain.aqp").write_text("mine", encoding="utf-8")
    assert main(["new", "own", "--from", "layered"]) == 2
    assert "`domain.aqp` exists and is not overwritten" in capsys.readouterr().err
    assert main(["new", "a.domain", "--from", "layered"]) == 2
    assert "`domain.aqp` is a file that the example stands on" in capsys.readouterr().err
    assert main(["new", "domain"]) == 2
    assert [path.name for path in folder.iterdir()] == ["domain.aqp"]
    assert (folder / "domain.aqp").read_text(encoding="utf-8") == "mine"


def test_the_examples_are_listed_with_what_they_are_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(examples())
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("name", ["x y", "x # y", "a..b", "1", "a version 2.0.0\n", "a.b/c"])
def test_what_cannot_name_a_policy_is_refused(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", name]) == 2
    assert "cannot name a policy" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_a_misspelt_example_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "a", "--from", "radiolgy"]) == 2
    assert "did you mean `radiology`?" in capsys.readouterr().err


def test_a_policy_needs_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["new"])
    assert stop.value.code == 2
    assert "aqpolicy new acme.triage" in capsys.readouterr().err


def test_a_header_is_replaced_wherever_it_stands() -> None:
    from aqpolicy.cli.new import renamed

    text = "# policy of old\nrule r when anything deny all\npolicy   old\n  version 3.0.0\n"
    assert renamed(Source("x", text), "a.b") == (
        "# policy of old\nrule r when anything deny all\npolicy a.b version 1.0.0\n"
    )
