"""check, compile and inspect, as their users call them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aqpolicy.cli.main import main
from aqpolicy.shipped import shipped_folder
from aqpolicy.trust import Keyring, SigningKey, canonical_json

EXAMPLES = shipped_folder("policies") / "examples"
POLICY, BROKEN = (str(EXAMPLES / "radiology" / name) for name in ("policy.aqp", "broken.aqp"))
GROUPS = ("surface", "structure", "semantic", "head")
TWO_RAMPS = """
rule as_agreed "No more than its readers agree on" when anything limit head share consensus
rule as_read "No more than there are readers" when anything limit head share 0.05 * judgments
"""
"""Shares computed from two attributes are compared by the solver."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    key = SigningKey.from_seed("author", bytes(range(32)))
    key.save(tmp_path / "author.key")
    Keyring.of([("policy-author", key.verify_key)]).save(tmp_path / "keyring.json")
    write_model(tmp_path / "model.json", GROUPS)
    return tmp_path


def write_model(path: Path, names: tuple[str, ...], kind: str = "Conv2d") -> None:
    modules = [{"name": name, "type": kind} for name in names]
    parameters = [{"module": name, "name": f"{name}.weight", "shape": [4], "also": []} for name in names]
    path.write_bytes(canonical_json({"format": "aqpolicy model 2", "modules": modules, "parameters": parameters}))


def compile_to(folder: Path, policy: str = POLICY) -> int:
    return main(
        [
            "compile",
            policy,
            "--model",
            f"{folder}/model.json",
            "--key",
            f"{folder}/author.key",
            "--out",
            f"{folder}/x.aqb",
        ]
    )


def test_check_says_in_a_line_what_it_proved(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", POLICY]) == 0
    out = capsys.readouterr().out
    assert set(re.findall(r"^(\w+)\[AQ\d+\]", out, flags=re.MULTILINE)) == {"note"}
    assert "6 rules, 3 budgets, 5 prove statements: no conflict, bounded" in out.splitlines()[-1]


def test_check_shows_every_finding_with_its_witness(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", POLICY, BROKEN]) == 1
    out = capsys.readouterr().out
    assert "AQ301" in out
    assert "AQ302" in out
    assert "consensus" in out
    assert "2 errors" in out


def test_check_shows_errors_of_syntax_the_same_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "typo.aqp"
    file.write_text(Path(POLICY).read_text(encoding="utf-8").replace("admit full", "admitt full"), encoding="utf-8")
    assert main(["check", str(file)]) == 1
    assert "AQ1" in capsys.readouterr().out


def test_check_binds_to_a_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", POLICY, "--model", f"{folder}/model.json"]) == 0
    write_model(folder / "model.json", ("surface", "structure", "semantics", "head"))
    assert main(["check", POLICY, "--model", f"{folder}/model.json"]) == 1
    out = capsys.readouterr().out
    assert "AQ320" in out
    assert "did you mean `semantics`" in out


def test_check_ends_with_3_where_a_question_is_left_open(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(POLICY).read_text(encoding="utf-8")
    (folder / "hard.aqp").write_text(text + TWO_RAMPS, encoding="utf-8")
    (folder / "aqpolicy.toml").write_text("effort = 1\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    assert main(["check", "hard.aqp"]) == 3
    assert "error[AQ300]: not proven: " in capsys.readouterr().out
    assert compile_to(folder, "hard.aqp") == 3
    assert not (folder / "x.aqb").exists()


def test_check_and_compile_agree_on_a_level_that_the_project_lowers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = '\nrule copy when review is rejected\n  deny head because "again"\n'
    (folder / "copied.aqp").write_text(Path(POLICY).read_text(encoding="utf-8") + copy, encoding="utf-8")
    monkeypatch.chdir(folder)
    assert main(["check", "copied.aqp"]) == compile_to(folder, "copied.aqp") == 1
    assert not (folder / "x.aqb").exists()
    (folder / "aqpolicy.toml").write_text('[levels]\nAQ306 = "warning"\n', encoding="utf-8")
    assert main(["check", "copied.aqp"]) == compile_to(folder, "copied.aqp") == 0
    assert "warning[AQ306]" in capsys.readouterr().out


def test_an_unreadable_policy_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "none.aqp"]) == 2
    assert capsys.readouterr().err.startswith("aqpolicy: error: cannot read")


def test_a_policy_that_is_not_text_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.aqp").write_bytes(b"\xff\xfe")
    assert main(["check", f"{tmp_path}/x.aqp"]) == 2
    assert "not UTF-8" in capsys.readouterr().err


def test_compile_writes_a_bundle_that_inspect_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_to(folder) == 0
    assert main(["inspect", f"{folder}/x.aqb", "--keyring", f"{folder}/keyring.json"]) == 0
    out = capsys.readouterr().out
    assert "panel_truth [policy.aqp:" in out
    assert "surface 0.5 (norm at most 0.5), head 1" in out
    assert "at most 100000 nat per run, at most 8 nat per update; on exhaust halt" in out


def test_compiling_twice_gives_the_same_bytes(folder: Path) -> None:
    compile_to(folder)
    first = (folder / "x.aqb").read_bytes()
    compile_to(folder)
    assert (folder / "x.aqb").read_bytes() == first


def test_compile_writes_nothing_on_findings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_to(folder, BROKEN) == 1
    assert "AQ301" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == ["author.key", "keyring.json", "model.json"]


def test_compile_writes_nothing_for_a_model_that_does_not_fit(folder: Path) -> None:
    write_model(folder / "model.json", GROUPS, "BatchNorm2d")
    assert compile_to(folder) == 1
    assert not (folder / "x.aqb").exists()


def test_inspect_refuses_a_bundle_of_a_stranger(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_to(folder) == 0
    stranger = SigningKey.generate("stranger")
    Keyring.of([("policy-author", stranger.verify_key)]).save(folder / "other.json")
    assert main(["inspect", f"{folder}/x.aqb", "--keyring", f"{folder}/other.json"]) == 2
    assert "not to be trusted" in capsys.readouterr().err
