"""A log says what was appended, in order, under signed heads."""

from __future__ import annotations

import fcntl
import shutil
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest
from support.lineage_runs import GENESIS, GROUPS, KEY, KEYRING, NAMES, PHASES, STAGES, block, edit, write_run

from aqpolicy.errors import InputError, LineageError, SignatureError
from aqpolicy.lineage import LineageReader, LineageWriter, verify_log
from aqpolicy.lineage.store import entry_key
from aqpolicy.trust import Keyring, SigningKey, open_checkpoint


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=20)
    with LineageReader(run, KEYRING) as reader:
        assert list(reader.steps()) == [block(step) for step in range(20)]
        assert reader.step(7) == block(7)
        assert reader.models[0]["step"] == 20
        assert reader.genesis["groups"] == list(GROUPS)
        assert (reader.genesis["phases"], reader.genesis["stages"]) == (list(PHASES), list(STAGES))


def test_a_finished_log_verifies(tmp_path: Path) -> None:
    report = verify_log(write_run(tmp_path / "run", steps=130), KEYRING)
    # the opening, the steps, the model, a seal and the end
    assert (report.entries, report.steps, report.rows, report.ended) == (3 + 130 + 1 + 2, 130, 520, True)
    assert report.heads == 1 + 8 + 2  # the opening, every 16 steps, the model and the end


def test_a_key_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    stranger = Keyring.of([("log", SigningKey.generate("log").verify_key)])
    with pytest.raises(SignatureError):
        verify_log(run, stranger)


