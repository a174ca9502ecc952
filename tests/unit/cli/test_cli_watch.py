"""`aqpolicy watch`: what it draws, letter by letter, and what it makes of a file that is not what a run writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqpolicy.cli import watch
from aqpolicy.cli.main import main
from aqpolicy.errors import InputError
from aqpolicy.report.live_form import LARGEST_FILE, parse_live
from aqpolicy.report.live_look import Look
from aqpolicy.report.live_view import duration, frame

PLAIN, BLOCKS, COLOR = Look(color=False, blocks=False), Look(color=False, blocks=True), Look(color=True, blocks=True)
WRITTEN = 1_700_000_000.0
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def document(**parts: Any) -> dict[str, Any]:
    """Return what a run writes: half admitted, then less, and for a while some deferred."""
    known: dict[str, Any] = {
        "format": "aqpolicy live 1",
        "policy": "radiology 3",
        "written": WRITTEN,
        "elapsed": 815.0,
        "ended": "",
        "step": 400,
        "epoch": 3,
        "phase": "warmup",
        "stage": "tentative",
        "today": 20_500,
        "rate": 84.213,
        "visits": {"deny": 3000, "defer": 40, "modulate": 2000, "admit": 30_000},
        "measure": "mass",
        "history": [[0, 0, 0, 0, 0], [100, 0, 0, 50, 50], [200, 25, 25, 75, 75], [400, 125, 25, 125, 125]],
        "groups": [["input", 0.93], ["middle", 0.412], ["head", 0.05], ["frozen", None]],
        "budgets": [
            ["noise", "surprisal", "epoch", "nat", 3_100_000, 4_000_000, "deny"],
            ["noise", "surprisal", "run", "nat", 11_900_000, 12_000_000, "deny"],
            ["writes", "movement", "phase", "l2", 400_000, 1_500_000, "attenuate"],
            ["shape", "drift", "run", "nat", None, 100_000, "halt"],
        ],
        "waiting": 12,
        "oldest": [["scan-17", "labels not adjudicated", 300, 0], ["scan-233", "no room in budget `noise`", 312, 2]],
        "slow": ["encoder.3 (LSTM)", "encoder.4 (GroupNorm)"],
    }
    return known | parts


def drawn(look: Look, columns: int, rows: int | None = None, age: float = 2.0, **parts: Any) -> str:
    live = parse_live(json.dumps(document(**parts)).encode())
    return "\n".join(line.rstrip() for line in frame(live, "run-42", WRITTEN + age, look, columns=columns, rows=rows))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run-42"
    folder.mkdir()
    (folder / "live.json").write_text(json.dumps(document(written=time.time(), ended="finished")), encoding="utf-8")
    return folder


# ---- What is drawn


def test_a_plain_terminal_of_80_columns() -> None:
    assert drawn(PLAIN, 80) == EXPECTED_PLAIN


def test_blocks_on_120_columns() -> None:
    assert drawn(BLOCKS, 120) == EXPECTED_BLOCKS


def test_a_low_terminal_gets_the_chart_and_the_start_of_every_list() -> None:
    shown = drawn(PLAIN, 80, rows=20)
    assert shown == EXPECTED_LOW
    assert len(shown.splitlines()) == 20


def test_color_says_nothing_that_words_do_not_say() -> None:
    for part in ("admitted 31%", "modulated 31%", "deferred 6%", "denied 31%", "99%!"):
        assert part in ESCAPE.sub("", drawn(COLOR, 80))


def test_color_draws_the_borders_of_bands_in_eighths() -> None:
    shown = drawn(COLOR, 80, history=[[0, 0, 0, 0, 0], [8, 31, 0, 0, 33]])
    assert f"      \x1b[32;41m{'▁' * 74}\x1b[0m" in shown.splitlines()


def test_a_spent_budget_is_red_and_marked() -> None:
    (line,) = (line for line in drawn(COLOR, 80).splitlines() if "99%" in line)
    assert "\x1b[31m 99%\x1b[0m\x1b[31m!" in line


@pytest.mark.parametrize(
    ("parts", "age", "said"),
    [
        ({}, 2.0, "running, seen 2 s ago"),
        ({}, 200.0, "no word for 3 min"),
        ({"ended": "finished"}, 9000.0, "finished 2 h ago"),
        ({"ended": "halted: budget `noise` is exhausted"}, 3.0, "halted 3 s ago"),
    ],
)
def test_the_first_line_says_how_it_stands(parts: dict[str, str], age: float, said: str) -> None:
    lines = drawn(PLAIN, 80, age=age, **parts).splitlines()
    assert lines[0].startswith("radiology 3  run-42  ")
    assert lines[0].endswith(said)
    assert ("halted: budget `noise` is exhausted" in lines) == ("budget" in str(parts))


def test_before_the_first_step_there_is_no_chart() -> None:
    assert "No step yet" in drawn(PLAIN, 80, history=[[0, 0, 0, 0, 0]], groups=[["input", None]])


def test_without_norms_it_says_that_visits_are_counted() -> None:
    assert "Visits (norms are not recorded)  steps 0 to 400" in drawn(PLAIN, 80, measure="visits")


def test_a_stretch_in_which_nothing_happened_stays_empty() -> None:
    shown = drawn(PLAIN, 80, history=[[0, 0, 0, 0, 0], [10, 0, 0, 0, 8], [20, 0, 0, 0, 8]]).splitlines()
    assert f" 50%  {'#' * 37}" in shown


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 days")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


# ---- The command


def test_once_draws_one_frame(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(run), "--once"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("radiology 3  run-42 ")
    assert "\x1b" not in said.out
    assert said.err == ""


def test_it_needs_nothing_of_the_training_side(run: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = sys.modules['numpy'] = None\n"
        f"from aqpolicy.cli.main import main; sys.exit(main(['watch', {str(run)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("radiology 3  run-42 ")


def test_a_run_that_ended_is_drawn_once_on_a_terminal_too(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["watch", str(run)]) == 0
    assert "\x1b[?1049h" not in capsys.readouterr().out


@pytest.mark.parametrize("how", ["it ends", "ctrl-c"])
def test_on_a_terminal_it_draws_until_the_end_and_gives_the_screen_back(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if how == "ctrl-c":
            raise KeyboardInterrupt
        (run / "live.json").write_text(json.dumps(document(ended="finished")), encoding="utf-8")

    monkeypatch.setattr(watch.time, "sleep", sleep)
    (run / "live.json").write_text(json.dumps(document(written=time.time())), encoding="utf-8")
    assert main(["watch", str(run), "--interval", "0.5"]) == 0
    before, after = capsys.readouterr().out.split("\x1b[?1049l")
    assert before.startswith("\x1b[?1049h\x1b[?25l")
    assert before.endswith("\x1b[?25h")
    assert "running, seen" in before
    assert ESCAPE.sub("", after).startswith("radiology 3  run-42 ")
    assert slept == ([0.5] if how == "ctrl-c" else [0.5, 0])


def test_a_file_that_is_spoiled_meanwhile_gives_the_screen_back_and_an_error(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(watch.time, "sleep", lambda _: (run / "live.json").write_text("{", encoding="utf-8"))
    (run / "live.json").write_text(json.dumps(document()), encoding="utf-8")
    assert main(["watch", str(run)]) == 2
    said = capsys.readouterr()
    assert said.out.endswith("\x1b[?1049l")
    assert "is not what a run writes: it is no JSON" in said.err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon", "1e9"])
def test_an_interval_is_a_sensible_number_of_seconds(
    run: Path, capsys: pytest.CaptureFixture[str], seconds: str
) -> None:
    with pytest.raises(SystemExit):
        main(["watch", str(run), "--interval", seconds])
    assert "is not a number of seconds" in capsys.readouterr().err


# ---- Files that a run does not write


def spoiled(**parts: Any) -> bytes:
    return json.dumps(document(**parts)).encode()


HOSTILE = {
    "empty": b"",
    "no UTF-8": b'{"format": "\xff"}',
    "no JSON": b"{",
    "deep": b"[" * 100_000,
    "long number": b'{"format": "aqpolicy live 1", "step": ' + b"9" * 5000 + b"}",
    "no object": b"[]",
    "other format": spoiled(format="aqpolicy live 2"),
    "format of another kind": spoiled(format=["aqpolicy live 1"]),
    "nothing in it": b'{"format": "aqpolicy live 1"}',
    "too large": spoiled(policy="x" * LARGEST_FILE),
    "not a number": spoiled(written=float("nan")),
    "infinite": spoiled(elapsed=float("inf")),
    "infinite in disguise": spoiled().replace(b"815.0", b"1e999"),
    "end of time": spoiled(written=1e18),
    "boolean": spoiled(step=True),
    "negative": spoiled(epoch=-1),
    "too many": spoiled(step=2**63),
    "text for a number": spoiled(rate="fast"),
    "number for a text": spoiled(phase=3),
    "strange end": spoiled(ended="it went well"),
    "an effect less": spoiled(visits={"deny": 1, "defer": 0, "modulate": 0}),
    "strange measure": spoiled(measure="weight"),
    "history of another shape": spoiled(history=[[0, 0, 0]]),
    "history that goes back": spoiled(history=[[5, 0, 0, 0, 9], [6, 0, 0, 0, 8]]),
    "history back in time": spoiled(history=[[5, 0, 0, 0, 0], [4, 0, 0, 0, 8]]),
    "group that is more than all": spoiled(groups=[["input", 1e9]]),
    "budget in another unit": spoiled(budgets=[["noise", "surprisal", "epoch", "bananas", 1, 2, "deny"]]),
    "budget that does what none does": spoiled(budgets=[["noise", "surprisal", "epoch", "nat", 1, 2, "explode"]]),
    "endless list": spoiled(slow=["x"] * 5000),
    "waits of another shape": spoiled(oldest=["scan-1"]),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_no_run_writes_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    (tmp_path / "live.json").write_bytes(HOSTILE[case])
    assert main(["watch", str(tmp_path), "--once"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert "live.json` is not what a run writes: " in said.err


@pytest.mark.parametrize("kind", ["no folder", "no file", "a folder"])
def test_a_file_that_is_not_there_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    if kind == "a folder":
        (tmp_path / "live.json").mkdir()
    assert main(["watch", str(tmp_path / "gone" if kind == "no folder" else tmp_path), "--once"]) == 2
    assert capsys.readouterr().err.startswith("aqpolicy: error: ")


def test_no_text_of_the_file_steers_the_terminal() -> None:
    evil = "\x1b[2J\x9b31m\r\n\t\u202e\ud800x"
    shown = drawn(PLAIN, 80, policy=evil, phase=evil, stage=evil, ended=f"halted: {evil}", slow=[evil])
    shown += drawn(PLAIN, 80, groups=[[evil, 0.5]], oldest=[[evil, evil, 1, 1]])
    assert "?[2J?31m?????x" in shown
    assert all(letter.isprintable() or letter == "\n" for letter in shown)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=400),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(name=st.sampled_from(sorted(document())), value=ANYTHING, columns=st.integers(80, 200), rows=st.integers(1, 60))
def test_whatever_a_member_is_it_is_refused_or_drawn_within_the_screen(
    name: str, value: object, columns: int, rows: int
) -> None:
    try:
        live = parse_live(json.dumps(document(**{name: value})).encode())
    except InputError:
        return
    lines = frame(live, "run-42", WRITTEN, PLAIN, columns=columns, rows=rows)
    assert len(lines) <= rows
    assert max(map(len, lines)) <= columns
    assert all(line.isprintable() for line in lines)


@given(
    numbers=st.lists(st.integers(0, 2**63 - 1), min_size=8, max_size=8),
    name=st.text(max_size=400),
    columns=st.integers(80, 200),
)
def test_no_name_and_no_number_makes_a_line_too_wide(numbers: list[int], name: str, columns: int) -> None:
    step, epoch, waiting, spent, limit, *visits = numbers
    parts = {
        "step": step,
        "epoch": epoch,
        "rate": float(spent // 2),
        "waiting": waiting,
        "phase": name,
        "visits": dict(zip(("deny", "defer", "modulate", "admit"), [*visits, 0], strict=True)),
        "budgets": [[name, "surprisal", "phase", "nat", spent, limit, "attenuate"]],
        "groups": [[name, 100.0]],
        "history": [[0, 0, 0, 0, 0], [step, *[float(number) for number in (spent, limit, epoch, waiting)]]],
    }
    live = parse_live(json.dumps(document(**parts)).encode())
    assert max(map(len, frame(live, name, WRITTEN, PLAIN, columns=columns))) <= columns


EXPECTED_PLAIN = """\
radiology 3  run-42                                        running, seen 2 s ago
step 400   epoch 3   phase warmup   stage tentative   84.2 steps/s, 13 min
35040 visits   dated 2026-02-16

