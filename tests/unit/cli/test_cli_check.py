"""`aqpolicy check` as its users call it: what is read, how it is written, and the status."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from support.policy_text import SMALL

from aqpolicy.cli import check
from aqpolicy.cli.main import COMMANDS, main
from aqpolicy.diagnostics import Diagnostic, Label, Source, Span

BUDGET = """\
# aqpolicy: ignore[AQ317] reason="the limit per run says it"
budget b on all surprisal at most 9 nat per run, at most 3 nat per update on exhaust deny
"""
RULES = """\
rule r "Because" when consensus > 0.5 admit full
rule unsure when consensus <= 0.5 deny all because "half of the readers disagree"
test "half is not enough" { given consensus is 0.5 expect deny by unsure }
"""
CLEAN = SMALL.replace("profile weak { surface 0.5; head 0.25 }\n", "") + BUDGET + RULES
NOTED = CLEAN.replace(' "Because"', "")
WARNED = CLEAN + "define sure = anything\n"
REFUTED = CLEAN + "prove never admitted(head) > 0\n"
TYPO = CLEAN.replace("admit full", "admitt full")
TWO_RAMPS = """\
rule as_agreed "No more than its readers agree on" when anything limit head share consensus
rule as_read "No more than there are readers" when anything limit head share 0.05 * judgments
"""
HARD = CLEAN + TWO_RAMPS


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of policies, one of each kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    (tmp_path / "deep" / ".hidden").mkdir(parents=True)
    texts = {"clean": CLEAN, "noted": NOTED, "warned": WARNED, "deep/refuted": REFUTED}
    texts |= {"deep/.hidden/typo": TYPO, "deep/.hidden/hard": HARD}
    for name, text in texts.items():
        (tmp_path / f"{name}.aqp").write_text(text, encoding="utf-8")
    (tmp_path / "deep" / "readme.txt").write_text("no policy", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["clean.aqp"], 0),
        (["noted.aqp", "warned.aqp"], 0),
        (["warned.aqp", "--fail-level", "warning"], 1),
        (["noted.aqp", "--fail-level", "warning"], 0),
        (["noted.aqp", "--fail-level", "note"], 1),
        (["clean.aqp", "--fail-level", "note"], 0),
        (["deep"], 1),
        (["deep/.hidden/typo.aqp"], 1),
        (["deep/.hidden/hard.aqp"], 0),
        (["deep/.hidden/hard.aqp", "--effort", "1"], 3),
        (["deep", "deep/.hidden/hard.aqp", "--effort", "1", "--format", "json"], 3),
        (["none.aqp"], 2),
        (["clean.aqp", "none.aqp"], 2),
        (["clean.aqp", "--model", "none.json"], 2),
    ],
)
def test_the_status_says_how_it_went(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *arguments]) == status
    if status == 2:
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("aqpolicy: error: cannot read")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name the policies or folders to check, such as `aqpolicy check policies`"),
        (["clean.aqp", "--effort", "0"], "--effort must be from 1 to 4294967295"),
        (["clean.aqp", "--effort", "4294967296"], "--effort must be from 1 to 4294967295"),
        (["clean.aqp", "--format", "xml"], "invalid choice: 'xml'"),
    ],
)
def test_a_wrong_call_is_one_line_that_says_what_to_do(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", *arguments])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_a_folder_is_searched_in_order_and_hidden_folders_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", ".", "clean.aqp"]) == 1
    lines = capsys.readouterr().out.split("\n")
    summaries = [line.split(": ")[0] for line in lines if re.match(r"\w[\w/]*\.aqp: ", line)]
    assert summaries == ["clean.aqp", "deep/refuted.aqp", "noted.aqp", "warned.aqp"], "each once"
    assert lines[-2] == "4 policies: 1 error, 1 warning, 1 note"


def test_a_folder_without_policies_is_an_input_error(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "empty").mkdir()
    assert main(["check", "empty"]) == 2
    assert "there is no policy (`*.aqp`) in `empty`" in capsys.readouterr().err


def test_full_shows_findings_and_what_was_proved_nevertheless(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "warned.aqp"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("warning[AQ401]: definition `sure` is not used\n  --> warned.aqp:16:8\n")
    assert re.search(r"\n\nwarned\.aqp: 2 rules, 1 budget, .* proofs\); 1 warning\n$", out)


def test_nothing_is_said_to_be_proved_where_there_are_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "deep"]) == 1
    assert capsys.readouterr().out.split("\n")[-2] == "deep/refuted.aqp: 1 error"


def test_concise_is_a_line_for_each_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "warned.aqp", "--format", "concise"]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert re.fullmatch(r"warned\.aqp:\d+:8: warning\[AQ401\] definition `sure` is not used", lines[0])
    assert lines[1].startswith("warned.aqp: 2 rules")


def test_structured_formats_are_one_document_for_all_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", ".", "--format", "json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["summary"] == {"files": 4, "errors": 1, "warnings": 1, "notes": 1}
    assert main(["check", ".", "--format", "sarif"]) == 1
    assert len(json.loads(capsys.readouterr().out)["runs"][0]["results"]) == 3
    assert main(["check", ".", "--format", "gitlab"]) == 1
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert main(["check", ".", "--format", "junit"]) == 1
    assert len(ET.fromstring(capsys.readouterr().out)) == 4
    assert main(["check", ".", "--format", "github"]) == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["::error", "::notice", "::warning"]


def test_a_finding_in_a_file_that_two_policies_import_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = Source("lib.aqp", "define sure = anything\n")
    finding = Diagnostic("AQ308", "error", "m", (Label(Span("lib.aqp", 7, 11, 1, 8)),), witness={"a": "b"})
    monkeypatch.setattr(check, "check_source", lambda own, *_: check.Checked(own, (finding,), (own, shared), ""))
    assert main(["check", "clean.aqp", "noted.aqp", "--format", "json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["summary"] == {"files": 3, "errors": 1, "warnings": 0, "notes": 0}


def test_a_clean_run_for_github_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "clean.aqp", "--format", "github"]) == 0
    assert capsys.readouterr().out == ""


def test_errors_of_syntax_take_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "deep/.hidden/typo.aqp", "--format", "json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["code"].startswith("AQ1")


def test_stdin_is_read_and_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(WARNED.encode())))
    assert main(["check", "-", "--stdin-filename", "editor.aqp", "--format", "concise"]) == 0
    assert capsys.readouterr().out.startswith("editor.aqp:")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"\xff")))
    assert main(["check", "-"]) == 2
    assert "`<stdin>` is not UTF-8 text" in capsys.readouterr().err


def test_the_file_beats_the_defaults_and_the_command_line_beats_the_file(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "aqpolicy.toml").write_text("format = 'json'\nfail-level = 'warning'\n[levels]\nAQ402 = 'error'\n")
    assert main(["check", "noted.aqp", "warned.aqp"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [(each["code"], each["severity"]) for each in found] == [("AQ402", "error"), ("AQ401", "warning")]
    assert main(["check", "warned.aqp", "--fail-level", "error", "--format", "concise"]) == 0
    assert capsys.readouterr().out.startswith("warned.aqp:")


def test_wrong_settings_stop_before_anything_is_checked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "aqpolicy.toml").write_text("[levels]\nAQ301 = 'note'")
    assert main(["check", "clean.aqp"]) == 2
    assert (
        capsys.readouterr().err == "aqpolicy: error: aqpolicy.toml: `levels.AQ301` is an error that cannot be lowered\n"
    )


def test_an_ignored_warning_is_not_shown_and_an_ignored_error_is(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directive = '# aqpolicy: ignore[AQ401, AQ308] reason="agreed"'
    (project / "warned.aqp").write_text(f"{CLEAN}define sure = anything {directive.replace(', AQ308', '')}\n")
    assert main(["check", "warned.aqp", "--fail-level", "note"]) == 0
    (project / "deep" / "refuted.aqp").write_text(
        f"{CLEAN}{directive.replace('AQ401, ', '')}\nprove never admitted(head) > 0\n"
    )
    capsys.readouterr()
    assert main(["check", "deep/refuted.aqp"]) == 1
    out = capsys.readouterr().out
    assert "error[AQ308]" in out
    assert "the AQ308 here is an error, and errors are never silenced" in out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "colored"), [(None, True), ("1", False)])
def test_colour_is_for_terminals_without_no_color(
    no_color: str | None, colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    main(["check", "warned.aqp"])
    assert ("\x1b[" in terminal.getvalue()) is colored


def test_every_hook_calls_a_command_that_there_is() -> None:
    hooks = (Path(__file__).resolve().parents[3] / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    entries = re.findall(r"^  entry: aqpolicy (\w+)$", hooks, flags=re.MULTILINE)
    assert entries == ["check", "fmt", "test"]
    assert set(entries) <= set(COMMANDS)
    assert hooks.count(r"files: \.aqp$") == hooks.count("language: python") == len(entries)
