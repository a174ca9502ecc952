"""A training that stopped goes on from a checkpoint: the uninterrupted one bit for bit, and one log of both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.gating import budget
from support.resuming import KEYRING, LOG, NAMES, STEPS, TABLE, begin, go_on, make_net, whole, write_inputs

from aqpolicy.errors import IllegalTrainingSetupError, InputError, LineageError
from aqpolicy.lineage import LineageReader, verify_log
from aqpolicy.trace import open_run
from aqpolicy.trace.auditing.audit import audit_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_inputs(tmp_path)
    return tmp_path


def stopped(folder: Path, at: int, saved: int, **options: object) -> None:
    """Train to a step, with a checkpoint before it, and stop as a crash would."""
    torch.manual_seed(5)
    net = make_net()
    gate = begin(folder, net, **options)
    go_on(gate, net, saved)
    gate.checkpoint("here", extra={"schedule": {"epoch": 3}})
    go_on(gate, net, at)
    gate.machinery.recorder.log.abandon()
    gate.detach()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        write_inputs(folder)
    expected = whole(one, optimizer=optimizer)
    stopped(other, at=13, saved=10, optimizer=optimizer)
    torch.manual_seed(99)
    net = make_net()
    gate = begin(other, net, resume="here", optimizer=optimizer)
    assert gate.state.step == 10
    assert gate.extra == {"schedule": {"epoch": 3}}
    go_on(gate, net, STEPS)
    gate.close()
    assert all(torch.equal(*pair) for pair in zip(net.parameters(), expected, strict=True))
    runs = [open_run(folder / "run", KEYRING) for folder in (one, other)]
    for first, second in zip(*(run.blocks for run in runs), strict=True):
        assert first.rows == second.rows
        assert first.book == second.book
    published = [run.published for run in runs]
    assert [model["model"] for model in published] == [published[0]["model"]] * 2
    assert published[0]["travelled"] == published[1]["travelled"]
    assert published[0]["state"] == published[1]["state"]


def test_one_log_holds_what_counts_and_what_was_given_up(folder: Path) -> None:
    stopped(folder, at=13, saved=10)
    net = make_net()
    gate = begin(folder, net, resume="latest")
    go_on(gate, net, STEPS)
    gate.close()
    report = verify_log(folder / "run", KEYRING)
    assert (report.steps, report.attempts, report.superseded, report.ended) == (STEPS, 2, 3, True)
    audited = audit_run(folder / "run", KEYRING)
    assert audited.steps == STEPS
    with LineageReader(folder / "run", KEYRING) as reader:
        assert [entry.attempt for _, entry in reader.step_entries()] == [0] * 10 + [1] * 14
        assert len(list(reader.step_entries(superseded=True))) == STEPS + 3


def test_what_was_killed_before_its_first_checkpoint_begins_anew_in_the_same_log(folder: Path) -> None:
    net = make_net()
    gate = begin(folder, net)
    go_on(gate, net, 5)
    gate.machinery.recorder.log.abandon()
    gate.detach()
    with pytest.raises(InputError, match="`beginning` begins anew"):
        begin(folder, make_net(), resume="latest")
    gate = begin(folder, net, resume="beginning")
    go_on(gate, net, 7)
    gate.close()
    assert audit_run(folder / "run", KEYRING).steps == verify_log(folder / "run", KEYRING).steps == 7


def test_a_run_that_ended_can_be_gone_on_with(folder: Path) -> None:
    torch.manual_seed(5)
    net = make_net()
    gate = begin(folder, net)
    go_on(gate, net, 8)
    gate.checkpoint("end")
    gate.close()
    net = make_net()
    gate = begin(folder, net, resume="end")
    go_on(gate, net, 12)
    gate.close()
    assert verify_log(folder / "run", KEYRING).steps == 12
    assert audit_run(folder / "run", KEYRING).steps == 12


def test_the_latest_checkpoint_is_the_one_that_was_logged_last(folder: Path) -> None:
    net = make_net()
    gate = begin(folder, net)
    for step, name in ((2, "b"), (4, "a"), (6, "b")):
        go_on(gate, net, step)
        gate.checkpoint(name)
    gate.machinery.recorder.log.abandon()
    gate.detach()
    for name, step in (("a", 4), ("latest", 4), ("b", None)):
        if step is None:  # the last resumption made the later `b` count no longer
            with pytest.raises(LineageError, match="does not name the checkpoint `b` as it is"):
                begin(folder, make_net(), resume=name)
            continue
        gate = begin(folder, make_net(), resume=name)
        assert gate.state.step == step
        gate.machinery.recorder.log.abandon()
        gate.detach()


def test_a_checkpoint_that_the_log_does_not_name_is_refused_and_the_model_is_left_alone(folder: Path) -> None:
    stopped(folder, at=12, saved=10)
    path = folder / "run" / "here.ckpt"
    good = path.read_bytes()
    net = make_net()
    before = [value.detach().clone() for value in net.parameters()]
    newer = torch.load(path, weights_only=True) | {"extra": {"newer": True}}
    torch.save(newer, path)
    with pytest.raises(LineageError, match="newer than the log"):
        begin(folder, net, resume="here")
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(LineageError, match="newer than the log"):
        begin(folder, net, resume="latest")
    path.unlink()
    with pytest.raises(InputError, match="has no checkpoint `here`"):
        begin(folder, net, resume="here")
    assert all(torch.equal(*pair) for pair in zip(net.parameters(), before, strict=True))


def test_another_policy_or_model_is_refused_by_name_and_everything_is_put_back(folder: Path) -> None:
    stopped(folder, at=12, saved=10)
    net = make_net()
    before = [value.detach().clone() for value in net.parameters()]
    with pytest.raises(IllegalTrainingSetupError, match="begun with another record"):
        begin(folder, net, resume="here", record="norms")
    write_inputs(folder, replace(TABLE, budgets=(budget("early", (0,), per_epoch=1), *TABLE.budgets[1:])))
    with pytest.raises(IllegalTrainingSetupError, match="begun with another bundle"):
        begin(folder, net, resume="here")
    assert all(torch.equal(*pair) for pair in zip(net.parameters(), before, strict=True))
    assert verify_log(folder / "run", KEYRING).attempts == 1, "nothing was written"


@pytest.mark.parametrize("name", ["latest", "../up", "", "x" * 65])
def test_a_name_that_no_checkpoint_may_have_is_refused(folder: Path, name: str) -> None:
    net = make_net()
    gate = begin(folder, net)
    with pytest.raises(InputError, match="cannot name a checkpoint"):
        gate.checkpoint(name)
    gate.close()


def test_a_checkpoint_needs_a_log(folder: Path) -> None:
    net = make_net()
    gate = begin(folder, net, lineage=None, log_key=None, unsafe_without_lineage=True)
    with pytest.raises(IllegalTrainingSetupError, match="lies beside a log"):
        gate.checkpoint()
    gate.close()


def test_a_checkpoint_is_no_model_that_was_published(folder: Path) -> None:
    stopped(folder, at=12, saved=10)
    run = open_run(folder / "run", KEYRING)
    assert run.models == ()
    assert run.published is None
    assert LOG.verify_key.text == run.genesis["log_key"]
    assert set(NAMES) >= {run.name_of(row) for _, row in run.rows}
