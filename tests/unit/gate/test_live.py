"""What is shown of a run while it goes on: the file, the line, and that neither ever fails the training."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gating import MICRO, budget, tables

from aqpolicy.gate.accounts.queue import Waiting
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.motion.meters import Account
from aqpolicy.gate.view.live import BEAT, FILE, POINTS, Live
from aqpolicy.gate.view.progress import QUIET, fitted
from aqpolicy.gate.view.snapshot import Snapshot, limits_of, spent_of
from aqpolicy.report.live_form import parse_live, read_live

NOISE = budget("noise", (0,), per_epoch=4 * MICRO, per_run=10 * MICRO)
WRITES = replace(budget("writes", (0, 1), on_exhaust="attenuate"), meters=(("movement", "phase", 2 * MICRO),))
TABLES = tables([[1.0, 0.5]], budgets=(NOISE, WRITES))
WAITING = Waiting("scan-1", 0, "not adjudicated", (), 7, 1, 9, 1, "", -1, -1)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    """A stream that nobody reads any more."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


def snapshot(step: int = 3, **parts: Any) -> Snapshot:
    known: dict[str, Any] = {
        "state": RunState(step, 1, "warmup", "tentative", 20_500),
        "visits": (step, 0, 2 * step, 3 * step),
        "mass": (2.0 * step, 0.0, 3.0 * step, 5.0 * step),
        "offered": (10.0, 4.0),
        "admitted": (5.0, 1.0),
        "spent": {(0, "surprisal", "epoch"): MICRO, (0, "surprisal", "run"): 9 * MICRO},
    }
    return Snapshot(**(known | parts))


def written(run: Path) -> dict[str, Any]:
    found = json.loads((run / FILE).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


# ---- The file


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    clock = Clock()
    live = Live(tmp_path, TABLES, policy="radiology 3", clock=clock)
    live.update(lambda: snapshot(0))
    clock.now += 2.0
    live.update(lambda: snapshot(3, waiting=5, oldest=(WAITING,), slow=("encoder.3 (LSTM)",)))
    told = read_live(tmp_path)
    assert (told.policy, told.step, told.epoch, told.phase, told.stage) == ("radiology 3", 3, 1, "warmup", "tentative")
    assert told.today.isoformat() == "2026-02-16"
    assert (told.elapsed, told.rate, told.ended) == (2.0, 0.5, "")
    assert (told.visits, told.by_mass) == ((3, 0, 6, 9), True)
    assert [point.step for point in told.history] == [0, 3, 3]
    assert told.history[-1].amounts == (6.0, 0.0, 9.0, 15.0)
    assert [(group.name, group.admitted) for group in told.groups] == [("g0", 0.5), ("g1", 0.25)]
    assert [(b.name, b.meter, b.window, b.spent, b.limit, b.unit, b.on_exhaust) for b in told.budgets] == [
        ("noise", "surprisal", "epoch", 1.0, 4.0, "nat", "deny"),
        ("noise", "surprisal", "run", 9.0, 10.0, "nat", "deny"),
        ("writes", "movement", "phase", None, 2.0, "l2", "attenuate"),
    ]
    wait = told.oldest[0]
    assert (told.waiting, wait.example, wait.why, wait.step, wait.epoch) == (5, "scan-1", "not adjudicated", 7, 1)
    assert told.slow == ("encoder.3 (LSTM)",)


def test_without_norms_visits_are_counted(tmp_path: Path) -> None:
    live = Live(tmp_path, TABLES)
    live.update(lambda: snapshot(4, mass=(), offered=(), admitted=()))
    told = read_live(tmp_path)
    assert not told.by_mass
    assert told.history[-1].amounts == (4.0, 0.0, 8.0, 12.0)
    assert [group.admitted for group in told.groups] == [None, None]


def test_a_history_that_begins_after_the_first_step_has_that_step(tmp_path: Path) -> None:
    live = Live(tmp_path, TABLES)
    live.update(lambda: snapshot(1))
    assert [(point.step, sum(point.amounts)) for point in read_live(tmp_path).history] == [(0, 0), (1, 10), (1, 10)]


def test_the_file_comes_at_most_twice_a_second(tmp_path: Path) -> None:
    clock = Clock()
    live = Live(tmp_path, TABLES, clock=clock)
    live.update(lambda: snapshot(0))
    clock.now += BEAT * 0.9
    live.update(lambda: snapshot(1))
    assert written(tmp_path)["step"] == 0
    clock.now += BEAT * 0.2
    live.update(lambda: snapshot(2))
    assert written(tmp_path)["step"] == 2


def test_nothing_is_gathered_when_nothing_is_due(tmp_path: Path) -> None:
    asked = []
    clock = Clock()
    live = Live(tmp_path, TABLES, clock=clock)
    for step in range(2 * POINTS + 1):
        live.update(lambda step=step: snapshot(step))
    for step in range(2 * POINTS + 1, 2 * POINTS + 4):
        live.update(lambda step=step: asked.append(step) or snapshot(step))
    assert asked == []
    clock.now += BEAT
    live.update(lambda: asked.append(-1) or snapshot(2 * POINTS + 4))
    assert asked == [-1]


def test_with_no_folder_and_no_line_nothing_is_ever_gathered() -> None:
    live = Live(None, TABLES)
    live.update(lambda: pytest.fail("gathered"))
    live.end(lambda: pytest.fail("gathered"))


@settings(max_examples=25)
@given(steps=st.integers(0, 2000))
def test_the_history_stays_small_and_loses_no_amount(tmp_path_factory: pytest.TempPathFactory, steps: int) -> None:
    run, clock = tmp_path_factory.mktemp("run"), Clock()
    live = Live(run, TABLES, clock=clock)
    for step in range(steps + 1):
        live.update(lambda step=step: snapshot(step))
    live.end(lambda: snapshot(steps))
    points = [(point.step, point.amounts) for point in parse_live((run / FILE).read_bytes()).history]
    assert len(points) <= POINTS + 1
    assert (points[0][0], points[-1][0]) == (0, steps)
    assert all(amounts == (2.0 * step, 0.0, 3.0 * step, 5.0 * step) for step, amounts in points)
    gaps = {after - before for (before, _), (after, _) in pairwise(points[:-1])}
    assert len(gaps) <= 1


def test_no_other_file_is_left_behind(tmp_path: Path) -> None:
    Live(tmp_path, TABLES).update(snapshot)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize(
    ("halted", "said"), [("", "finished"), ("budget `noise` is exhausted", "halted: budget `noise`")]
)
def test_the_end_is_written_at_once_and_is_the_last_word(tmp_path: Path, halted: str, said: str) -> None:
    clock = Clock()
    live = Live(tmp_path, TABLES, clock=clock)
    live.update(lambda: snapshot(1))
    live.end(lambda: snapshot(2), halted)
    clock.now += 10.0
    live.update(lambda: snapshot(3))
    live.end(lambda: snapshot(4))
    assert written(tmp_path)["step"] == 2
    assert read_live(tmp_path).ended.startswith(said)


@pytest.mark.parametrize("spoil", ["folder", "number"])
def test_what_cannot_be_written_is_said_once_and_fails_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: str
) -> None:
    run, parts = (tmp_path / "gone", {}) if spoil == "folder" else (tmp_path, {"mass": (0.0, 0.0, 0.0, float("inf"))})
    clock = Clock()
    live = Live(run, TABLES, clock=clock)
    for step in range(3):
        live.update(lambda step=step: snapshot(step, **parts))
        clock.now += BEAT
    live.end(snapshot)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("aqpolicy: cannot write") == 1
    assert live.problem.startswith("cannot write")