Gradient mass of the visits  steps 0 to 400
100%  ++++++++++++++++++........................................................
      ++++++++++++++++++-.......................................................
      +++++++++++++++++++------------------.....................................
      +++++++++++++++++++------------------.....................................
 50%  ##################++++++++++++++++++++++++++++++++++++++++++++++++++++++++
      ###################+++++++++++++++++++++++++++++++++++++++++++++++++++++++
      ##########################################################################
  0%  ##########################################################################
      # admitted 31%   + modulated 31%   - deferred 6%   . denied 31%

Depth groups  gradient mass admitted
  input   ########################################################....   93%
  middle  #########################...................................   41%
  head    ###.........................................................    5%
  frozen  ............................................................

Budgets  spent of limit, and what happens then
  noise   surprisal per epoch  ############...  78%    3.1 of 4 nat  deny
  noise   surprisal per run    ###############  99%! 11.9 of 12 nat  deny
  writes  movement per phase   ####...........  27%   0.4 of 1.5 l2  attenuate
  shape   drift per run        ...............         ? of 0.1 nat  halt

Waiting  12 examples, the oldest first
  scan-17  since step 300, epoch 0: labels not adjudicated
  scan-233  since step 312, epoch 2: no room in budget `noise`

Slow layers  exact, one example at a time
  encoder.3 (LSTM)   encoder.4 (GroupNorm)"""

EXPECTED_BLOCKS = """\
radiology 3  run-42                                                                                running, seen 2 s ago
step 400   epoch 3   phase warmup   stage tentative   84.2 steps/s, 13 min   35040 visits   dated 2026-02-16

