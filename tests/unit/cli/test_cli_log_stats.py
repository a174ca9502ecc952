"""`aqpolicy log stats` counts what `aqpolicy log show` prints, and both also speak JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.lineage_runs import GENESIS, KEY, KEYRING, NAMES, block, row, write_run
from support.proof_logs import ProofLog

from aqpolicy.cli.main import main
from aqpolicy.lineage import LineageReader, LineageWriter
from aqpolicy.lineage.stats import collect


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run of three steps, with an event before each."""
    writer = LineageWriter.create(tmp_path / "run", GENESIS, KEY, **NAMES)
    for step in range(3):
        writer.append_event({"event": "note", "text": f"before\n{step}"})
        writer.append_step(block(step))
    writer.append_model(3, bytes(32), {"name": "model"})
    writer.close()
    KEYRING.save(tmp_path / "run" / "keyring.json")
    return tmp_path / "run"


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_counts_are_those_of_the_rows(run: Path) -> None:
    with LineageReader(run, KEYRING) as reader:
        stats = collect(reader)
        entries = len(list(reader.entries()))
    assert sum(stats.entries.values()) == entries
    assert (stats.entries["step"], stats.entries["status"], stats.entries["model"]) == (3, 3, 1)
    assert (stats.steps, stats.attempts, stats.superseded_steps, stats.ranks) == (3, 1, 0, 1)
    assert (stats.rows, stats.cells, stats.logged_cells) == (12, 24, 24)
    assert (stats.effects, stats.causes, stats.reasons) == ({"admit": 12}, {"granted": 12}, {})
    assert stats.exceptions == {"per update": 3}
    assert stats.charges == {"all": 12 * 7}
    assert stats.movement_charges == {"all": 3 * 500_000}
    assert stats.drift_charges == {"all": 0}
    assert stats.models == [{"step": 3, "model": bytes(32).hex()}]
    assert 4096 <= stats.bytes <= (run / "lineage" / "data.mdb").stat().st_size
    assert stats.bytes_per_cell == stats.bytes / 24


def test_an_empty_log_counts_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=0)
    with LineageReader(run, KEYRING) as reader:
        stats = collect(reader)
    assert (stats.rows, stats.steps, stats.bytes_per_cell) == (0, 0, 0.0)


def test_the_counts_are_printed_and_are_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "stats", str(run)]) == 0
    said = capsys.readouterr().out
    for words in (
        "steps      3, of 1 attempt",
        "effects    admit 12",
        "charged    by movement: all 1.5",
        "by drift: nothing",
    ):
        assert words in said
    assert main(["log", "stats", str(run), "--json"]) == 0
    (facts,) = lines(capsys)
    assert facts["rows"] == 12
    assert facts["charges"] == {"all": 84}
    assert facts["bytes_per_cell"] == round(facts["bytes"] / 24, 3)


def test_steps_and_rows_are_json_lines(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "show", str(run), "--json"]) == 0
    steps = lines(capsys)
    assert [step["step"] for step in steps] == [0, 1, 2]
    assert steps[0] | {"moved": {"surface": 0.5, "head": None}, "phase": "tune", "rows": 4} == steps[0]
    assert main(["log", "show", str(run), "--example", "e5", "--group", "head", "--json"]) == 0
    (found,) = lines(capsys)
    assert (found["step"], found["example"], found["effect"]) == (1, row(5).example_key.hex(), "admit")
    assert (found["norms"], found["lowered"]) == ({"head": 0.5}, {"head": {"reason": "per update", "share": 250_000}})


def test_one_depth_group_is_shown_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "show", str(run), "--group", "surface"]) == 0
    assert "moved head" not in capsys.readouterr().out
    assert main(["log", "show", str(run), "--step", "1", "--group", "surface"]) == 0
    said = capsys.readouterr().out
    assert "surface=4" in said
    assert "head=" not in said
    assert main(["log", "show", str(run), "--group", "nothing"]) == 2
    assert "no depth group `nothing`; it has surface, head" in capsys.readouterr().err


def test_events_models_and_ranks_are_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "show", str(run), "--events"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert said[1].startswith("after 1 steps  note  text ")
    assert main(["log", "show", str(run), "--events", "--step", "1", "--json"]) == 0
    assert lines(capsys) == [{"steps": 1, "event": "note", "text": "before\n1"}]
    assert main(["log", "show", str(run), "--models"]) == 0
    assert capsys.readouterr().out == f"after 3 steps  model  sha256:{bytes(32).hex()}\n"
    assert main(["log", "show", str(run), "--ranks", "--step", "2", "--json"]) == 0
    (rank,) = lines(capsys)
    assert (rank["step"], rank["rank"], rank["rows"], rank["cells"]) == (2, 0, 4, 8)


def test_an_attempt_is_shown_by_its_number(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "show", str(run), "--attempt", "0", "--step", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    for what in (("--attempt", "1"), ("--attempt", "1", "--step", "1")):
        assert main(["log", "show", str(run), *what]) == 2
        assert "of attempt 1" in capsys.readouterr().err


def test_superseded_steps_are_counted_apart_and_shown_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    with ProofLog(tmp_path) as log:
        for number in range(3):
            log.step([row(number)], [row(10 + number), row(20 + number)])
        log.model()
        log.back()
        log.step([row(30)])
        log.end()
        with LineageReader(log.run, KEYRING) as reader:
            stats = collect(reader, lambda done, total: seen.append((done, total)))
    assert (stats.steps, stats.superseded_steps, stats.attempts, stats.ranks) == (1, 3, 2, 2)
    assert (stats.rows, stats.cells, stats.logged_cells) == (1, 2, 20)
    assert stats.models == []
    assert seen == [(1, 4), (4, 4)]
    KEYRING.save(log.run / "keyring.json")
    assert main(["log", "stats", str(log.run)]) == 0
    assert "steps      1, of 2 attempts; 3 superseded" in capsys.readouterr().out
    shown = {}
    for what in ("--models", "--ranks"):
        for attempt in ((), ("--attempt", "0"), ("--attempt", "1")):
            assert main(["log", "show", str(log.run), what, "--json", *attempt]) == 0
            shown[what, attempt[1:]] = lines(capsys)
    assert [len(found) for found in shown.values()] == [0, 1, 0, 1, 6, 1]
    assert [rank["rows"] for rank in shown["--ranks", ("0",)]] == [1, 2] * 3
    assert main(["log", "show", str(log.run), "--step", "2"]) == 2
    assert "the log has no step 2" in capsys.readouterr().err
    assert main(["log", "show", str(log.run), "--step", "2", "--attempt", "0"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
