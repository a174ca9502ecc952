"""A33: the bytes that were verified are not the bytes that are used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.attacking import begun, denied, rows_of, take, take_away
from support.lineage_runs import KEY, KEYRING, LAYOUT, edit
from support.resuming import KEYRING as OF_RUNS
from support.resuming import begin, make_net, write_inputs

from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.export import source
from aqpolicy.gate import attachment
from aqpolicy.lineage import LineageReader, LineageWriter, Row, verify_log
from aqpolicy.lineage.leaf import encode_row
from aqpolicy.lineage.store import block_key
from aqpolicy.trace import open_run


def test_a_log_that_went_on_after_it_was_verified_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = begun(tmp_path / "run")
    take(writer, rows_of(0, 2))
    writer.close()
    report = verify_log(tmp_path / "run", KEYRING)
    later = LineageWriter.open_for_status(tmp_path / "run", KEY, KEYRING)
    later.append_status({"credential": "reader-07", "event": "revoked"})
    later.close()

    def export() -> None:
        with source.open_verified(tmp_path / "run", KEYRING, report):
            pass

    denied(export, LineageError, "the log went on after it was verified; export it again")
    with monkeypatch.context() as careless:
        careless.setattr(source, "open_checkpoint", lambda *_: report.checkpoint)
        export()


def test_rows_that_were_changed_after_they_were_verified_are_not_read(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify_log(copy, KEYRING)
    charged = replace(rows_of(6, 3)[0], charges=(8,))
    edit(
        copy,
        b"blk",
        block_key(0, 2, 0),
        lambda data: data.replace(encode_row(rows_of(6, 3)[0], LAYOUT), encode_row(charged, LAYOUT)),
    )

    def read() -> Row:
        with LineageReader(copy, KEYRING) as reader:
            return reader.step(2).rows[0]

    denied(read, CorruptLogError, "the rows are not those of the signed entry", where="step 2")
    take_away(monkeypatch, LineageReader._verified, "the rows are not those of the signed entry")
    assert read() == charged


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
