"""`aqpolicy fmt` as its users call it: what is written where, and the status."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from aqpolicy.cli.fmt import WIDTHS
from aqpolicy.cli.main import main
from aqpolicy.lint.settings import find_settings, parse_settings

MESSY = 'profile full{all 1}\nrule r "T" when a is b admit full # why\n'
TIDY = 'profile full { all 1 }\n\nrule r "T"\n  when a is b\n  admit full  # why\n'
WRONG = "profile full {all}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "deep").mkdir()
    for name, text in {"messy": MESSY, "tidy": TIDY, "deep/messy": MESSY}.items():
        (tmp_path / f"{name}.aqp").write_text(text, encoding="utf-8")
    return tmp_path


def text_of(name: str) -> str:
    return Path(name).read_bytes().decode()


def give(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))


def test_files_are_written_in_place_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "messy.aqp", "tidy.aqp"]) == 0
    assert capsys.readouterr().out == "messy.aqp: laid out anew\n"
    assert text_of("messy.aqp") == text_of("tidy.aqp") == TIDY
    assert main(["fmt", "messy.aqp"]) == 0
    assert capsys.readouterr().out == ""


def test_folders_are_searched(folder: Path) -> None:
    (folder / "deep" / "notes.txt").write_text(MESSY, encoding="utf-8")
    (folder / "deep" / ".hidden.aqp").write_text(MESSY, encoding="utf-8")
    assert main(["fmt", "."]) == 0
    assert text_of("deep/messy.aqp") == text_of("messy.aqp") == TIDY
    assert text_of("deep/.hidden.aqp") == MESSY
    assert text_of("deep/notes.txt") == MESSY


def test_check_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "--check", "messy.aqp", "tidy.aqp"]) == 1
    assert capsys.readouterr().out == "messy.aqp: would be laid out anew\n"
    assert text_of("messy.aqp") == MESSY
    assert main(["fmt", "--check", "tidy.aqp"]) == 0


def test_diff_shows_the_changes_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "--diff", "messy.aqp", "tidy.aqp"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["--- messy.aqp", "+++ messy.aqp"]
    assert [line for line in lines[3:] if line.startswith("-")] == [f"-{line}" for line in MESSY.splitlines()]
    assert [line for line in lines[3:] if line.startswith("+")] == [f"+{line}" for line in TIDY.splitlines()]
    assert text_of("messy.aqp") == MESSY


def test_a_diff_says_where_a_line_break_was_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "open.aqp").write_text(TIDY.rstrip("\n"), encoding="utf-8")
    assert main(["fmt", "--diff", "open.aqp"]) == 1
    last = "  admit full  # why"
    assert capsys.readouterr().out.endswith(f"-{last}\n\\ No newline at end of file\n+{last}\n")


def test_a_syntax_error_is_shown_and_the_file_left(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "wrong.aqp").write_text(WRONG, encoding="utf-8")
    assert main(["fmt", "wrong.aqp", "messy.aqp"]) == 1
    out = capsys.readouterr().out
    assert "error[AQ101]" in out
    assert "wrong.aqp:1:" in out
    assert text_of("wrong.aqp") == WRONG
    assert text_of("messy.aqp") == TIDY


def test_the_standard_input_goes_to_the_standard_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, MESSY)
    assert main(["fmt", "-"]) == 0
    assert capsys.readouterr().out == TIDY
    for flag, shown in (("--check", ""), ("--diff", "--- here.aqp\n")):
        give(monkeypatch, MESSY)
        assert main(["fmt", "-", flag, "--stdin-filename", "here.aqp"]) == 1
        assert capsys.readouterr().out.startswith(shown)
    give(monkeypatch, TIDY)
    assert main(["fmt", "-", "--check"]) == 0


def test_errors_of_the_standard_input_stay_out_of_the_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, WRONG)
    assert main(["fmt", "-", "--stdin-filename", "here.aqp"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "here.aqp:1:" in captured.err


@pytest.mark.parametrize("arguments", [[], ["-", "tidy.aqp"], ["--width", "39", "tidy.aqp"], ["none.aqp"], ["empty"]])
def test_what_cannot_be_done_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    try:
        status = main(["fmt", *arguments])
    except SystemExit as left:
        status = int(left.code or 0)
    assert status == 2
    assert capsys.readouterr().err.startswith("aqpolicy: error: ")


def test_the_width_is_that_of_the_settings_or_the_command_line(folder: Path) -> None:
    text = "prove never authority is crowd and admitted(semantic) > 0\n"
    broken = "prove never authority is crowd\n  and admitted(semantic) > 0\n"
    (folder / "one.aqp").write_text(text, encoding="utf-8")
    assert main(["fmt", "--width", "50", "one.aqp"]) == 0
    assert text_of("one.aqp") == broken
    assert main(["fmt", "one.aqp"]) == 0
    assert text_of("one.aqp") == text
    (folder / "aqpolicy.toml").write_text("line-width = 50\n", encoding="utf-8")
    assert find_settings().line_width == 50
    assert main(["fmt", "one.aqp"]) == 0
    assert text_of("one.aqp") == broken


def test_the_widths_are_those_of_the_settings() -> None:
    for width in (WIDTHS[0], WIDTHS[-1]):
        assert parse_settings(f"line-width = {width}".encode(), "aqpolicy.toml")
    from aqpolicy.errors import InputError

    for width in (WIDTHS[0] - 1, WIDTHS[-1] + 1):
        with pytest.raises(InputError):
            parse_settings(f"line-width = {width}".encode(), "aqpolicy.toml")


def test_a_link_stays_a_link_and_the_mode_stays(folder: Path) -> None:
    Path("link.aqp").symlink_to(folder / "messy.aqp")
    Path("messy.aqp").chmod(0o600)
    assert main(["fmt", "link.aqp"]) == 0
    assert Path("link.aqp").is_symlink()
    assert text_of("messy.aqp") == TIDY
    assert Path("messy.aqp").stat().st_mode & 0o777 == 0o600
