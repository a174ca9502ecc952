"""Keyrings with root keys: versions, thresholds, an end, and keys that were rotated."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from aqpolicy.errors import KeyFormatError, SignatureError
from aqpolicy.trust import (
    Checkpoint,
    Keyring,
    Retired,
    SigningKey,
    VerifyKey,
    add_signatures,
    canonical_json,
    follow,
    load_keyring,
    open_checkpoint,
    parse_keyring,
    seal,
    sign_checkpoint,
    sign_keyring,
    succeed,
)
from aqpolicy.trust.keyring_file import KEYRING_TYPE

ROOTS = [SigningKey.from_seed(f"root{n}", bytes([n + 1]) * 32) for n in range(4)]
LOG = SigningKey.from_seed("log", bytes([10]) * 32)
AUTHOR = SigningKey.from_seed("author", bytes([11]) * 32)
OTHER = SigningKey.from_seed("other", bytes([12]) * 32)
TODAY = date(2026, 10, 1)
LATER = "2027-10-01"


def public(keys):
    return tuple(key.verify_key for key in keys)


def draft(version=1, roots=ROOTS[:1], expires=LATER, thresholds=(), **roles):
    named = {role.replace("_", "-"): public(keys) for role, keys in roles.items()}
    return Keyring({"root": public(roots), **named}, version, expires, dict(thresholds))


def signed(ring, signers):
    return parse_keyring(sign_keyring(ring, signers) + b"\n")


def test_a_signed_keyring_survives_its_file(tmp_path):
    ring = signed(draft(policy_author=[AUTHOR, OTHER], thresholds={"policy-author": 2}), ROOTS[:1])
    ring.save(tmp_path / "keyring.json")
    again = load_keyring(tmp_path / "keyring.json")
    assert again == ring
    assert (again.version, again.expires, again.threshold("policy-author"), again.threshold("log")) == (1, LATER, 2, 1)
    assert again.keys("policy-author") == public([AUTHOR, OTHER])
    assert again.digest == ring.digest


def test_an_unsigned_keyring_has_version_0_no_end_and_thresholds_of_one():
    ring = Keyring.of([("log", LOG.verify_key)])
    assert (ring.version, ring.expires, ring.threshold("log")) == (0, "", 1)
    ring.refuse_expired(date(2999, 1, 1))
    assert ring.notice(date(2999, 1, 1)) == ""


def test_what_waits_for_signatures_is_not_written_as_a_keyring(tmp_path):
    with pytest.raises(KeyFormatError, match="not signed by its root keys yet"):
        draft().save(tmp_path / "keyring.json")
    ring = signed(draft(), ROOTS[:1])
    with pytest.raises(KeyFormatError, match="version 2"):
        ring.with_key("log", LOG.verify_key).to_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_change_is_the_next_version_however_much_is_changed():
    ring = signed(draft(), ROOTS[:1])
    changed = ring.with_key("log", LOG.verify_key).with_key("witness", OTHER.verify_key).revised(expires="2028-01-01")
    assert (changed.version, changed.expires, changed.signed) == (2, "2028-01-01", b"")


def test_each_version_vouches_for_the_next():
    first = signed(draft(), ROOTS[:1])
    second = sign_keyring(first.with_key("log", LOG.verify_key), ROOTS[:1])
    third = sign_keyring(replace(draft(3, ROOTS[1:2]), signed=b""), ROOTS[:2])
    assert succeed(first, second, TODAY).keys("log") == public([LOG])
    newest = follow(first, [second, third], TODAY)
    assert (newest.version, newest.keys("root")) == (3, public(ROOTS[1:2]))
    assert follow(first, [], TODAY) is first


def test_only_the_end_of_the_newest_version_counts_when_several_are_followed():
    first = signed(draft(), ROOTS[:1])
    ended = sign_keyring(draft(2, expires="2026-09-30"), ROOTS[:1])
    current = sign_keyring(draft(3), ROOTS[:1])
    assert follow(first, [ended, current], TODAY).version == 3
    with pytest.raises(SignatureError, match="ended on 2026-09-30"):
        follow(first, [ended], TODAY)
    with pytest.raises(SignatureError, match="ended on 2026-09-30"):
        succeed(first, ended, TODAY)
    assert succeed(first, ended, date(2026, 9, 30)).version == 2


def test_the_last_day_counts_and_is_announced_thirty_days_before():
    ring = signed(draft(expires="2026-10-31"), ROOTS[:1])
    assert ring.notice(date(2026, 9, 30)) == ""
    assert "ends on 2026-10-31" in ring.notice(date(2026, 10, 1))
    assert "ended on 2026-10-31" in ring.notice(date(2026, 11, 1))
    ring.refuse_expired(date(2026, 10, 31))
    with pytest.raises(SignatureError, match="let its root keys sign another"):
        ring.refuse_expired(date(2026, 11, 1))


def test_root_keys_may_sign_one_after_the_other():
    ring = draft(roots=ROOTS[:2], thresholds={"root": 2})
    half = sign_keyring(ring, ROOTS[:1])
    with pytest.raises(SignatureError, match="2 trusted keys must sign"):
        parse_keyring(half)
    assert parse_keyring(add_signatures(half, KEYRING_TYPE, ROOTS[1:2])).version == 1


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"roots": []}, "has root keys"),
        ({"expires": ""}, "until when"),
        ({"expires": "2026-02-30"}, "until when"),
        ({"thresholds": {"root": 2}}, "cannot be met"),
        ({"thresholds": {"policy-author": 1}}, "cannot be met"),
        ({"log": [LOG, OTHER], "thresholds": {"log": 2}}, "makes no sense"),
        ({"thresholds": {"root": 0}}, "cannot be met"),
    ],
    ids=str,
)
def test_a_keyring_that_could_never_be_used_or_replaced_is_refused(parts, message):
    roots = parts.pop("roots", ROOTS[:1])
    with pytest.raises(KeyFormatError, match=message):
        draft(roots=roots, log=parts.pop("log", [LOG]), **parts)


@pytest.mark.parametrize("alone", ["root", "log", "witness", "annotator_ca", "eraser"])
def test_a_key_that_must_be_apart_has_no_other_role_under_any_name(alone):
    renamed = VerifyKey("another", AUTHOR.verify_key.public)
    roots = [ROOTS[0].verify_key, *([renamed] if alone == "root" else [])]
    roles = {"root": tuple(roots), "policy-author": public([AUTHOR])}
    roles |= {} if alone == "root" else {alone.replace("_", "-"): (renamed,)}
    with pytest.raises(KeyFormatError, match="shares its keys with no other role"):
        Keyring(roles, 1, LATER)
    shared = {"root": public(ROOTS[:1]), "policy-author": public([AUTHOR]), "manifest-issuer": public([AUTHOR])}
    assert Keyring(shared, 1, LATER).version == 1


def retired(key, until="", *logs):
    return replace(key.verify_key, retired=Retired(until, logs))


def test_a_retired_key_counts_for_the_heads_within_its_bound_only():
    ring = Keyring({"log": (OTHER.verify_key, retired(LOG, "", ("a/log", 7), ("b/log", 3)))})
    for origin, size, counts in [("a/log", 7, True), ("a/log", 8, False), ("b/log", 3, True), ("c/log", 1, False)]:
        note = sign_checkpoint(Checkpoint(origin, size, bytes(32)), LOG)
        if counts:
            assert open_checkpoint(note, ring.keys("log")).size == size
        else:
            with pytest.raises(SignatureError, match="no trusted key"):
                open_checkpoint(note, ring.keys("log"))
        # Without the bound the same head would pass: the bound is what refuses it.
        assert open_checkpoint(note, [key.restored for key in ring.roles["log"]]).size == size


def test_a_retired_key_counts_for_what_a_log_within_its_bound_names_and_for_dated_statements():
    ring = Keyring({"policy-author": (OTHER.verify_key, retired(AUTHOR, "2026-05-01", ("a/log", 7)))})
    envelope = seal("t", b"x", [AUTHOR])
    with pytest.raises(SignatureError, match="no trusted key"):
        ring.open(envelope, "t", "policy-author")
    assert ring.within("a/log").open(envelope, "t", "policy-author").payload == b"x"
    assert ring.within("a/log", 7).open(envelope, "t", "policy-author").payload == b"x"
    assert ring.on("2026-05-01").open(envelope, "t", "policy-author").payload == b"x"
    for view in (ring.within("a/log", 8), ring.within("b/log"), ring.on("2026-05-02")):
        with pytest.raises(SignatureError, match="no trusted key"):
            view.open(envelope, "t", "policy-author")


def test_a_retired_key_without_a_bound_counts_for_nothing_and_verifies_nothing():
    key = retired(AUTHOR)
    ring = Keyring({"policy-author": (OTHER.verify_key, key)})
    assert ring.keys("policy-author") == (OTHER.verify_key,)
    with pytest.raises(SignatureError, match="no trusted key"):
        ring.on("0001-01-01").open(seal("t", b"x", [AUTHOR]), "t", "policy-author")
    with pytest.raises(SignatureError, match="is retired"):
        key.verify(AUTHOR.sign(b"m"), b"m")
    key.restored.verify(AUTHOR.sign(b"m"), b"m")


def test_a_keyring_of_retired_keys_alone_trusts_nobody():
    with pytest.raises(KeyFormatError, match="empty"):
        Keyring({"log": (retired(LOG, "", ("a", 1)),)})


def test_retired_keys_survive_the_file_with_their_bounds(tmp_path):
    ring = Keyring({"log": (OTHER.verify_key, retired(LOG, "2026-01-02", ("a/log", 7)))})
    ring.save(tmp_path / "k.json")
    assert load_keyring(tmp_path / "k.json") == ring
    with pytest.raises(KeyFormatError, match="none of them retired"):
        Keyring({"root": (*public(ROOTS[:1]), retired(ROOTS[1]))}, 1, LATER)


def test_the_threshold_of_a_role_is_the_keyrings_or_the_callers_whichever_asks_for_more():
    ring = signed(draft(policy_author=[AUTHOR, OTHER], thresholds={"policy-author": 2}), ROOTS[:1])
    one, both = seal("t", b"x", [AUTHOR]), seal("t", b"x", [AUTHOR, OTHER])
    with pytest.raises(SignatureError, match="2 trusted keys must sign"):
        ring.open(one, "t", "policy-author")
    assert ring.open(both, "t", "policy-author").payload == b"x"
    loose = Keyring.of([("policy-author", AUTHOR.verify_key), ("policy-author", OTHER.verify_key)])
    assert loose.open(one, "t", "policy-author").payload == b"x"
    with pytest.raises(SignatureError, match="2 trusted keys must sign"):
        loose.open(one, "t", "policy-author", at_least=2)


def test_a_fingerprint_is_the_key_id_of_the_update_framework_and_knows_no_name():
    # securesystemslib, `compute_default_keyid("ed25519", "ed25519", {"public": ...})`.
    public = bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8")
    expected = "63d00ee3cf4f5c61ad94efa696c68f13b608fe56ecea13fb144a6fd18e9235b9"
    assert VerifyKey("a", public).fingerprint == expected
    assert VerifyKey("b", public).fingerprint == expected


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"version": True},
        {"version": "1"},
        {"version": 2**53},
        {"format": "aqpolicy keyring 2"},
        {"expires": 1},
        {"expires": "2026-13-01"},
        {"thresholds": []},
        {"thresholds": {"root": True}},
        {"thresholds": {"root": "1"}},
        {"more": 1},
        {"keys": {}},
        {"keys": [{"key": ROOTS[0].verify_key.text, "role": "root", "retired": {}}]},
        {"keys": [{"key": ROOTS[0].verify_key.text, "role": "root"}] * 2},
    ],
    ids=str,
)
def test_another_shape_is_refused_although_it_is_signed(change):
    facts = {
        "expires": LATER,
        "format": "aqpolicy keyring 1",
        "keys": [{"key": ROOTS[0].verify_key.text, "role": "root"}],
        "thresholds": {},
        "version": 1,
    }
    assert parse_keyring(seal(KEYRING_TYPE, canonical_json(facts), ROOTS[:1])).version == 1
    if change.get("version") == 2**53:
        change = {"version": 2**53 - 1, "thresholds": {"log": 1}}
    with pytest.raises(KeyFormatError):
        parse_keyring(seal(KEYRING_TYPE, canonical_json({**facts, **change}), ROOTS[:1]))
