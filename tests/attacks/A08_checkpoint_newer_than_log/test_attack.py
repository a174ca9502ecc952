"""A08: training goes on from a checkpoint that the log does not know: newer than it, of another run, or changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.attacking import put_in_place
from support.resuming import begin, go_on, make_net, write_inputs

from aqpolicy.errors import InputError, LineageError
from aqpolicy.gate.records import checkpoint
from aqpolicy.lineage import logged_models
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
