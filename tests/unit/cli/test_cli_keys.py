from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aqpolicy.cli import keys
from aqpolicy.errors import InputError, KeyFormatError, SignatureError
from aqpolicy.trust import (
    Checkpoint,
    Keyring,
    SigningKey,
    VerifyKey,
    load_keyring,
    load_signing_key,
    open_checkpoint,
    parse_keyring,
    sign_checkpoint,
    succeed,
)


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
        key = VerifyKey.parse(public.strip())
        assert shown == f"{public}key id {key.key_id.hex()}\nsha256 {key.fingerprint}\n"
        assert "PRIVATE" not in shown


def test_a_key_without_a_file_name_is_called_as_the_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("new", "example.org/author")
    assert load_signing_key("example.org-author.key").name == "example.org/author"


@pytest.fixture
def rooted(tmp_path, monkeypatch, capsys):
    """Return a folder with a keyring of two root keys, both of which must sign, and an author and a log."""
    monkeypatch.chdir(tmp_path)
    run("new", "author", "--role", "policy-author", "--keyring", "k.json")
    run("new", "log", "--role", "log", "--keyring", "k.json")
    run("new", "one", "--role", "root", "--keyring", "k.json")
    run("new", "two", "--role", "root", "--keyring", "k.json", "--root", "one.key")
    run("sign", "k.json", "--threshold", "root=2", "--root", "one.key", "--root", "two.key")
    capsys.readouterr()
    return tmp_path


def test_a_first_root_key_turns_a_keyring_into_a_signed_one_that_keeps_its_keys(rooted):
    ring = load_keyring("k.json")
    assert (ring.version, ring.threshold("root")) == (3, 2)
    assert {role: len(ring.keys(role)) for role in ring.roles} == {"policy-author": 1, "log": 1, "root": 2}
    assert ring.notice(datetime.now(UTC).date()) == ""


def test_a_keyring_that_is_signed_is_changed_by_its_root_keys_only(rooted):
    before = Path("k.json").read_bytes()
    with pytest.raises(InputError, match="give --root"):
        run("new", "w", "--role", "witness", "--keyring", "k.json")
    with pytest.raises(InputError, match="is no root key"):
        run("new", "w", "--role", "witness", "--keyring", "k.json", "--root", "log.key")
    assert Path("k.json").read_bytes() == before
    assert not Path("w.key").exists()


def test_too_few_root_keys_leave_the_keyring_and_a_version_that_waits(rooted, capsys):
    before = Path("k.json").read_bytes()
    assert run("new", "w", "--role", "witness", "--keyring", "k.json", "--root", "one.key") == 0
    assert "waits for signatures" in capsys.readouterr().out
    assert Path("k.json").read_bytes() == before
    run("show", "k.json")
    assert "`k.json.next` waits for signatures" in capsys.readouterr().out
    with pytest.raises(InputError, match="waits for signatures"):
        run("new", "v", "--role", "witness", "--keyring", "k.json", "--root", "one.key")
    with pytest.raises(SignatureError, match="has signed this"):
        run("sign", "k.json", "--root", "one.key")
    assert run("sign", "k.json", "--root", "two.key") == 0
    assert load_keyring("k.json").keys("witness") == (load_signing_key("w.key").verify_key,)
    assert not Path("k.json.next").exists()
    assert succeed(parse_keyring(before), Path("k.json").read_bytes(), datetime.now(UTC).date()).version == 4


def test_rotation_retires_the_old_key_and_lists_one_of_its_name(rooted, capsys):
    old = load_signing_key("author.key")
    roots = ("--root", "one.key", "--root", "two.key")
    assert run("rotate", "author", "--out", "author2.key", "--keyring", "k.json", *roots) == 0
    new, ring = load_signing_key("author2.key"), load_keyring("k.json")
    assert new.name == old.name
    assert ring.keys("policy-author") == (new.verify_key,)
    today = datetime.now(UTC).date().isoformat()
    assert ring.on(today).keys("policy-author") == (new.verify_key, old.verify_key)
    assert ring.on("2999-01-01").keys("policy-author") == (new.verify_key,)
    run("show", "k.json")
    assert f"retired; what is dated up to {today} counts" in capsys.readouterr().out


