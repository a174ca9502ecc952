"""`aqpolicy trace` and `aqpolicy revoke` from the command line, on a run on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.gating import tables
from support.tracing import KEYRING, LOG, Story, train

from aqpolicy.cli.main import main
from aqpolicy.lineage import LineageReader, verify_log
from aqpolicy.trace import audit_run, open_run
from aqpolicy.trust import SigningKey, sha256

OWNERS = {f"{1 + number % 2}-{number}": f"reader{number % 3}" for number in range(12)}
CODE = """
import torch

def build():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))

def logit(model, which="0"):
    return model(torch.ones(1, 3))[0, int(which)]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    LOG.save(folder / "log.key")
    (folder / "mine.py").write_text(CODE)
    SigningKey.generate("other").save(folder / "other.key")
    return train(folder, Story(OWNERS, tables([[1.0, 1.0], [0.5, 0.0]])))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_one_command_goes_from_a_behaviour_to_signed_observations(
    run: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = trained.parent / "mine.py"
    words = ["trace", str(run), "--model", f"{code}:build", "--behaviour", f"{code}:logit:1", "--json"]
    assert main([*words, str(run / "t.json")]) == 0
    said = capsys.readouterr()
    for part in ("depth groups", "chain", "step ", "annotators", "reader1", "rules", "manifest leaf", "closure"):
        assert part in said.out
    assert "trusting" in said.err
    facts = json.loads((run / "t.json").read_text())
    assert facts["behaviour"].endswith("mine.py:logit:1")
    assert facts["observations"][0]["history"] == []


def test_an_example_and_an_annotator_have_short_forms(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keyring = ["--keyring", str(run / "keyring.json")]
    assert main(["trace", str(run), "--example", "2-1", *keyring]) == 0
    said = capsys.readouterr()
    assert said.out.count("shares 0.5 0;") == 2
    assert said.err == ""
    assert main(["trace", str(run), "--from-annotator", "reader1", *keyring, "--json", str(run / "f.json")]) == 0
    assert "all annotators" in capsys.readouterr().out
    assert json.loads((run / "f.json").read_text())["kind"] == "credential"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give one of --behaviour"),
        (["--example", "1-0", "--from-annotator", "reader0"], "give one of --behaviour"),
        (["--behaviour", "math:sqrt"], "needs --model"),
        (["--example", "nobody"], "has no example `nobody`"),
        (["--from-annotator", "nobody"], "has no credential `nobody`"),
        (["--example", "1-0", "--json", "/proc/nothing/x"], "cannot write"),
    ],
)
def test_mistakes_are_one_clear_line(
    run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", str(run), "--keyring", str(run / "keyring.json"), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("aqpolicy: error: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_revocation_is_shown_signed_and_found_again(
    run: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = verify_log(run, KEYRING).entries
    words = ["revoke", str(run), "--credential", "reader1", "--reason", "left the study"]
    assert main([*words, "--dry-run"]) == 0
    assert verify_log(run, KEYRING).entries == before
    assert main([*words, "--key", str(trained.parent / "log.key")]) == 0
    assert f"entry {before} of the signed log" in capsys.readouterr().out
    assert verify_log(run, KEYRING).entries == before + 1
    (file,) = run.glob("footprint-*.json")
    with LineageReader(run, KEYRING) as reader:
        (status,) = reader.statuses
    assert status["footprint"] == f"sha256:{sha256(file.read_bytes()).hex()}"
    assert (status["examples"], status["visits"]) == (4, 8)
    assert audit_run(run, KEYRING).statuses == 1
    assert open_run(run, KEYRING).revoked == {"reader1": "left the study"}
    assert main([*words, "--dry-run"]) == 2
    assert "is revoked already" in capsys.readouterr().err


def test_a_revoked_reader_is_marked_in_every_trace(
    run: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["revoke", str(run), "--credential", "reader1", "--reason", "key stolen"]
    assert main([*words, "--key", str(trained.parent / "log.key"), "--out", str(run / "mine.json")]) == 0
    assert (run / "mine.json").exists()
    code = trained.parent / "mine.py"
    capsys.readouterr()
    assert main(["trace", str(run), "--model", f"{code}:build", "--behaviour", f"{code}:logit", "--top", "12"]) == 0
    assert "REVOKED: key stolen" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reason", "x"], "a revocation is signed"),
        (["--reason", ""], "one line"),
        (["--reason", "a\nb"], "one line"),
        (["--reason", "x", "--key", "other.key"], "is not"),
    ],
)
def test_a_revocation_that_cannot_be_signed_changes_nothing(
    run: Path, trained: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "head.note").read_bytes()
    words = [str(trained.parent / word) if word.endswith(".key") else word for word in words]
    assert main(["revoke", str(run), "--credential", "reader1", *words]) == 2
    assert message in capsys.readouterr().err
    assert (run / "head.note").read_bytes() == before
    assert list(run.glob("footprint-*")) == []
