"""Where settings are looked for, and what they may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from aqpolicy.analysis import EFFORT
from aqpolicy.errors import InputError
from aqpolicy.lint import Settings, find_settings, parse_settings


def parsed(text: str) -> Settings | None:
    return parse_settings(text.encode(), "aqpolicy.toml")


def test_the_defaults_are_the_checkers() -> None:
    assert find_settings(Path("/")) == Settings()
    assert Settings().effort == EFFORT
    assert (Settings().format, Settings().fail_level, dict(Settings().levels)) == ("full", "error", {})


def test_every_key_is_read() -> None:
    text = """
format = "sarif"
fail-level = "note"
effort = 7
policy-roots = ["policies", "../shared"]
optimizer = "plain"
starved-below = 0.1
line-width = 80
[levels]
AQ312 = "error"
AQ306 = "note"
AQ402 = "ignore"
"""
    assert parsed(text) == Settings(
        format="sarif",
        fail_level="note",
        effort=7,
        policy_roots=("policies", "../shared"),
        optimizer="plain",
        starved_below=100_000,
        line_width=80,
        levels={"AQ312": "error", "AQ306": "note", "AQ402": "ignore"},
    )


@pytest.mark.parametrize(
    ("written", "share"),
    [
        ("0", 0),
        ("1", 1_000_000),
        ("0.000001", 1),
        ('"0.3"', 300_000),
        ("0.30", 300_000),
        ("1.0", 1_000_000),
        ("5e-1", 500_000),
    ],
)
def test_a_share_is_exact(written: str, share: int) -> None:
    assert parsed(f"starved-below = {written}") == Settings(starved_below=share)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fail_level = 'note'", "aqpolicy.toml: unknown key `fail_level`; did you mean `fail-level`?"),
        ("zzz = 1", "aqpolicy.toml: unknown key `zzz`"),
        ("format = 'sarf'", "`format` must be one of `full`, `concise`"),
        ("format = 'sarf'", "did you mean `sarif`?"),
        ("format = 1", "`format` must be one of"),
        ("fail-level = 'ignore'", "`fail-level` must be one of `error`, `warning`, `note`"),
        ("effort = 0", "`effort` must be a whole number from 1"),
        ("effort = true", "`effort` must be"),
        ("effort = 1.5", "`effort` must be"),
        ("policy-roots = 'a'", "`policy-roots` must be a list of folders"),
        ("policy-roots = ['']", "`policy-roots` must be"),
        ("starved-below = 1.000001", "`starved-below` must be a share from 0 to 1"),
        ("starved-below = 0.0000001", "at most six decimals"),
        ("starved-below = nan", "`starved-below` must be"),
        ("starved-below = -0.1", "`starved-below` must be"),
        ("starved-below = true", "`starved-below` must be"),
        ("line-width = 3", "`line-width` must be"),
        ("levels = 1", "`levels` must be a table"),
        ("levels.AQ999 = 'note'", "`levels.AQ999` is not the code of a finding"),
        ("levels.AQ3012 = 'note'", "did you mean `AQ301`?"),
        ("levels.AQ312 = 'off'", "`levels.AQ312` must be one of `error`, `warning`, `note`, `ignore`"),
        ("levels.AQ312 = 1", "`levels.AQ312` must be one of"),
        ("format = ", "aqpolicy.toml: not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parsed(text)
    assert str(caught.value).startswith("aqpolicy.toml: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("code", ["AQ101", "AQ219", "AQ300", "AQ301", "AQ305", "AQ310", "AQ320", "AQ403"])
@pytest.mark.parametrize("level", ["warning", "note", "ignore"])
def test_an_error_of_the_checker_cannot_be_lowered(code: str, level: str) -> None:
    with pytest.raises(InputError, match=f"`levels.{code}` is an error that cannot be lowered"):
        parsed(f"levels.{code} = '{level}'")


def test_saying_what_an_error_is_anyway_is_fine() -> None:
    assert parsed("levels.AQ301 = 'error'") == Settings(levels={"AQ301": "error"})


def test_pyproject_holds_them_in_a_table_of_its_own() -> None:
    assert parse_settings(b"[tool.aqpolicy]\nformat = 'json'\n[tool.other]\nx = 1", "pyproject.toml") == Settings(
        "json"
    )
    assert parse_settings(b"[project]\nname = 'x'", "pyproject.toml") is None
    assert parse_settings(b"tool = 3", "pyproject.toml") is None
    with pytest.raises(InputError, match=r"unknown key `tool.aqpolicy.zzz`"):
        parse_settings(b"tool.aqpolicy.zzz = 3", "pyproject.toml")
    with pytest.raises(InputError, match=r"`tool.aqpolicy` must be a table"):
        parse_settings(b"tool.aqpolicy = 3", "pyproject.toml")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "a" / "b").mkdir(parents=True)
    return tmp_path


def test_the_nearest_file_upward_wins_and_nothing_is_merged(project: Path) -> None:
    (project / "aqpolicy.toml").write_text("effort = 1\nformat = 'json'")
    (project / "a" / "pyproject.toml").write_text("[tool.aqpolicy]\neffort = 2")
    assert find_settings(project / "a" / "b") == Settings(effort=2)
    assert find_settings(project) == Settings("json", effort=1)


def test_a_pyproject_without_settings_does_not_end_the_search(project: Path) -> None:
    (project / "aqpolicy.toml").write_text("effort = 1")
    (project / "a" / "pyproject.toml").write_text("[project]\nname = 'x'")
    assert find_settings(project / "a" / "b") == Settings(effort=1)


def test_in_one_folder_aqpolicy_toml_wins(project: Path) -> None:
    (project / "aqpolicy.toml").write_text("effort = 1")
    (project / "pyproject.toml").write_text("[tool.aqpolicy]\neffort = 2")
    assert find_settings(project) == Settings(effort=1)


def test_roots_are_relative_to_the_file_that_names_them(project: Path) -> None:
    (project / "aqpolicy.toml").write_text("policy-roots = ['policies', '/abs']")
    assert find_settings(project / "a" / "b").policy_roots == ("../../policies", "/abs")
    assert find_settings(project).policy_roots == ("policies", "/abs")


def test_an_error_names_the_file_as_seen_from_here(project: Path) -> None:
    (project / "aqpolicy.toml").write_text("efort = 1")
    with pytest.raises(InputError, match=r"^\.\./aqpolicy\.toml: unknown key `efort`; did you mean `effort`\?$"):
        find_settings(project / "a")


def test_a_folder_of_that_name_is_no_settings(project: Path) -> None:
    (project / "aqpolicy.toml").mkdir()
    assert find_settings(project) == Settings()


def test_a_giant_file_is_not_read(project: Path) -> None:
    (project / "aqpolicy.toml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(InputError, match="larger than settings may be"):
        find_settings(project)
