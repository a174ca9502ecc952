"""`explain` and `version`: what needs no policy."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from aqpolicy import LANGUAGE_VERSION, __version__
from aqpolicy.bundle.codec import FORMAT
from aqpolicy.cli import version
from aqpolicy.cli.explain import find_code
from aqpolicy.cli.main import main
from aqpolicy.diagnostics import CODES
from aqpolicy.errors import InputError
from aqpolicy.shipped import grammar_text
from aqpolicy.trust import digest_text, sha256


@pytest.mark.parametrize("word", ["AQ301", "aq301", "301", "conflicting-grants", "Conflicting-Grants"])
def test_a_code_is_found_by_any_of_its_names(word: str) -> None:
    assert find_code(word) is CODES["AQ301"]


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("conflicting-grant", "did you mean `conflicting-grants`?"),
        ("AQ3011", "did you mean `AQ301`?"),
        ("zzzzzz", "`aqpolicy explain` lists them all"),
        ("", "there is no code ``"),
    ],
)
def test_an_unknown_code_is_answered_with_the_nearest(word: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        find_code(word)
    assert words in str(caught.value)


def test_the_page_of_a_code_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("aqpolicy.shipped.rules_folder", lambda: tmp_path)
    (tmp_path / "AQ301-conflicting-grants.md").write_text("# AQ301\n\nTwo grants.\n\n", encoding="utf-8")
    assert main(["explain", "301"]) == 0
    assert capsys.readouterr().out == "# AQ301\n\nTwo grants.\n"
    assert main(["explain", "302"]) == 2
    assert "has no page for AQ302" in capsys.readouterr().err


def test_without_a_code_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[code.number, code.slug] for code in CODES.values()]
    assert all(line.endswith(f"  {code.title}") for line, code in zip(lines, CODES.values(), strict=True))


def test_version_names_what_a_result_depends_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["aqpolicy", "language", "grammar", "bundle", "python", *version.PACKAGES]
    assert (found["aqpolicy"], found["language"], found["bundle"]) == (__version__, LANGUAGE_VERSION, FORMAT)
    assert found["grammar"] == digest_text(sha256(grammar_text().encode()))
    assert found["python"] == sys.version.split()[0]


def test_version_as_text_says_what_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(version, "version", missing)
    assert main(["version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["aqpolicy", __version__]
    assert lines[-1].split(maxsplit=1) == ["torch", "not installed"]


@pytest.mark.parametrize("command", ["version", "explain"])
def test_they_load_nothing_heavy(command: str) -> None:
    script = (
        f"import sys; from aqpolicy.cli.main import main; main([{command!r}]); "
        "print([n for n in ('torch', 'z3', 'lark', 'pydantic', 'nacl', 'lmdb') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
