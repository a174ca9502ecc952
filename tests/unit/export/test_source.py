"""What leaves is what was verified: a log that changed in between is refused, whatever changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.attacking import rich_run
from support.lineage_runs import KEY, KEYRING, edit, write_run

from aqpolicy.errors import CorruptLogError, ForkedLogError, LineageError
from aqpolicy.export.source import open_verified
from aqpolicy.lineage import LineageWriter, verify_log
from aqpolicy.lineage.store import block_key, entry_key


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", steps=4)


def read_all(run: Path, change: Callable[[], object]) -> list[int]:
    """Verify a log, change it, and hand it out; return the numbers of its steps."""
    report = verify_log(run, KEYRING)
    change()
    with open_verified(run, KEYRING, report) as source:
        found = []
        for step in source.steps():
            source.reader.rank_leaves(step.entry, 0)
            found.append(step.entry.step)
        return found


def test_all_steps_that_count_are_handed_out_in_order(run: Path) -> None:
    assert read_all(run, lambda: None) == [0, 1, 2, 3]


def test_superseded_steps_are_marked_and_left_out_unless_asked_for(tmp_path: Path) -> None:
    run = rich_run(tmp_path / "run")
    report = verify_log(run, KEYRING)
    with open_verified(run, KEYRING, report) as source:
        plain, all_of_them = list(source.steps()), list(source.steps(superseded=True))
    assert [step for step in all_of_them if not step.superseded] == plain
    assert len(plain) == report.steps
    assert len(all_of_them) == report.steps + report.superseded
    (lost,) = [step.entry for step in all_of_them if step.superseded]
    (again,) = [step.entry for step in plain if step.entry.step == lost.step]
    assert again.attempt == lost.attempt + 1


def test_a_log_that_went_on_is_refused(run: Path) -> None:
    def go_on() -> None:
        writer = LineageWriter.open_for_status(run, KEY, KEYRING)
        writer.append_status({"credential": "reader-07", "event": "revoked"})
        writer.close()

    with pytest.raises(LineageError, match="went on after it was verified"):
        read_all(run, go_on)


def test_another_log_in_its_place_is_refused(run: Path, tmp_path: Path) -> None:
    def exchange() -> None:
        run.rename(tmp_path / "old")
        write_run(run, steps=4)

    with pytest.raises(LineageError, match="went on after it was verified"):
        read_all(run, exchange)


def test_an_entry_that_changed_is_refused(run: Path) -> None:
    with pytest.raises(ForkedLogError, match="changed while it was exported"):
        read_all(run, lambda: edit(run, b"entry", entry_key(3), lambda data: data[:48] + b"\0" + data[49:]))


def test_a_row_that_changed_is_refused(run: Path) -> None:
    with pytest.raises(CorruptLogError, match="not those of the signed entry"):
        read_all(run, lambda: edit(run, b"blk", block_key(0, 2), lambda data: data[:-1] + b"\7"))


def test_a_block_that_claims_a_later_attempt_takes_no_step_away(run: Path) -> None:
    blocks: list[bytes] = []

    def claim() -> None:
        edit(run, b"blk", block_key(0, 3), lambda data: blocks.append(data) or data)
        edit(run, b"blk", block_key(1, 2), lambda _: blocks[0])

    with pytest.raises(ForkedLogError, match="changed while it was exported"):
        read_all(run, claim)
