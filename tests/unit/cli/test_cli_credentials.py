"""`aqpolicy credentials`, as the officer of a clinic calls it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from support.credentials import CA, HOLDERS, KEYRING, LOG, OFFICER, STRANGER, listing, refused

from aqpolicy.cli import credentials
from aqpolicy.errors import CanonicalError, InputError, ProvenanceError, SignatureError
from aqpolicy.provenance.status import seal_status_list

CLINIC = {
    "name": "clinic",
    "version": 1,
    "scopes": ["nodule", "report"],
    "classes": [
        {"name": "reader", "scopes": ["nodule"], "delegates": False},
        {"name": "chief", "scopes": ["nodule", "report"], "delegates": True},
    ],
}


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    credentials.register(parser.add_subparsers())
    args = parser.parse_args(["credentials", *map(str, words)])
    status: int = args.func(args)
    return status


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    KEYRING.save("k.json")
    for name, key in {"officer": OFFICER, "ca": CA, "stranger": STRANGER, "b": HOLDERS["b"]}.items():
        key.save(f"{name}.key")
    for name in "ab":
        Path(f"{name}.pub").write_text(HOLDERS[name].verify_key.text)
    Path("clinic.json").write_text(json.dumps(CLINIC))
    run("taxonomy", "clinic.json", "--key", "officer.key", "--out", "clinic.taxonomy")
    capsys.readouterr()
    return tmp_path


def issue(name: str, *more: object, key: str = "ca.key", authority: str = "reader", scope: str = "nodule") -> int:
    words = ["--taxonomy", "clinic.taxonomy", "--keyring", "k.json", "--key", key, "--until", "2999-12-31"]
    words += ["--authority", authority, "--scope", scope, "--holder", f"{name}.pub", "--pseudonym", f"person-{name}"]
    return run("issue", name, *words, "--out", f"{name}.credential", *more)


def check(name: str, *more: object) -> int:
    return run("check", f"{name}.credential", "--taxonomy", "clinic.taxonomy", "--keyring", "k.json", *more)


def test_a_credential_is_granted_shown_and_checked(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert issue("a") == 0
    said = capsys.readouterr().out
    assert "authority  reader of clinic@1, for nodule" in said
    assert run("show", "a.credential") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(said)
    assert f"signed     {CA.verify_key.label} (not verified" in shown
    assert check("a", "--scope", "nodule") == 0
    assert capsys.readouterr().out == (
        "signature  passed\nchain      passed\ntime       passed\ncompetence passed\nvalid\n"
    )


def test_a_chief_grants_what_the_chief_has(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    issue("b", authority="chief", scope="report")
    with pytest.raises(InputError, match=r"worth nothing \(wider_than_issuer\)"):
        issue("a", "--issuer", "b.credential", key="b.key")
    assert not Path("a.credential").exists()
    Path("b.credential").unlink()
    issue("b", authority="chief")
    assert issue("a", "--issuer", "b.credential", key="b.key") == 0
    assert check("a", "--issuer", "b.credential") == 0
    capsys.readouterr()
    assert check("a") == 1
    assert "chain      unknown_issuer: the credential `b` of its issuer is not presented" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("--at", "2001-01-01"), "time       not_yet_valid: "),
        (("--scope", "report"), "competence outside_scope: "),
        (("--status", "s"), "time       revoked: "),
    ],
)
def test_a_check_says_how_far_it_came(
    office: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], line: str
) -> None:
    issue("a")
    Path("s").write_bytes(seal_status_list(listing(refused("a")), [LOG]))
    capsys.readouterr()
    assert check("a", *more) == 1
    said = capsys.readouterr().out
    assert line in said
    assert said.splitlines()[-1] == f"not valid: {line.split()[1].rstrip(':')}"
    assert said.count("not made") == (1 if line.startswith("time") else 0)


@pytest.mark.parametrize(
    ("key", "authority", "scope", "message"),
    [
        ("stranger.key", "reader", "nodule", "unknown_issuer"),
        ("ca.key", "king", "nodule", "unknown_class"),
        ("ca.key", "reader", "report", "outside_scope"),
    ],
)
def test_what_would_be_worth_nothing_is_not_granted(
    office: Path, key: str, authority: str, scope: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        issue("a", key=key, authority=authority, scope=scope)
    assert not Path("a.credential").exists()


def test_a_credential_is_not_overwritten(office: Path) -> None:
    issue("a")
    with pytest.raises(InputError, match="not overwritten"):
        issue("a")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"name": 1.5}', "[" * 5000, '{"name": "clinic"}', "\xff"])
def test_a_taxonomy_that_is_none_is_not_signed(office: Path, text: str) -> None:
    Path("bad.json").write_text(text, encoding="latin-1")
    with pytest.raises((InputError, ProvenanceError, CanonicalError)):
        run("taxonomy", "bad.json", "--key", "officer.key", "--out", "bad.taxonomy")
    assert not Path("bad.taxonomy").exists()


def test_a_taxonomy_by_another_key_grants_nothing(office: Path) -> None:
    run("taxonomy", "clinic.json", "--key", "stranger.key", "--out", "other.taxonomy")
    Path("clinic.taxonomy").unlink()
    Path("other.taxonomy").rename("clinic.taxonomy")
    with pytest.raises(SignatureError, match="no trusted key"):
        issue("a")


def test_a_mistyped_date_is_named(office: Path) -> None:
    issue("a")
    with pytest.raises(InputError, match="`soon` is no date"):
        check("a", "--at", "soon")
