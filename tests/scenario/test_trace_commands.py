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
from aqpolicy.provenance.status import load_status_list, new_status_list, refused_examples, seal_status_list
from aqpolicy.trace import audit_run, footprint, open_run
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


def test_what_was_stolen_is_counted_from_a_step_on_and_refused_from_then_on(
    run: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = footprint(open_run(run, KEYRING), credential="reader1")
    words = ["revoke", str(run), "--credential", "reader1", "--reason", "compromised: seen on the third day", "--json"]
    assert main([*words, "--since", "step:3", "--dry-run"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["since"] == 3
    assert shown["updates"] == json.loads(whole.to_json())["updates"][-len(shown["updates"]) :]
    assert {update["step"] for update in shown["updates"]} == {step for step in whole.admitted_steps if step >= 3}
    status = run / "refused.status"
    assert main([*words, "--since", "step:3", "--key", str(trained.parent / "log.key"), "--status", str(status)]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == shown
    assert "is list 1, of 1 refused credentials" in told.err
    opened = open_run(run, KEYRING)
    listed = load_status_list(status, KEYRING)
    assert listed.refused[0].known_roots == (opened.manifest.root.hex(),)  # the manifest was logged before step 3
    assert refused_examples(opened.manifest, listed) == ()
    words = ["revoke", str(run), "--credential", "reader2", "--reason", "error: read the wrong side", "--status"]
    assert main([*words, str(status), "--key", str(trained.parent / "log.key")]) == 0
    listed = load_status_list(status, KEYRING)
    assert listed.serial == 2
    assert set(refused_examples(opened.manifest, listed)) == {n for n, o in OWNERS.items() if o == "reader2"}


def test_a_list_that_another_signed_stops_the_revocation_before_it_is_written(
    run: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run / "refused.status"
    status.write_bytes(seal_status_list(new_status_list(1, "2026-01-01", ()), [SigningKey.generate("other")]))
    before = (run / "head.note").read_bytes()
    words = ["revoke", str(run), "--credential", "reader1", "--reason", "left", "--status", str(status)]
    assert main([*words, "--key", str(trained.parent / "log.key")]) == 2
    assert "no trusted key signed" in capsys.readouterr().err
    assert (run / "head.note").read_bytes() == before


def test_a_revoked_reader_is_marked_in_every_trace(
    run: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["revoke", str(run), "--credential", "reader1", "--reason", "compromised: key stolen"]
    assert main([*words, "--key", str(trained.parent / "log.key"), "--out", str(run / "mine.json")]) == 0
    assert (run / "mine.json").exists()
    code = trained.parent / "mine.py"
    capsys.readouterr()
    assert main(["trace", str(run), "--model", f"{code}:build", "--behaviour", f"{code}:logit", "--top", "12"]) == 0
    assert "REVOKED: compromised: key stolen" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reason", "left"], "a revocation is signed"),
        (["--reason", ""], "one line"),
        (["--reason", "a\nb"], "one line"),
        (["--reason", "key stolen"], "begins with one of compromised, error, left, superseded"),
        (["--reason", "left", "--since", "step:1"], "leave out --since"),
        (["--reason", "left", "--superseded-by", "reader2"], "goes with a reason that begins with `superseded`"),
        (["--reason", "error", "--dry-run", "--since", "yesterday"], "is no place in the log"),
        (["--reason", "error", "--dry-run", "--since", "step:99"], "has no step 99"),
        (["--reason", "error", "--dry-run", "--since", "entry:99"], "no step behind entry 99"),
        (["--reason", "left", "--key", "other.key"], "is not"),
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
