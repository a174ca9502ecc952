"""A27: a private key that others can read, reach through a link, or find in what the program prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.attacking import denied, put_in_place

from aqpolicy.errors import KeyFormatError
from aqpolicy.trust import SigningKey, key_files


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "log.key"
    path.write_text(SigningKey.generate("log").private_text + "\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_that_others_may_read_is_not_used(key: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    assert key_files.load_signing_key(key).verify_key.label.startswith("log+")
    key.chmod(mode)
    with pytest.raises(KeyFormatError, match="others may read the key file"):
        key_files.load_signing_key(key)
    put_in_place(monkeypatch, key_files._exposure, lambda *_: "")
    assert key_files.load_signing_key(key).verify_key.label.startswith("log+")


def test_a_link_is_not_followed(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = key.with_name("link.key")
    link.symlink_to(key)
    said = f"the key file `{link}` is a link; name the file that it points to"
    denied(lambda: key_files.load_signing_key(link), KeyFormatError, said)
    opening = key_files._open
    put_in_place(monkeypatch, opening, lambda path, _: opening(path, 0))
    assert key_files.load_signing_key(link).verify_key.label.startswith("log+")


def test_no_message_holds_the_key(key: Path) -> None:
    secret = key.read_text().rsplit("+", 1)[-1].strip()
    key.chmod(0o644)
    commands = (["keys", "show", str(key)], ["keys", "new", "log", "--out", str(key)], ["log", "verify", str(key)])
    for arguments in commands:
        done = subprocess.run(
            [sys.executable, "-m", "aqpolicy", *arguments], capture_output=True, text=True, check=False
        )
        assert secret not in done.stdout + done.stderr
    key.write_text("damaged " + key.read_text())
    key.chmod(0o600)
    with pytest.raises(KeyFormatError) as caught:
        key_files.load_signing_key(key)
    assert secret not in str(caught.value)
