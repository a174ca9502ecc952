"""`aqpolicy promote`, as witnesses and those who hold the log's key call it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.candidates import ANN, MODEL, key_files, write_candidate
from support.lineage_runs import edit

from aqpolicy.cli.main import main
from aqpolicy.gate.records.promotion import Verdict
from aqpolicy.lineage.store import entry_key

Command = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_candidate(tmp_path / "run")


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    return key_files(tmp_path)


@pytest.fixture
def promote(run: Path, keys: dict[str, str]) -> Command:
    return lambda *words: main(["promote", str(run), "--keyring", keys["keyring"], *words])


def test_two_witnesses_sign_and_the_log_s_key_publishes(
    run: Path, keys: dict[str, str], promote: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote() == 0
    assert capsys.readouterr().out.endswith(": tentative\nwitnessed by 0 of 2\n")
    assert promote("--key", keys["ann"]) == 0
    assert capsys.readouterr().out.endswith(f"witness   {ANN.verify_key.label}\nwitnessed by 1 of 2\n")
    assert promote("--key", keys["ben"], "--log-key", keys["log"]) == 0
    assert capsys.readouterr().out.endswith(f"witnessed by 2 of 2\nexecuted  {run / 'model.pt'}\n")
    assert (run / "model.pt").read_bytes() == MODEL
    assert promote() == 0
    assert capsys.readouterr().out.endswith(": executed\n")


def test_too_few_witnesses_are_status_1_and_nothing_is_published(
    run: Path, keys: dict[str, str], promote: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote("--key", keys["ann"], "--log-key", keys["log"]) == 1
    assert capsys.readouterr().out.endswith("refused   1 of 2 witnesses have signed; let others sign first\n")
    assert not (run / "model.pt").exists()


def test_an_aborted_candidate_is_status_1_for_whoever_goes_on(
    run: Path, keys: dict[str, str], promote: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote("--abort", "--log-key", keys["log"]) == 0
    assert "aborted   model" in capsys.readouterr().out
    assert promote() == 0
    assert promote("--key", keys["ann"]) == 1
    assert promote("--log-key", keys["log"]) == 1
    assert promote("--abort", "--log-key", keys["log"]) == 1
    assert "refused   the promotion was aborted before" in capsys.readouterr().out
    assert not (run / "model.pt").exists()


def test_a_candidate_that_the_gate_refused_stays_where_it_is(
    tmp_path: Path, keys: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_candidate(tmp_path / "other", Verdict("refused", 0))
    assert main(["promote", str(run), "--keyring", keys["keyring"], "--log-key", keys["log"]]) == 1
    assert "the promotion was refused before" in capsys.readouterr().out


@pytest.mark.parametrize("words", [(), ("--key", "ann"), ("--log-key", "log")])
def test_a_changed_candidate_is_status_1(
    run: Path, keys: dict[str, str], promote: Command, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    (run / "model.candidate.pt").write_bytes(b"another model")
    assert promote(*(keys.get(word, word) for word in words)) == 1
    assert "the candidate is not the one whose digest is in the log" in capsys.readouterr().out
    assert not (run / "model.witnesses.json").exists()


def test_a_damaged_log_and_a_hostile_envelope_are_status_1(
    run: Path, promote: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "model.witnesses.json").write_bytes(b"[]")
    assert promote() == 1
    assert "refused   an envelope has" in capsys.readouterr().out
    edit(run, b"entry", entry_key(4), lambda data: data.replace(b"tentative", b"executed!"))
    assert promote() == 1
    assert "refused   entries 4 to 5: the entry is not what was signed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--key", "stranger"), "is not trusted as `witness`"),
        (("--key", "log"), "is not trusted as `witness`"),
        (("--log-key", "ann", "--abort"), "is not the key of this log"),
        (("--name", "merged"), "tells of no candidate `merged`"),
        (("--name", "../x"), "cannot name a model"),
        (("--abort",), "--abort goes with --log-key"),
        (("--abort", "--log-key", "log", "--key", "ann"), "--abort goes with --log-key"),
        (("--key", "nowhere.key"), "cannot read"),
    ],
)
def test_what_cannot_be_done_is_status_2_and_changes_nothing(
    run: Path,
    keys: dict[str, str],
    promote: Command,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert promote(*(keys.get(word, word) for word in words)) == 2
    assert said in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_signing_twice_is_status_2(keys: dict[str, str], promote: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert promote("--key", keys["ann"]) == 0
    assert promote("--key", keys["ann"]) == 2
    assert "has witnessed this candidate already" in capsys.readouterr().err


def test_what_is_no_run_is_status_2(tmp_path: Path, keys: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["promote", str(tmp_path / "none"), "--keyring", keys["keyring"]]) == 2
    assert "holds no log" in capsys.readouterr().err
