"""`aqpolicy memorization`, as whoever publishes a model and whoever receives it call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.tracing import LOG, Story, train

from aqpolicy.cli.main import main

OWNERS = {f"1-{number}": f"reader{number % 2}" for number in range(12)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(folder, Story(OWNERS, epochs=3, record="norms"))
    LOG.save(folder / "log.key")
    return folder


def words(folder: Path, *more: str) -> list[str]:
    return ["memorization", str(folder / "run"), "--keyring", str(folder / "in.json"), "--quantile", "0.8", *more]


def test_a_report_is_made_signed_and_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = folder / "report.json"
    assert main(words(folder, "--output", str(report), "--key", str(folder / "log.key"))) == 0
    shown = capsys.readouterr().out
    assert "all: 2 of 12 are over" in shown
    assert "rank correlation" in shown
    check = ["memorization", "--check", str(report), "--keyring", str(folder / "in.json")]
    assert main([*check, "--model", str(folder / "run" / "model.pt")]) == 0
    assert capsys.readouterr().out == shown + "verified  signed by a trusted key\n"
    assert main([*check[:1], str(folder / "run"), *check[1:]]) == 0
    assert capsys.readouterr().out.endswith("and what the log of the run gives\n")


def test_a_report_of_another_model_or_run_or_by_nobody_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    assert main(words(folder, "--output", str(report), "--key", str(folder / "log.key"))) == 0
    check = ["memorization", "--check", str(report), "--keyring", str(folder / "in.json")]
    assert main([*check, "--model", str(folder / "in.aqb")]) == 1
    assert "is another model" in capsys.readouterr().out
    train(tmp_path / "other", Story(OWNERS, epochs=2, record="norms"))
    assert main([check[0], str(tmp_path / "other" / "run"), *check[1:]]) == 1
    assert "the report is of another run" in capsys.readouterr().out
    data = json.loads(report.read_bytes())
    report.write_text(json.dumps({**data, "signatures": []}), encoding="utf-8")
    assert main(check) == 1
    assert capsys.readouterr().out.startswith("refused   ")


def test_json_and_mistakes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(folder, "--json", "--signal", "loss")) == 0
    assert json.loads(capsys.readouterr().out)["signal"] == "loss"
    for wrong in (words(folder, "--output", "x"), ["memorization"], ["memorization", "--check", "x"]):
        assert main(wrong) == 2
