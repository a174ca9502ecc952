from __future__ import annotations

import argparse

import pytest

from aqpolicy.cli import keys
from aqpolicy.errors import InputError, KeyFormatError
from aqpolicy.trust import VerifyKey, load_keyring, load_signing_key


def run(*words):
    parser = argparse.ArgumentParser()
    keys.register(parser.add_subparsers())
    args = parser.parse_args(["keys", *map(str, words)])
    return args.func(args)


def test_new_writes_a_private_key_and_prints_only_its_public_half(tmp_path, capsys):
    assert run("new", "example.org/author", "--out", tmp_path / "a.key") == 0
    key = load_signing_key(tmp_path / "a.key")
    assert capsys.readouterr().out == key.verify_key.text + "\n"
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600


def test_new_lists_keys_in_a_keyring_that_may_be_new(tmp_path, capsys):
    ring = tmp_path / "keyring.json"
    run("new", "author", "--out", tmp_path / "a.key", "--keyring", ring, "--role", "policy-author")
    run("new", "log", "--out", tmp_path / "l.key", "--keyring", ring, "--role", "log")
    author, log = map(VerifyKey.parse, capsys.readouterr().out.split())
    assert load_keyring(ring).roles == {"policy-author": (author,), "log": (log,)}


def test_new_overwrites_no_key_and_then_leaves_the_keyring_alone(tmp_path):
    run("new", "a", "--out", tmp_path / "a.key")
    before = (tmp_path / "a.key").read_bytes()
    ring = tmp_path / "keyring.json"
    with pytest.raises(InputError, match="not overwritten"):
        run("new", "b", "--out", tmp_path / "a.key", "--keyring", ring, "--role", "log")
    assert (tmp_path / "a.key").read_bytes() == before
    assert not ring.exists()


@pytest.mark.parametrize(
    "more",
    [("--role", "log"), ("--keyring", "k.json"), ("--keyring", "k.json", "--role", "policy-autor")],
    ids=" ".join,
)
def test_a_mistake_about_the_keyring_leaves_no_key_behind(tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="role"):
        run("new", "a", "--out", "a.key", *more)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_keyring_is_not_replaced(tmp_path):
    ring = tmp_path / "keyring.json"
    ring.write_bytes(b"{}")
    with pytest.raises(KeyFormatError):
        run("new", "a", "--out", tmp_path / "a.key", "--keyring", ring, "--role", "log")
    assert ring.read_bytes() == b"{}"
    assert not (tmp_path / "a.key").exists()


def test_show_prints_the_public_half_of_either_file(tmp_path, capsys):
    run("new", "a", "--out", tmp_path / "a.key")
    public = capsys.readouterr().out
    (tmp_path / "a.pub").write_text(public)
    for name in ("a.key", "a.pub"):
        assert run("show", tmp_path / name) == 0
        shown = capsys.readouterr().out
        assert shown == f"{public}key id {VerifyKey.parse(public.strip()).key_id.hex()}\n"
        assert "PRIVATE" not in shown
