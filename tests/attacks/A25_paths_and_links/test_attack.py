"""A25: names that lead out of the folder, and links in the place of files."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.attacking import begun, denied, rows_of, take, take_away
from support.lineage_runs import KEYRING
from support.resuming import begin, go_on, make_net, write_inputs

from aqpolicy.errors import AqpolicyError, InputError, LineageError
from aqpolicy.export.folder import new_folder
from aqpolicy.gate.records import checkpoint
from aqpolicy.lineage import verify_log

OUTSIDE = ("../out", "/tmp/out", "a/b", "..", ".", "", "nul\0", "con.", "x" * 65, "latest", "beginning", "ä")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_checkpoint_has_a_plain_name(tmp_path: Path, name: str) -> None:
    write_inputs(tmp_path)
    net = make_net()
    gate = begin(tmp_path, net)
    go_on(gate, net, 1)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    denied(lambda: gate.checkpoint(name), InputError, "cannot name a checkpoint; use letters, digits, `_` and `-`")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    gate.close()


def test_without_the_rule_a_checkpoint_lands_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_inputs(tmp_path)
    net = make_net()
    gate = begin(tmp_path, net)
    go_on(gate, net, 1)

    take_away(monkeypatch, checkpoint.write_checkpoint, "cannot name a checkpoint")
    gate.checkpoint("../out")
    gate.close()
    assert (tmp_path / "out.ckpt").exists()


@pytest.mark.parametrize("name", OUTSIDE[:7])
def test_a_checkpoint_is_looked_for_in_the_folder_alone(tmp_path: Path, name: str) -> None:
    write_inputs(tmp_path)
    gate = begin(tmp_path, make_net())
    gate.close()
    with pytest.raises(AqpolicyError):
        begin(tmp_path, make_net(), resume=name)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(InputError), new_folder(tmp_path / "link"):
        pass
    assert not [*(tmp_path / "target").iterdir()]


def test_a_head_that_is_no_file(tmp_path: Path) -> None:
    writer = begun(tmp_path / "run")
    take(writer, rows_of(0, 1))
    writer.close()
    head = tmp_path / "run" / "head.note"
    head.unlink()
    head.mkdir()
    said = f"the signed head `{head}` cannot be read: Is a directory"
    denied(lambda: verify_log(tmp_path / "run", KEYRING), LineageError, said)