# ---- The line


def test_no_progress_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live = Live(tmp_path, TABLES)
    live.update(snapshot)
    live.end(snapshot)
    assert capsys.readouterr() == ("", "")


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Live(None, TABLES, progress=True).update(snapshot)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("step 3 epoch 1 warmup tentative | ")


def test_plain_lines_are_rare_and_the_last_one_always_comes() -> None:
    stream, clock = io.StringIO(), Clock()
    live = Live(None, TABLES, stream, clock=clock)
    for step in range(5):
        live.update(lambda step=step: snapshot(step))
        clock.now += BEAT
    live.end(lambda: snapshot(5))
    clock.now += QUIET
    budgets = "noise 1 nat left per run | noise 3 nat left per epoch"
    step, mass = "epoch 1 warmup tentative", "mass admitted 50% modulated 30% denied 20%"
    assert stream.getvalue().splitlines() == [
        f"step 0 {step} | {budgets}",
        f"finished | step 5 {step} | 1.6 steps/s | {mass} | {budgets}",
    ]


def test_a_terminal_has_one_line_that_rewrites_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "64")
    monkeypatch.setenv("TERM", "xterm")
    stream, clock = Terminal(), Clock()
    live = Live(None, TABLES, stream, clock=clock)
    live.update(lambda: snapshot(0))
    clock.now += BEAT
    live.update(lambda: snapshot(1, waiting=2))
    live.end(lambda: snapshot(1))
    first, second, last = stream.getvalue().split("\r")[1:]
    assert first == "step 0 epoch 1 warmup tentative | noise 1 nat left per run\x1b[K"
    assert second == "step 1 epoch 1 warmup tentative | 2 steps/s\x1b[K"
    assert last == "finished | step 1 epoch 1 warmup tentative | 2 steps/s\x1b[K\n"


def test_a_terminal_that_cannot_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    Live(None, TABLES, stream).update(snapshot)
    assert "\r" not in stream.getvalue()


def test_what_cannot_be_written_does_not_tear_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    live = Live(tmp_path / "gone", TABLES, stream)
    live.update(snapshot)
    assert "\x1b[K\r\x1b[Kaqpolicy: cannot write" in stream.getvalue()


@pytest.mark.parametrize("kind", ["gone", "closed"])
def test_a_stream_that_is_gone_fails_nothing(kind: str) -> None:
    stream: io.StringIO = Gone() if kind == "gone" else io.StringIO()
    live = Live(None, TABLES, stream)
    if kind == "closed":
        stream.close()
    live.update(snapshot)
    live.end(snapshot)


def test_parts_that_do_not_fit_are_left_out_whole() -> None:
    assert fitted(["step 1", "fast", "much"], 15) == "step 1 | fast"
    assert fitted(["step 1234567"], 6) == "step 1"


# ---- Budgets


def test_only_limits_that_add_up_from_step_to_step_are_shown() -> None:
    steps = replace(budget("steps", per_update=MICRO), meters=(("movement", "step", MICRO), ("drift", "run", MICRO)))
    assert [line.key for line in limits_of(tables([[1.0]], budgets=(steps,)))] == [(0, "drift", "run")]


def test_what_was_spent_is_found_by_budget_meter_and_window() -> None:
    nats = SimpleNamespace(epoch=[1, 2], phase=[3, 4], run=[5, 6])
    accounts = (Account(1, "movement", "phase", 9, 7), Account(1, "movement", "step", 9, 0))
    found = spent_of(nats, accounts)
    assert {line.key: found.get(line.key) for line in limits_of(TABLES)} == {
        (0, "surprisal", "epoch"): 1,
        (0, "surprisal", "run"): 5,
        (1, "movement", "phase"): 7,
    }