def test_a_key_can_be_rotated_in_an_unsigned_keyring_and_named_by_its_file_or_label(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("new", "a", "--role", "policy-author", "--keyring", "k.json")
    run("rotate", "a.key", "--out", "a2.key", "--keyring", "k.json", "--compromised")
    label = load_signing_key("a2.key").verify_key.label
    run("rotate", label, "--out", "a3.key", "--keyring", "k.json")
    ring = load_keyring("k.json")
    assert ring.version == 0
    assert ring.keys("policy-author") == (load_signing_key("a3.key").verify_key,)
    bounds = {key.label: key.retired.until for key in ring.roles["policy-author"] if key.retired}
    assert bounds[load_signing_key("a.key").verify_key.label] == ""
    assert bounds[label] == datetime.now(UTC).date().isoformat()


def test_a_root_key_is_taken_out_when_it_is_rotated(rooted):
    old = load_signing_key("two.key").verify_key
    run("rotate", "two", "--out", "two2.key", "--keyring", "k.json", "--root", "one.key", "--root", "two.key")
    ring = load_keyring("k.json")
    assert old not in ring.roles["root"]
    assert len(ring.roles["root"]) == 2


def test_a_log_signed_by_a_rotated_key_still_verifies_and_grows_no_further(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("new", "log", "--role", "log", "--keyring", "k.json")
    key = load_signing_key("log.key")
    Path("run").mkdir()
    Path("run/head.note").write_text(sign_checkpoint(Checkpoint("a/log", 9, bytes(32)), key))
    run("rotate", "log", "--out", "log2.key", "--keyring", "k.json", "--run", "run")
    trusted = load_keyring("k.json").keys("log")
    assert open_checkpoint(Path("run/head.note").read_bytes(), trusted).size == 9
    with pytest.raises(SignatureError, match="no trusted key"):
        open_checkpoint(sign_checkpoint(Checkpoint("a/log", 10, bytes(32)), key), trusted)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rotate", "nobody", "--out", "n.key", "--keyring", "k.json"), "lists no keys in use as `nobody`"),
        (("sign", "k.json", "--threshold", "root", "--root", "one.key"), "is no threshold"),
        (("sign", "k.json", "--expires", "soon", "--root", "one.key"), "is no date"),
        (("sign", "k.json", "--expires", "2001-01-01", "--root", "one.key"), "ends on 2001-01-01"),
        (("sign", "k.json", "--root", "one.key"), "waits for signatures; say what is to change"),
        (
            ("rotate", "log", "--out", "n.key", "--keyring", "k.json", "--run", "gone", "--root", "one.key"),
            "cannot read",
        ),
    ],
    ids=str,
)
def test_mistakes_change_nothing(rooted, words, message):
    before = sorted((path.name, path.read_bytes()) for path in rooted.iterdir())
    with pytest.raises(InputError, match=message):
        run(*words)
    assert sorted((path.name, path.read_bytes()) for path in rooted.iterdir()) == before


def test_a_keyring_without_root_keys_is_not_signed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("new", "log", "--role", "log", "--keyring", "k.json")
    with pytest.raises(InputError, match="has no root keys"):
        run("sign", "k.json", "--root", "log.key")
    with pytest.raises(InputError, match="leave out --root"):
        run("new", "w", "--role", "witness", "--keyring", "k.json", "--root", "log.key")


def test_show_says_who_is_trusted_for_what_until_when(rooted, capsys):
    run("show", "k.json")
    said = capsys.readouterr().out
    ring = load_keyring("k.json")
    assert f"version 3, signed by its root keys, until {ring.expires}" in said
    assert "root: the next version of the keyring, 2 of 2 must sign" in said
    for key in (key for trusted in ring.roles.values() for key in trusted):
        assert key.label in said
        assert key.fingerprint in said
    assert "PRIVATE" not in said


def test_show_warns_of_keys_that_share_what_should_be_apart(tmp_path, capsys):
    key = SigningKey.generate("a").verify_key
    Keyring.of([("log", key), ("witness", key)]).save(tmp_path / "k.json")
    run("show", tmp_path / "k.json")
    assert "warning: one key is log and witness" in capsys.readouterr().out


def test_nothing_private_is_printed_or_left_outside_key_files(rooted, capsys):
    roots = ("--root", "one.key", "--root", "two.key")
    run("rotate", "author", "--out", "author2.key", "--keyring", "k.json", *roots)
    run("new", "w", "--role", "witness", "--keyring", "k.json", "--root", "one.key")
    run("show", "author2.key")
    run("show", "k.json")
    said = "".join(capsys.readouterr())
    files = {path.name: path.read_text() for path in rooted.iterdir()}
    for name, text in files.items():
        if not name.endswith(".key"):
            assert "PRIVATE" not in text
            continue
        secret = text.split("+", 4)[4].strip()
        assert secret not in said
        assert all(secret not in other for own, other in files.items() if own != name)
        assert secret not in "".join(os.environ.values())
        assert (rooted / name).stat().st_mode & 0o777 == 0o600
