"""A08: training goes on from a checkpoint that the log does not know: newer than it, of another run, or changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.attacking import begun, denied, put_in_place, rows_of, take, take_away
from support.lineage_runs import KEY, KEYRING, edit
from support.resuming import begin, go_on, make_net, write_inputs

from aqpolicy.errors import CorruptLogError, InputError, LineageError
from aqpolicy.gate.records import checkpoint
from aqpolicy.lineage import LineageWriter, logged_models, verify_log
from aqpolicy.lineage import resume as opening
from aqpolicy.lineage.store import model_key
from aqpolicy.trust import sha256


def saved(folder: Path, steps: int, name: str = "here") -> None:
    """Train, put down a checkpoint, and stop as a crash would."""
    folder.mkdir()
    write_inputs(folder)
    net = make_net()
    gate = begin(folder, net)
    go_on(gate, net, steps)
    gate.checkpoint(name)
    gate.machinery.recorder.log.abandon()
    gate.detach()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    saved(tmp_path / "one", 3)
    return tmp_path / "one"


def refused_as_unknown(run: Path, **more: object) -> None:
    with pytest.raises(LineageError, match=r"does not name the checkpoint .* newer than the log, or another log's"):
        begin(run, make_net(), resume="here", **more)


def test_a_checkpoint_behind_the_end_of_its_log(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = Path(shutil.copytree(run / "run", tmp_path / "older"))
    net = make_net()
    gate = begin(run, net, resume="here")
    go_on(gate, net, 5)
    gate.checkpoint("here")
    gate.machinery.recorder.log.abandon()
    gate.detach()
    newer = (run / "run" / "here.ckpt").read_bytes()
    shutil.rmtree(run / "run")
    shutil.copytree(older, run / "run")
    (run / "run" / "here.ckpt").write_bytes(newer)
    refused_as_unknown(run)
    known = {sha256(newer).hex(): True}
    real = logged_models

    def as_if_named(*given: object) -> object:  # without the comparison, any file passes for the one that was logged
        genesis, models = real(*given)
        return genesis, [{**model, "model": next(iter(known))} for model in models]

    put_in_place(monkeypatch, checkpoint.logged_models, as_if_named)
    gate = begin(run, make_net(), resume="here")
    assert gate.state.step == 5  # and the log holds three
    gate.detach()


def test_an_entry_that_names_no_model_is_nothing_to_go_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the older log something else is where the newer one named the model."""
    writer = begun(tmp_path / "log")
    take(writer, rows_of(0, 2))
    place = writer.append_status({"attempt": 0, "state": writer._tally.digest.hex(), "step": 1})
    tally = writer._tally.to_bytes()
    writer.barrier()
    writer.abandon()
    edit(tmp_path / "log", b"meta", model_key(place), lambda _: tally)

    def go_back(entry: int) -> None:
        LineageWriter.resume(tmp_path / "log", KEY, KEYRING, entry=entry, reason="stopped").abandon()

    for entry in (place, place + 1, 2**40, 0):
        said = f"the log has no model at entry {entry}: it is older than the model, or another log"
        denied(lambda entry=entry: go_back(entry), LineageError, said)
    take_away(monkeypatch, opening._model, "the log has no model at entry")
    go_back(place)
    denied(
        lambda: verify_log(tmp_path / "log", KEYRING),
        CorruptLogError,
        "training goes on from a model that the log does not have",
        where=f"entry {place + 1}",
    )


def test_a_checkpoint_of_another_run(run: Path, tmp_path: Path) -> None:
    saved(tmp_path / "two", 4)
    shutil.copy(tmp_path / "two" / "run" / "here.ckpt", run / "run" / "here.ckpt")
    refused_as_unknown(run)


def test_a_changed_checkpoint(run: Path) -> None:
    file = run / "run" / "here.ckpt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    refused_as_unknown(run)
    file.unlink()
    with pytest.raises(InputError, match="has no checkpoint `here`"):
        begin(run, make_net(), resume="here")
