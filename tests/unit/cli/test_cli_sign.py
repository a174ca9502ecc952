"""`aqpolicy sign`, as its users call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.bundles import ALICE, BOB, compiled

from aqpolicy.bundle import load_bundle
from aqpolicy.cli.main import main
from aqpolicy.trust import Keyring


@pytest.fixture
def bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    path = compiled(tmp_path)
    capsys.readouterr()
    return path


def test_a_second_signature_is_over_the_same_bytes(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(bundle).read_bytes()
    out = tmp_path / "both.aqb"
    assert main(["sign", bundle, "--key", f"{tmp_path}/bob.key", "--out", str(out)]) == 0
    assert Path(bundle).read_bytes() == before
    one, both = json.loads(before), json.loads(out.read_bytes())
    assert both["payload"] == one["payload"]
    assert both["signatures"][0] == one["signatures"][0]
    for key in (ALICE, BOB):
        assert load_bundle(out, Keyring.of([("policy-author", key.verify_key)])).policy_name == "test.small"
    assert capsys.readouterr().out.endswith(f"signed by {BOB.verify_key.label}\n")


def test_without_out_the_bundle_itself_is_signed(bundle: str, tmp_path: Path) -> None:
    assert main(["sign", bundle, "--key", f"{tmp_path}/bob.key"]) == 0
    assert len(json.loads(Path(bundle).read_bytes())["signatures"]) == 2


def test_nobody_signs_twice(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(bundle).read_bytes()
    assert main(["sign", bundle, "--key", f"{tmp_path}/alice.key"]) == 2
    assert f"`{ALICE.verify_key.label}` has signed this" in capsys.readouterr().err
    assert main(["sign", bundle, "--key", f"{tmp_path}/bob.key", "--key", f"{tmp_path}/bob.key"]) == 2
    assert Path(bundle).read_bytes() == before


@pytest.mark.parametrize("data", [b"", b"{}", b'{"payload":"","payloadType":"x","signatures":[]}'])
def test_what_is_no_bundle_is_not_signed(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    Path(bundle).write_bytes(data)
    assert main(["sign", bundle, "--key", f"{tmp_path}/bob.key"]) == 2
    assert "this is no bundle" in capsys.readouterr().err
    assert Path(bundle).read_bytes() == data