Gradient mass of the visits  steps 0 to 400
100%  ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
      ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▒░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
      ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
      ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
 50%  ████████████████████████████▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓
      █████████████████████████████▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓
      ██████████████████████████████████████████████████████████████████████████████████████████████████████████████████
  0%  ██████████████████████████████████████████████████████████████████████████████████████████████████████████████████
      █ admitted 31%   ▓ modulated 31%   ▒ deferred 6%   ░ denied 31%

Depth groups  gradient mass admitted
  input   ███████████████████████████████████████████████████████▊····   93%
  middle  ████████████████████████▊···································   41%
  head    ███·························································    5%
  frozen  ····························································

Budgets  spent of limit, and what happens then
  noise   surprisal per epoch  ██████████████████████████████████████████▋············  78%    3.1 of 4 nat  deny
  noise   surprisal per run    ██████████████████████████████████████████████████████▌  99%! 11.9 of 12 nat  deny
  writes  movement per phase   ██████████████▋········································  27%   0.4 of 1.5 l2  attenuate
  shape   drift per run        ·······················································         ? of 0.1 nat  halt

Waiting  12 examples, the oldest first
  scan-17  since step 300, epoch 0: labels not adjudicated
  scan-233  since step 312, epoch 2: no room in budget `noise`

Slow layers  exact, one example at a time
  encoder.3 (LSTM)   encoder.4 (GroupNorm)"""

EXPECTED_LOW = """\
radiology 3  run-42                                        running, seen 2 s ago
step 400   epoch 3   phase warmup   stage tentative   84.2 steps/s, 13 min
35040 visits   dated 2026-02-16
Gradient mass of the visits  steps 0 to 400
100%  ++++++++++++++++++........................................................
      +++++++++++++++++++------------------.....................................
      ##################++++++++++++++++++++++++++++++++++++++++++++++++++++++++
  0%  ##########################################################################
      # admitted 31%   + modulated 31%   - deferred 6%   . denied 31%
Depth groups  gradient mass admitted
  input   ########################################################....   93%
  and 3 more
Budgets  spent of limit, and what happens then
  noise   surprisal per epoch  ############...  78%    3.1 of 4 nat  deny
  and 3 more
Waiting  12 examples, the oldest first
  scan-17  since step 300, epoch 0: labels not adjudicated
  scan-233  since step 312, epoch 2: no room in budget `noise`
Slow layers  exact, one example at a time
  encoder.3 (LSTM)   encoder.4 (GroupNorm)"""