def test_a_log_is_never_begun_twice(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    with pytest.raises(LineageError, match="already holds a log"):
        LineageWriter.create(run, GENESIS, KEY, **NAMES)


def test_a_step_out_of_turn_is_refused(tmp_path: Path) -> None:
    writer = LineageWriter.create(tmp_path / "run", GENESIS, KEY, **NAMES)
    with pytest.raises(LineageError, match="step 3 came where step 0 was due"):
        writer.append_step(block(3))
    writer.close()


def test_two_writers_exclude_each_other(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    with (run / "lineage" / "writer.lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(LineageError, match="another process writes"):
            LineageWriter.open_for_status(run, KEY, KEYRING)
    LineageWriter.open_for_status(run, KEY, KEYRING).close()


def test_a_status_extends_the_log_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=3)
    before = verify_log(run, KEYRING)
    writer = LineageWriter.open_for_status(run, KEY, KEYRING)
    assert writer.append_status({"credential": "reader-07"}) == before.entries
    writer.close()
    assert verify_log(run, KEYRING).entries == before.entries + 1
    with LineageReader(run, KEYRING) as reader:
        assert reader.statuses == [{"credential": "reader-07"}]


def test_events_stand_between_the_steps_where_they_happened(tmp_path: Path) -> None:
    writer = LineageWriter.create(tmp_path / "run", GENESIS, KEY, **NAMES)
    writer.append_event({"event": "phase", "phase": "tune"})
    writer.append_step(block(0))
    writer.append_step(block(1))
    writer.append_event({"event": "stage", "stage": "open"})
    writer.append_model(2, bytes(32), {})
    writer.close()
    report = verify_log(tmp_path / "run", KEYRING)
    assert (report.entries, report.steps, report.ended) == (3 + 2 + 2 + 1 + 2, 2, True)
    with LineageReader(tmp_path / "run", KEYRING) as reader:
        assert [(steps, facts["event"]) for steps, facts in reader.events] == [(0, "phase"), (2, "stage")]
        assert [facts["event"] for facts in reader.statuses] == ["phase", "stage"]


def test_an_event_is_durable_with_the_steps_around_it(tmp_path: Path) -> None:
    writer = LineageWriter.create(tmp_path / "run", GENESIS, KEY, **NAMES)
    for step in range(17):
        writer.append_event({"event": "note", "step": step})
        writer.append_step(block(step))
    writer.abandon()
    with LineageReader(tmp_path / "run", KEYRING) as reader:
        assert [facts["step"] for facts in reader.statuses] == list(range(16))
    assert verify_log(tmp_path / "run", KEYRING).steps == 16


def test_an_event_that_fits_no_entry_is_refused(tmp_path: Path) -> None:
    writer = LineageWriter.create(tmp_path / "run", GENESIS, KEY, **NAMES)
    for facts in ({"event": "note", "text": "x" * 70_000}, {"event": "note", "number": 0.5}):
        with pytest.raises(LineageError):
            writer.append_event(facts)
    writer.close()
    assert verify_log(tmp_path / "run", KEYRING).entries == 4


@pytest.mark.parametrize("change", [{"phase": "later"}, {"stage": "later"}, {"today": 2**31}])
def test_a_step_in_a_state_that_the_run_does_not_have_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    writer = LineageWriter.create(tmp_path / "run", GENESIS, KEY, **NAMES)
    with pytest.raises(LineageError):
        writer.append_step(replace(block(0), **change))
    writer.append_step(replace(block(0), phase="", stage="", today=-1))
    writer.close()
    with LineageReader(tmp_path / "run", KEYRING) as reader:
        (found,) = reader.steps()
    assert (found.phase, found.stage, found.today) == ("", "", -1)


def test_the_log_of_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    writer = LineageWriter.create(tmp_path / "run", {**GENESIS, "first_step": 7}, KEY, **NAMES)
    with pytest.raises(LineageError, match="step 0 came where step 7 was due"):
        writer.append_step(block(0))
    writer.append_step(block(7))
    writer.append_event({"event": "note"})
    writer.append_model(8, bytes(32), {})
    writer.close()
    assert verify_log(tmp_path / "run", KEYRING).steps == 1
    with LineageReader(tmp_path / "run", KEYRING) as reader:
        assert [steps for steps, _ in reader.events] == [8]


def test_a_log_of_another_format_is_refused_by_name(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    edit(run, b"entry", entry_key(0), lambda data: data[:5] + b"\1" + data[6:])
    for read in (verify_log, LineageReader):
        with pytest.raises(LineageError, match="the log has format 1, this version reads format 3"):
            read(run, KEYRING)


def test_another_key_cannot_append_a_status(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    other = SigningKey.generate("log")
    trusted = KEYRING.with_key("log", other.verify_key)
    with pytest.raises(LineageError, match="is not the key of this log"):
        LineageWriter.open_for_status(run, other, trusted)


def test_the_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    assert (run / "lineage" / "data.mdb").stat().st_mode & 0o077 == 0


def test_a_log_is_not_begun_beside_the_head_of_another(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    shutil.rmtree(run / "lineage")
    with pytest.raises(LineageError, match="already holds a log"):
        LineageWriter.create(run, GENESIS, KEY, **NAMES)


def test_a_log_is_not_read_while_it_is_written(tmp_path: Path) -> None:
    writer = LineageWriter.create(tmp_path / "run", GENESIS, KEY, **NAMES)
    with pytest.raises(LineageError, match="another process writes"):
        LineageReader(tmp_path / "run", KEYRING)
    writer.close()
    assert verify_log(tmp_path / "run", KEYRING).steps == 0


def test_what_is_durable_is_signed_although_nothing_was_closed(tmp_path: Path) -> None:
    writer = LineageWriter.create(tmp_path / "run", GENESIS, KEY, **NAMES)
    for step in range(40):
        writer.append_step(block(step))
    assert (writer.steps, writer.durable_steps) == (40, 32)
    writer.abandon()
    report = verify_log(tmp_path / "run", KEYRING)
    assert (report.steps, report.checkpoint.size, report.ended) == (32, 35, False)
    with pytest.raises(LineageError):
        writer.append_model(40, bytes(32), {})


def test_a_model_is_durable_and_published_when_the_call_returns(tmp_path: Path) -> None:
    writer = LineageWriter.create(tmp_path / "run", GENESIS, KEY, **NAMES)
    writer.append_step(block(0))
    writer.append_model(1, b"\1" * 32, {"travelled": {"head": "00" * 80_000}})  # larger than an entry may be
    head = (tmp_path / "run" / "head.note").read_bytes()
    writer.abandon()
    assert open_checkpoint(head, KEYRING.keys("log")).size == 5
    with LineageReader(tmp_path / "run", KEYRING) as reader:
        (model,) = reader.models
    assert (model["step"], model["model"], len(model["travelled"]["head"])) == (1, "01" * 32, 160_000)


def test_a_full_map_is_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aqpolicy.lineage.store._MAP_BYTES", 1 << 17)
    run = write_run(tmp_path / "run", steps=1500)
    assert (run / "lineage" / "data.mdb").stat().st_size > 1 << 18
    assert verify_log(run, KEYRING).steps == 1500


@pytest.mark.parametrize("broken", ["store", "head"])
def test_after_a_failed_write_the_log_takes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object) -> None:
        raise (lmdb.DiskError if broken == "store" else InputError)("no space")

    writer = LineageWriter.create(tmp_path / "run", GENESIS, KEY, **NAMES)
    writer.append_step(block(0))
    target = "aqpolicy.lineage.store.Store._put" if broken == "store" else "aqpolicy.lineage.group.replace_file"
    with monkeypatch.context() as context:
        context.setattr(target, fail)
        with pytest.raises(LineageError, match=r"training must stop.*no space"):
            writer.append_model(1, bytes(32), {})
    with pytest.raises(LineageError, match=r"takes no more entries.*no space"):
        writer.append_step(block(1))
    writer.close()
    assert verify_log(tmp_path / "run", KEYRING).ended is False


def test_a_row_of_another_shape_is_refused_and_nothing_is_taken(tmp_path: Path) -> None:
    writer = LineageWriter.create(tmp_path / "run", GENESIS, KEY, **{**NAMES, "budgets": ("one", "two")})
    with pytest.raises(LineageError, match="another shape"):
        writer.append_step(block(0))
    writer.close()
    assert verify_log(tmp_path / "run", KEYRING).steps == 0


@pytest.mark.parametrize("missing", ["bundle", "manifest_root"])
def test_a_run_says_what_it_is_decided_by(tmp_path: Path, missing: str) -> None:
    facts = {name: value for name, value in GENESIS.items() if name != missing}
    with pytest.raises(LineageError, match=f"names no `{missing}` digest"):
        LineageWriter.create(tmp_path / "run", facts, KEY, **NAMES)
    assert not (tmp_path / "run" / "lineage").exists()


def test_a_head_that_lags_behind_the_store_is_no_damage(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    older = (run / "head.note").read_bytes()
    writer = LineageWriter.open_for_status(run, KEY, KEYRING)
    writer.append_status({"credential": "reader-07"})
    writer.close()
    (run / "head.note").write_bytes(older)  # as a crash between the two writes would leave it
    assert verify_log(run, KEYRING).checkpoint.size == 8


def test_progress_ends_at_all_steps(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    verify_log(write_run(tmp_path / "run", steps=600), KEYRING, lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == [256, 512, 600]  # as often as an index was sealed
    assert {total for _, total in seen} == {600}
