"""A14: keyrings that take trust back to an earlier time, out of reach, or to keys that nobody vouched for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from support.attacking import begun, denied, put_in_place, refused, rows_of, take, take_away, unnoticed

from aqpolicy.errors import CanonicalError, CorruptLogError, KeyFormatError, LineageError, SignatureError
from aqpolicy.lineage import LineageWriter
from aqpolicy.lineage.verify_entries import Entries
from aqpolicy.trust import (
    Keyring,
    SigningKey,
    VerifyKey,
    canonical_json,
    follow,
    keyring_file,
    open_signed,
    parse_canonical,
    parse_keyring,
    seal,
    sign_keyring,
    succeed,
)
from aqpolicy.trust.keyring import _refuse_shared
from aqpolicy.trust.keyring_file import KEYRING_TYPE, _succeed

ROOTS = [SigningKey.from_seed(f"root-{number}", bytes([number + 100]) * 32) for number in range(4)]
OWN, OTHER = ROOTS[:2], ROOTS[2:]
TODAY = date(2026, 10, 1)
Facts = dict[str, Any]


def facts(version: object, roots: Sequence[VerifyKey] = (), threshold: int = 2, expires: str = "2027-10-01") -> Facts:
    """Return what a signed keyring says; two own root keys unless others are named."""
    keys = roots or [key.verify_key for key in OWN]
    listed = [{"key": key.text, "role": "root"} for key in keys]
    return {
        "expires": expires,
        "format": "aqpolicy keyring 1",
        "keys": listed,
        "thresholds": {"root": threshold},
        "version": version,
    }


def file(said: Facts, signers: Sequence[SigningKey] = OWN) -> bytes:
    return seal(KEYRING_TYPE, canonical_json(said), signers) + b"\n"


IN_FORCE = parse_keyring(file(facts(3)))


def followed(data: bytes) -> Keyring:
    """Take a version as who is given one, and as who is given several."""
    assert follow(IN_FORCE, [data], TODAY) == succeed(IN_FORCE, data, TODAY)
    return succeed(IN_FORCE, data, TODAY)


def denied_both(data: bytes, kind: type[KeyFormatError | SignatureError], said: str) -> None:
    denied(lambda: succeed(IN_FORCE, data, TODAY), kind, said)
    denied(lambda: follow(IN_FORCE, [data], TODAY), kind, said)


def test_the_next_version_is_taken() -> None:
    assert followed(file(facts(4))).version == 4


@pytest.mark.parametrize("version", [1, 2, 3, 5, 2**53 - 1])
def test_a_rollback_and_a_leap(monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    data = file(facts(version))
    denied_both(data, SignatureError, f"version {version} of the keyring does not follow on version 3")
    take_away(monkeypatch, _succeed, "does not follow on version")
    assert followed(data).version == version


@pytest.mark.parametrize("number", [b"9223372036854775808", b"9007199254740992", b"0", b"-4", b"true", b"4.0", b"04"])
def test_a_version_that_is_no_count(number: bytes) -> None:
    payload = canonical_json(facts(4)).removesuffix(b"4}") + number + b"}"
    data = seal(KEYRING_TYPE, payload, OWN)
    is_read = number in {b"0", b"-4", b"true"}
    denied_both(data, KeyFormatError, "the signed keyring is not one of this version" if is_read else "a keyring has")


def test_without_the_step_by_one_a_leap_locks_everybody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    take_away(monkeypatch, _succeed, "does not follow on version")
    last = followed(file(facts(2**53 - 1)))
    with pytest.raises(CanonicalError):
        sign_keyring(last.revised(expires="2028-10-01"), OWN)


@pytest.mark.parametrize(
    ("signers", "roots", "threshold", "said", "lost"),
    [
        (OTHER, OTHER, 2, "the keyring in force does not vouch for this one: no trusted key", "old"),
        ([ROOTS[0], *OTHER], OTHER, 2, "the keyring in force does not vouch for this one: 2 trusted keys must", "old"),
        (OWN[:1], OWN[:1], 1, "the keyring in force does not vouch for this one: 2 trusted keys must sign", "old"),
        (OWN, OTHER, 2, "no trusted key signed", "new"),
        ([*OWN, ROOTS[2]], OTHER, 2, "2 trusted keys must sign", "new"),
    ],
    ids=["strangers", "one old key", "lowered threshold", "no new key", "one new key"],
)
def test_root_keys_that_only_one_side_vouches_for(
    monkeypatch: pytest.MonkeyPatch,
    signers: Sequence[SigningKey],
    roots: Sequence[SigningKey],
    threshold: int,
    said: str,
    lost: str,
) -> None:
    data = file(facts(4, [key.verify_key for key in roots], threshold), signers)
    denied_both(data, SignatureError, said)
    if lost == "old":
        take_away(monkeypatch, _succeed, "open_signed(plain, KEYRING_TYPE, old.keys")
    else:
        take_away(monkeypatch, parse_keyring, "open_signed(plain")
    assert followed(data).version == 4


def test_one_key_under_two_names_does_not_make_a_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    alias = SigningKey("alias", ROOTS[0]._secret)
    twice, signers = [ROOTS[0].verify_key, alias.verify_key], [ROOTS[0], alias]
    data, envelope = file(facts(4, twice), signers), seal("text/plain", b"x", signers)
    denied(lambda: parse_keyring(data), KeyFormatError, "the keyring lists one key twice for the role `root`")
    denied(lambda: open_signed(envelope, "text/plain", twice, 2), SignatureError, "2 trusted keys must sign")
    take_away(monkeypatch, Keyring.__post_init__, "lists one key twice")
    take_away(monkeypatch, _refuse_shared, "shares its keys with no other role")
    denied(lambda: parse_keyring(data), SignatureError, "2 trusted keys must sign")
    take_away(monkeypatch, open_signed, "trusted keys must sign")
    assert parse_keyring(data).threshold("root") == 2


def test_one_signature_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    value: Any = parse_canonical(file(facts(4), OWN[:1]).removesuffix(b"\n"))
    value["signatures"] *= 2
    said = "a signature of an envelope is ill-formed or there twice"
    denied(lambda: open_signed(canonical_json(value), KEYRING_TYPE, IN_FORCE.keys("root"), 2), CanonicalError, said)
    denied_both(canonical_json(value), KeyFormatError, said)


def test_a_keyring_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    data = file(facts(4, expires="2026-09-30"))
    denied_both(data, SignatureError, "the keyring ended on 2026-09-30; let its root keys sign another version")
    take_away(monkeypatch, Keyring.refuse_expired, "the keyring ended on")
    assert followed(data).version == 4


def test_a_keyring_that_nobody_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Keyring.of([("log", OTHER[0].verify_key)])
    denied_both(plain.to_bytes(), KeyFormatError, "this is no signed keyring")
    denied(lambda: succeed(plain, file(facts(1)), TODAY), SignatureError, "has no root keys that could vouch")
    unsigned = file(facts(4), OTHER)  # its own root keys did not sign it
    denied(lambda: parse_keyring(unsigned), SignatureError, "no trusted key signed")
    take_away(monkeypatch, parse_keyring, "open_signed(plain")
    assert keyring_file.parse_keyring(unsigned).version == 4


def any_version(entries: Entries, index: int, facts: Facts) -> tuple[str, ...]:
    """Look at the bytes of a keyring in a log, and not at its version."""
    entries.bodies, entries.keyring = entries.bodies + 1, facts["version"]
    entries._reader.raw_body(index, facts.get("keyring"))
    return ()


def test_a_log_whose_keyring_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = begun(tmp_path)
    writer.append_keyring(IN_FORCE)
    older = parse_keyring(file(facts(2)))
    denied(lambda: writer.append_keyring(older), LineageError, "version 2 of the keyring does not follow version 3")
    take_away(monkeypatch, LineageWriter._append_keyring, "does not follow version")
    place = writer.append_keyring(older)
    take(writer, rows_of(0, 2))
    writer.close()
    said = "the keyring does not follow the one before it"
    refused(tmp_path, CorruptLogError, said, where=f"entry {place}")
    put_in_place(monkeypatch, Entries._key_ring, any_version)
    unnoticed(tmp_path)
