"""`aqpolicy doc` as its users call it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from support.policy_text import RADIOLOGY

from aqpolicy.cli.main import main

LAYER = """\
policy radiology.strict version 1.0.0
extends radiology.triage from "policy.aqp"
rule none_of_it when tier is scraped deny all because "not licensed"
otherwise deny because "no rule admits it"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "policy.aqp").write_text(RADIOLOGY, encoding="utf-8")
    return tmp_path


def test_the_page_is_written_and_its_source_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doc", "policy.aqp", "--out", "page.html"]) == 0
    digest = f"sha256:{hashlib.sha256(RADIOLOGY.encode()).hexdigest()}"
    assert capsys.readouterr().out == f"page.html: radiology.triage 2.1.0, {digest}\n"
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert digest in page


def test_without_a_file_the_page_goes_to_the_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doc", "policy.aqp"]) == 0
    printed = capsys.readouterr().out
    assert main(["doc", "policy.aqp", "--out", "page.html"]) == 0
    assert (folder / "page.html").read_text(encoding="utf-8") == printed
    capsys.readouterr()
    assert main(["doc", "policy.aqp", "--format", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("# Policy radiology.triage\n")


def test_a_policy_with_errors_is_not_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "policy.aqp").write_text(RADIOLOGY + "prove never admitted(surface) > 0\n", encoding="utf-8")
    assert main(["doc", "policy.aqp", "--out", "page.html"]) == 1
    assert "error[AQ308]" in capsys.readouterr().out
    assert not (folder / "page.html").exists()


def test_a_layer_is_read_with_what_it_extends(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "strict.aqp").write_text(LAYER, encoding="utf-8")
    assert main(["doc", "strict.aqp"]) == 1
    assert "error[AQ223]" in capsys.readouterr().out
    assert main(["lock", "strict.aqp"]) == 0
    capsys.readouterr()
    assert main(["doc", "strict.aqp", "--format", "markdown"]) == 0
    page = capsys.readouterr().out
    assert "- narrows: radiology.triage, version 2.1.0" in page
    assert "| policy.aqp | extended | sha256:" in page


@pytest.mark.parametrize("arguments", [["none.aqp"], ["policy.aqp", "--out", "no/folder/page.html"]])
def test_files_that_cannot_be_used_are_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doc", *arguments]) == 2
    assert capsys.readouterr().err.startswith("aqpolicy: error: cannot ")
