"""`aqpolicy compile` of a policy that stands on other files, and the formats of what stops it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.bundles import write_keys, write_model
from support.trials import CLINIC, write_policy

from aqpolicy.cli.main import main


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    write_keys(tmp_path)
    profile = "profile full { all 1 }\n"
    write_policy(tmp_path, CLINIC.replace(profile, 'import "shared.aqp"\n'))
    (tmp_path / "shared.aqp").write_text(profile, encoding="utf-8")
    model, key, out = write_model(tmp_path), str(tmp_path / "alice.key"), str(tmp_path / "x.aqb")
    return ["compile", str(tmp_path / "clinic.aqp"), "--model", model, "--key", key, "--out", out]


def test_only_what_is_locked_is_compiled(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert "AQ223" in capsys.readouterr().out
    assert not (tmp_path / "x.aqb").exists()
    assert main(["lock", words[1]]) == 0
    assert main(words) == 0
    verify = ["verify", f"{tmp_path}/x.aqb", "--keyring", f"{tmp_path}/keyring.json", "--source", words[1]]
    capsys.readouterr()
    assert main(verify) == 0
    assert "layers    the same" in capsys.readouterr().out
    (tmp_path / "shared.aqp").write_text("profile full { all 1 } # reviewed\n", encoding="utf-8")
    assert main(verify) == 1
    out = capsys.readouterr().out
    assert "layers    differs: sha256:" in out
    assert "source    the same" in out


def test_what_stops_it_is_written_in_the_same_formats(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [finding["code"] for finding in document["findings"]] == ["AQ223"]
    assert main([*words, "--format", "concise"]) == 1
    assert capsys.readouterr().out.startswith(f"{words[1]}:9:8: error[AQ223] `")
