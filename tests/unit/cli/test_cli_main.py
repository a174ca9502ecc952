"""The frame of the command line: version, help, wrong words, errors."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from aqpolicy.cli import main as frame
from aqpolicy.errors import AnalysisError, InputError, InternalError


def test_every_command_has_a_summary() -> None:
    assert tuple(frame.SUMMARIES) == frame.COMMANDS


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        frame.main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert [name for name in frame.COMMANDS if f"\n    {name}" not in out] == []


def test_a_misspelt_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.main(["chekc"]) == 2
    assert "did you mean `check`?" in capsys.readouterr().err


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.main([]) == 2
    assert "usage: aqpolicy" in capsys.readouterr().err


def test_a_missing_argument_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        frame.main(["check"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (InputError("cannot read `x`"), 2, "aqpolicy: error: cannot read `x`"),
        (AnalysisError("gave up"), 3, "aqpolicy: error: gave up"),
        (InternalError("broken"), 2, "please report this"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_become_a_line_and_a_status(
    error: BaseException,
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_options: argparse.Namespace) -> int:
        raise error

    def register(subparsers: argparse._SubParsersAction) -> None:
        subparsers.add_parser("check").set_defaults(func=fail)

    monkeypatch.setattr(frame, "import_module", lambda _name: SimpleNamespace(register=register))
    assert frame.main(["check"]) == status
    assert words in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error() -> None:
    script = "import sys; from aqpolicy.cli.main import main; sys.exit(main(['--help']))"
    command = f'{sys.executable} -c "{script}" | true'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_command_that_needs_torch_says_how_to_get_it(tmp_path: Path) -> None:
    # A module of None in sys.modules is one that cannot be imported.
    script = (
        "import sys; sys.modules['torch'] = None; from aqpolicy.cli.main import main; "
        f"sys.exit(main(['describe', 'm:f', '--out', {str(tmp_path / 'x.json')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "aqpolicy: error: this needs `torch`; run `pip install 'aqpolicy[train]'`\n"
    assert not (tmp_path / "x.json").exists()
