"""A07: a step counts twice, or one that was taken back is kept quiet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.attacking import accepted, begun, put_in_place, refused, rows_of, take, take_away, unnoticed
from support.lineage_runs import KEY, KEYRING

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage import LineageWriter
from aqpolicy.lineage import resume as opening
from aqpolicy.lineage.attempts import Resumption
from aqpolicy.lineage.tally import Tally
from aqpolicy.lineage.verify_entries import Entries

OTHERWISE = "it says something else of the steps before it than they do"


def gone_back(run: Path, **lie: int) -> Path:
    """Write a log that goes back behind its last step, and let the holder of its key say something else of that."""
    writer = begun(run)
    take(writer, rows_of(0, 1))
    model = writer.append_model(1, bytes(32), {"name": "model"})
    take(writer, rows_of(1, 1))
    writer.barrier()
    writer.abandon()
    honest = opening.gone_back

    def lying(*arguments: object) -> tuple[Resumption, Tally]:
        said, tally = honest(*arguments)  # type: ignore[arg-type]
        return replace(said, **lie), tally

    with pytest.MonkeyPatch.context() as patch:
        put_in_place(patch, opening.gone_back, lying)
        writer = LineageWriter.resume(run, KEY, KEYRING, entry=model, reason="stopped")
    writer.abandon()
    return run


def test_the_log_without_a_lie_is_a_good_one(tmp_path: Path) -> None:
    assert accepted(gone_back(tmp_path / "run")).superseded == 1


def test_a_step_that_was_taken_back_is_not_kept_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = gone_back(tmp_path / "run", supersedes=0)
    refused(run, CorruptLogError, OTHERWISE, where="entry 6")
    take_away(monkeypatch, Entries._resume, OTHERWISE)
    unnoticed(run)


def test_the_steps_of_a_model_are_not_taken_again_upon_it(tmp_path: Path) -> None:
    run = gone_back(tmp_path / "run", from_step=0, supersedes=2)
    refused(run, CorruptLogError, OTHERWISE, where="entry 6")


def test_a_model_that_is_not_there_is_no_beginning(tmp_path: Path) -> None:
    said = "training goes on from a model that the log does not have, or that no longer counts"
    refused(gone_back(tmp_path / "run", entry=3), CorruptLogError, said, where="entry 6")


def test_a_step_does_not_come_again_in_an_attempt_that_was_never_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    writer = begun(run)
    take(writer, rows_of(0, 1))
    take(writer, rows_of(1, 1))
    writer.steps, writer.attempt = 1, 1
    take(writer, rows_of(1, 1))
    honest = writer._state
    monkeypatch.setattr(writer, "_state", lambda group: replace(honest(group), attempt=0, step=3))
    writer.barrier()
    writer.abandon()
    refused(run, CorruptLogError, "step 2 is missing, or not in its place", where="entry 5")
    take_away(monkeypatch, Entries._step, "is missing, or not in its place")
    assert unnoticed(run).steps == 3
