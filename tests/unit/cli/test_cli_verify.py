"""`aqpolicy verify`, as its users call it; and what `inspect` shows of a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.bundles import ALICE, BOB, compiled
from support.trials import CLINIC, write_policy

from aqpolicy.cli.main import main
from aqpolicy.trust import Keyring, SigningKey, canonical_json


@pytest.fixture
def bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    path = compiled(tmp_path)
    capsys.readouterr()
    return path


def verify(bundle: str, *words: str) -> int:
    return main(["verify", bundle, "--keyring", str(Path(bundle).parent / "keyring.json"), *words])


def test_it_says_what_was_signed_and_by_whom(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(bundle) == 0
    out = capsys.readouterr().out
    assert out.startswith("policy    test.small 1.0.0, taxonomy t@1\nbundle    sha256:")
    assert f"signed    {ALICE.verify_key.label} as policy-author\n" in out
    assert out.endswith("verified\n")


def test_strangers_are_named_and_do_not_count(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SigningKey.from_seed("carol", bytes(32)).save(tmp_path / "carol.key")
    main(["sign", bundle, "--key", f"{tmp_path}/bob.key", "--key", f"{tmp_path}/carol.key"])
    roles = [("policy-author", ALICE.verify_key), ("witness", BOB.verify_key)]
    Keyring.of(roles).save(tmp_path / "keyring.json")
    assert verify(bundle) == 0
    out = capsys.readouterr().out
    assert f"stranger  {BOB.verify_key.label}: trusted as witness only\n" in out
    assert "stranger  carol+" in out
    assert verify(bundle, "--threshold", "2") == 1
    assert "refused   the bundle is not to be trusted: 2 trusted keys must sign" in capsys.readouterr().out


def test_a_threshold_counts_trusted_signers(bundle: str, tmp_path: Path) -> None:
    assert verify(bundle, "--threshold", "2") == 1
    main(["sign", bundle, "--key", f"{tmp_path}/bob.key"])
    assert verify(bundle, "--threshold", "2") == 0


def test_a_threshold_of_nobody_is_refused(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        verify(bundle, "--threshold", "0")
    assert stop.value.code == 2
    assert "--threshold must be at least 1" in capsys.readouterr().err


def test_what_was_altered_is_refused(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    value = json.loads(Path(bundle).read_bytes())
    value["signatures"][0]["sig"] = "A" * 86 + "=="
    Path(bundle).write_bytes(canonical_json(value))
    assert verify(bundle) == 1
    assert "the bytes were altered" in capsys.readouterr().out


def test_the_files_that_it_was_made_from_are_the_same(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(bundle, "--source", f"{tmp_path}/clinic.aqp", "--model", f"{tmp_path}/model.json") == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.endswith("the same")] == [
        "grammar   the same",
        "layers    the same",
        "source    the same",
        "taxonomy  the same",
        "model     the same",
    ]


def test_each_file_that_differs_is_named(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_policy(tmp_path, CLINIC + "# a harmless comment\n")
    (tmp_path / "model.json").write_bytes(b"{}")
    assert verify(bundle, "--source", source, "--model", f"{tmp_path}/model.json") == 1
    out = capsys.readouterr().out
    assert "source    differs: sha256:" in out
    assert "model     differs: sha256:" in out
    assert "grammar   the same\nlayers    the same\n" in out
    assert "taxonomy  the same" in out
    assert "verified" not in out


def test_a_source_with_errors_shows_them(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_policy(tmp_path, CLINIC.replace("admit full", "admit fill"))
    assert verify(bundle, "--source", source) == 1
    assert "AQ201" in capsys.readouterr().out


def test_a_bundle_that_cannot_be_read_is_an_input_error(bundle: str) -> None:
    Path(bundle).unlink()
    assert verify(bundle) == 2


def test_inspect_shows_where_attributes_come_from(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", bundle, "--keyring", f"{tmp_path}/keyring.json"]) == 0
    out = capsys.readouterr().out
    assert "requires  exposures" not in out
    assert "\nattributes\n  authority  signed in the manifest, " in out
    assert "\nobligations\n" not in out
