"""A33: the bytes that were verified are not the bytes that are used."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.attacking import begun, rows_of, take
from support.lineage_runs import KEY, KEYRING
from support.resuming import KEYRING as OF_RUNS
from support.resuming import begin, make_net, write_inputs

from aqpolicy.errors import LineageError
from aqpolicy.export.source import open_verified
from aqpolicy.gate import attachment
from aqpolicy.lineage import LineageWriter, verify_log
from aqpolicy.trace import open_run


def test_a_log_that_went_on_after_it_was_verified_is_not_exported(tmp_path: Path) -> None:
    writer = begun(tmp_path / "run")
    take(writer, rows_of(0, 2))
    writer.close()
    report = verify_log(tmp_path / "run", KEYRING)
    later = LineageWriter.open_for_status(tmp_path / "run", KEY, KEYRING)
    later.append_status({"credential": "reader-07", "event": "revoked"})
    later.close()
    with (
        pytest.raises(LineageError, match="went on after it was verified"),
        open_verified(tmp_path / "run", KEYRING, report),
    ):
        pass


def test_a_gate_reads_every_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes a file after it was read changes neither what decides nor what the run keeps."""
    write_inputs(tmp_path)
    real, intact = attachment._read, {}

    def read_and_change(path: Path) -> bytes:
        data = intact[Path(path).name] = real(path)
        Path(path).write_bytes(b"something else")
        return data

    monkeypatch.setattr(attachment, "_read", read_and_change)
    begin(tmp_path, make_net()).close()
    assert {(tmp_path / "run" / name).read_bytes() for name in ("bundle.aqb", "manifest.aqm")} == set(intact.values())
    assert open_run(tmp_path / "run", OF_RUNS).tables.groups
