"""Keys and keyrings as an attacker would write them."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_add, crypto_scalarmult_ed25519_base_noclamp

from aqpolicy.bundle.sealed import PAYLOAD_TYPE as BUNDLE
from aqpolicy.errors import CanonicalError, KeyFormatError, SignatureError, TrustError
from aqpolicy.gate.records.witnesses import PAYLOAD_TYPE as PROMOTION
from aqpolicy.provenance.credential import CREDENTIAL_TYPE
from aqpolicy.provenance.header import HEADER_TYPE
from aqpolicy.provenance.status import STATUS_TYPE
from aqpolicy.provenance.taxonomy import TAXONOMY_TYPE
from aqpolicy.trust import (
    Checkpoint,
    Keyring,
    Retired,
    SigningKey,
    VerifyKey,
    canonical_json,
    encode_base64,
    follow,
    load_keyring,
    load_signing_key,
    load_verify_key,
    open_checkpoint,
    open_signed,
    parse_keyring,
    pre_authentication,
    seal,
    sha256,
    sign_checkpoint,
    sign_keyring,
    succeed,
)
from aqpolicy.trust.keyring_file import KEYRING_TYPE

P = 2**255 - 19
GOOD = SigningKey.from_seed("name", bytes(32)).verify_key

# The eight points of small order (y coordinates as in RFC 8032), with their non-canonical spellings.
ORDER_8 = [
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]


def point(y, sign=0):
    return (y | sign << 255).to_bytes(32, "little")


SMALL = [point(y, sign) for y in (0, 1, P - 1) for sign in (0, 1)]
SMALL += [bytes.fromhex(text) for text in ORDER_8]
SMALL += [bytes.fromhex(text)[:31] + bytes([bytes.fromhex(text)[31] | 0x80]) for text in ORDER_8]
NOT_CANONICAL = [point(y, sign) for y in range(P, 2**255) for sign in (0, 1)]


def text_of(public, name="name", kind=b"\x01"):
    key_id = sha256(name.encode() + b"\n" + kind + public)[:4].hex()
    return f"{name}+{key_id}+{encode_base64(kind + public)}"


@pytest.mark.parametrize("public", [*SMALL, *NOT_CANONICAL], ids=bytes.hex)
def test_a_key_that_anyone_could_sign_for_is_refused_when_read(public):
    with pytest.raises(KeyFormatError):
        VerifyKey.parse(text_of(public))
    with pytest.raises(KeyFormatError):
        parse_keyring(canonical_json({"keys": [{"key": text_of(public), "role": "log"}]}))


def test_bytes_that_are_no_point_are_refused():
    with pytest.raises(KeyFormatError, match="not a point"):
        VerifyKey("name", point(2))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "++",
        "name",
        GOOD.text + "\n",
        " " + GOOD.text,
        GOOD.text.replace("name", "eman"),
        GOOD.text.replace("name", ""),
        GOOD.text.replace("name", "na me"),
        GOOD.text.replace("name", "näme"),
        GOOD.text.replace("+", "-"),
        GOOD.text[:-1],
        GOOD.text + "=",
        GOOD.label.upper() + GOOD.text.removeprefix(GOOD.label),
        f"{GOOD.label}+{encode_base64(b'')}",
        text_of(GOOD.public, kind=b"\x02"),
        text_of(GOOD.public, kind=b"\x04"),
        text_of(GOOD.public[:31]),
        text_of(GOOD.public + b"\x00"),
        "x" * 1_000_000,
        "PRIVATE+KEY+" + GOOD.text,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_a_text_that_is_not_exactly_a_key_is_refused(text):
    with pytest.raises(KeyFormatError):
        VerifyKey.parse(text)


def test_a_private_key_is_never_taken_for_a_public_one():
    with pytest.raises(KeyFormatError):
        VerifyKey.parse(SigningKey.generate("name").private_text)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b'{"keys":[]}',
        b'{"keys":[],"keys":[]}',
        b'{"keys": []}',
        b'{"KEYS":[]}',
        b'{"keys":[1e400]}',
        b"[" * 100_000,
        b'{"keys":' + b"[" * 100_000,
        canonical_json({"keys": [{"key": GOOD.text, "role": "log"}]}) + b"\n\n",
        canonical_json({"keys": [{"key": GOOD.text, "role": "log"}] * 2}),
        canonical_json({"keys": [{"key": GOOD.text, "role": "lоg"}]}),  # Cyrillic о
        canonical_json({"keys": [{"key": GOOD.text, "role": "log\u200b"}]}),
        b" " * (4 * 1024 * 1024 + 1),
    ],
    ids=lambda data: repr(data[:24]),
)
def test_bytes_that_are_not_exactly_a_keyring_are_refused(data, tmp_path):
    path = tmp_path / "keyring.json"
    path.write_bytes(data)
    with pytest.raises(KeyFormatError):
        load_keyring(path)


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x00" * 100, b"x" * 1_000_000, b"PRIVATE+KEY+"])
def test_other_files_are_no_keys(data, tmp_path):
    path = tmp_path / "a.key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(KeyFormatError):
        load_verify_key(path)


# A13: one key's signature in the place of another's.

SIGNS = {
    "root": KEYRING_TYPE,
    "policy-author": BUNDLE,
    "manifest-issuer": HEADER_TYPE,
    "witness": PROMOTION,
    "annotator-ca": CREDENTIAL_TYPE,
    "taxonomy": TAXONOMY_TYPE,
    "log": STATUS_TYPE,
}
HOLDERS = {role: SigningKey.from_seed(role, bytes([n + 1]) * 32) for n, role in enumerate(SIGNS)}
EVERYONE = Keyring({role: (key.verify_key,) for role, key in HOLDERS.items()}, 1, "2999-12-31")
ALL_KEYS = [key.verify_key for key in HOLDERS.values()]


@pytest.mark.parametrize("asked", SIGNS)
@pytest.mark.parametrize("holder", SIGNS)
def test_a13_a_key_signs_for_its_own_role_only(holder, asked):
    envelope = seal(SIGNS[asked], b"x", [HOLDERS[holder]])
    if holder == asked:
        assert EVERYONE.open(envelope, SIGNS[asked], asked).payload == b"x"
        return
    with pytest.raises(SignatureError, match=f"no trusted key signed this .*signed by `{holder}"):
        EVERYONE.open(envelope, SIGNS[asked], asked)
    # Whoever asks only whether a known key signed lets it pass.
    assert open_signed(envelope, SIGNS[asked], ALL_KEYS).payload == b"x"


@pytest.mark.parametrize("asked", SIGNS)
@pytest.mark.parametrize("made_for", SIGNS)
def test_a13_a_signature_for_one_purpose_is_worth_nothing_for_another(made_for, asked):
    if made_for == asked:
        return
    key = HOLDERS[asked]
    value = json.loads(seal(SIGNS[made_for], b"x", [key]))
    value["payloadType"] = SIGNS[asked]
    with pytest.raises(SignatureError, match="the bytes were altered"):
        EVERYONE.open(canonical_json(value), SIGNS[asked], asked)
    # A signature over the payload alone would not tell the two apart.
    key.verify_key.verify(key.sign(b"x"), b"x")
    assert pre_authentication(SIGNS[made_for], b"x") != pre_authentication(SIGNS[asked], b"x")


@pytest.mark.parametrize("holder", [role for role in SIGNS if role != "log"])
def test_a13_only_the_logs_key_signs_heads(holder):
    note = sign_checkpoint(Checkpoint("a/log", 1, bytes(32)), HOLDERS[holder])
    with pytest.raises(SignatureError, match="no trusted key signed this checkpoint"):
        open_checkpoint(note, EVERYONE.keys("log"))
    assert open_checkpoint(note, ALL_KEYS).size == 1


def test_a13_a_head_is_no_envelope_and_an_envelope_no_head():
    key, head = HOLDERS["log"], Checkpoint("a/log", 1, bytes(32))
    value = json.loads(seal(STATUS_TYPE, head.text.encode(), [key]))
    value["signatures"][0]["sig"] = encode_base64(key.sign(head.text.encode()))
    with pytest.raises(SignatureError, match="the bytes were altered"):
        EVERYONE.open(canonical_json(value), STATUS_TYPE, "log")
    signature = key.verify_key.key_id + key.sign(pre_authentication(STATUS_TYPE, head.text.encode()))
    with pytest.raises(SignatureError, match="the bytes were altered"):
        open_checkpoint(f"{head.text}\n— {key.name} {encode_base64(signature)}\n", EVERYONE.keys("log"))


@pytest.mark.parametrize("other", ["witness", "policy-author", "root"])
def test_a13_one_key_cannot_watch_over_itself(other):
    renamed = VerifyKey("somebody-else", HOLDERS["log"].verify_key.public)
    roles = {**EVERYONE.roles, other: (*EVERYONE.roles[other], renamed)}
    facts = {
        "expires": "2999-12-31",
        "format": "aqpolicy keyring 1",
        "keys": [{"key": key.text, "role": role} for role, keys in roles.items() for key in keys],
        "thresholds": {},
        "version": 1,
    }
    data = seal(KEYRING_TYPE, canonical_json(facts), [HOLDERS["root"]])
    with pytest.raises(KeyFormatError, match="shares its keys with no other role"):
        parse_keyring(data)
    # The signature is good: without the rule it would be a keyring.
    assert open_signed(data, KEYRING_TYPE, EVERYONE.keys("root")).payload == canonical_json(facts)


# A14: keyrings of an attacker who holds some root keys, old files, or none.

ROOTS = [SigningKey.from_seed(f"root{n}", bytes([n + 100]) * 32) for n in range(4)]
TODAY = date(2026, 10, 1)


def ring(version, roots=ROOTS[:2], threshold=2, expires="2027-10-01", **more):
    keys = {"root": tuple(key.verify_key for key in roots), "log": (HOLDERS["log"].verify_key,), **more}
    return Keyring(keys, version, expires, {"root": threshold})


def file_of(keyring, signers):
    return sign_keyring(replace(keyring, signed=b""), signers) + b"\n"


IN_FORCE = parse_keyring(file_of(ring(3), ROOTS[:2]))


@pytest.mark.parametrize("version", [1, 2, 3, 5, 2**53 - 1])
def test_a14_an_older_version_and_a_leap_are_refused(version):
    data = file_of(ring(version), ROOTS[:2])
    with pytest.raises(SignatureError, match=f"version {version} of the keyring does not follow on version 3"):
        succeed(IN_FORCE, data, TODAY)
    assert parse_keyring(data).version == version  # its signatures are all good


def test_a14_a_version_beyond_all_numbers_locks_nobody_out():
    text = canonical_json({"expires": "2027-10-01", "format": "aqpolicy keyring 1", "keys": [], "thresholds": {}})
    for number in (b"9223372036854775808", b"1e400", b"04", b"-1", b"4.0"):
        data = seal(KEYRING_TYPE, text[:-1] + b',"version":' + number + b"}", ROOTS[:2])
        with pytest.raises(KeyFormatError):
            succeed(IN_FORCE, data, TODAY)


@pytest.mark.parametrize(
    ("signers", "roots", "threshold", "message"),
    [
        (ROOTS[2:], ROOTS[2:], 2, "in force does not vouch .*no trusted key"),
        ([ROOTS[0], *ROOTS[2:]], ROOTS[2:], 2, "in force does not vouch .*2 trusted keys must sign"),
        (ROOTS[:2], ROOTS[2:], 2, "no trusted key signed"),
        ([*ROOTS[:2], ROOTS[2]], ROOTS[2:], 2, "2 trusted keys must sign"),
        (ROOTS[:1], ROOTS[:1], 1, "in force does not vouch .*2 trusted keys must sign"),
    ],
    ids=["strangers", "one old key", "no new key", "one new key", "lowered threshold"],
)
def test_a14_both_the_old_and_the_new_root_keys_must_agree(signers, roots, threshold, message):
    data = file_of(ring(4, roots, threshold), signers)
    with pytest.raises(SignatureError, match=message):
        succeed(IN_FORCE, data, TODAY)
    # One of the two questions alone is answered by the attacker's file.
    passes = [
        set(signers) >= set(ROOTS[:2]),
        len(set(signers) & set(roots)) >= threshold,
    ]
    assert any(passes)
    assert succeed(IN_FORCE, file_of(ring(4, ROOTS[2:]), ROOTS), TODAY).version == 4


def test_a14_one_key_does_not_make_a_threshold():
    alias = VerifyKey("alias", ROOTS[0].verify_key.public)
    twice = SigningKey("alias", ROOTS[0]._secret)
    data = seal(KEYRING_TYPE, b"x", [ROOTS[0], twice])
    with pytest.raises(SignatureError, match="2 trusted keys must sign"):
        open_signed(data, KEYRING_TYPE, [ROOTS[0].verify_key, alias], 2)
    assert len(open_signed(data, KEYRING_TYPE, [ROOTS[0].verify_key, alias]).signers) == 2  # what names alone count
    value = json.loads(file_of(ring(4), ROOTS[:1]))
    value["signatures"] *= 2
    with pytest.raises(KeyFormatError, match="there twice"):
        succeed(IN_FORCE, canonical_json(value), TODAY)
    facts = json.loads(
        json.dumps({"keys": [{"key": key.text, "role": "root"} for key in (ROOTS[0].verify_key, alias)]})
    )
    facts |= {"expires": "2027-10-01", "format": "aqpolicy keyring 1", "thresholds": {"root": 2}, "version": 4}
    with pytest.raises(KeyFormatError, match="lists one key twice"):
        parse_keyring(seal(KEYRING_TYPE, canonical_json(facts), [ROOTS[0], twice]))


def test_a14_a_keyring_that_has_ended_is_no_successor():
    data = file_of(ring(4, expires="2026-09-30"), ROOTS[:2])
    with pytest.raises(SignatureError, match="ended on 2026-09-30"):
        succeed(IN_FORCE, data, TODAY)
    with pytest.raises(SignatureError, match="ended on 2026-09-30"):
        follow(IN_FORCE, [data], TODAY)
    assert parse_keyring(data).version == 4


def test_a14_an_unsigned_keyring_vouches_for_nobody_and_follows_on_nobody():
    plain = Keyring.of([("log", HOLDERS["log"].verify_key)])
    with pytest.raises(SignatureError, match="has no root keys"):
        succeed(plain, file_of(ring(1), ROOTS[:2]), TODAY)
    with pytest.raises(KeyFormatError, match="no signed keyring"):
        succeed(IN_FORCE, plain.to_bytes(), TODAY)
    assert parse_keyring(plain.to_bytes()) == plain


def test_a14_every_flipped_byte_of_a_signed_keyring_is_noticed():
    data = file_of(ring(4), ROOTS[:2])
    for at in range(len(data) - 1):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        with pytest.raises((KeyFormatError, SignatureError)):
            succeed(IN_FORCE, bytes(changed), TODAY)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b'{"keys":', b"{}", IN_FORCE.to_bytes()[:200]]))
def test_other_bytes_raise_nothing_but_our_errors(data, start):
    with pytest.raises((KeyFormatError, SignatureError)):
        parse_keyring(start + data)
    with pytest.raises(TrustError):
        succeed(IN_FORCE, start + data, TODAY)


def test_a_retired_key_extends_no_log():
    key = HOLDERS["log"]
    old = replace(key.verify_key, retired=Retired("2026-01-01", (("a/log", 5),)))
    trusted = Keyring({"log": (GOOD, old)}).keys("log")
    assert open_checkpoint(sign_checkpoint(Checkpoint("a/log", 5, bytes(32)), key), trusted).size == 5
    for origin, size in (("a/log", 6), ("b/log", 1)):
        note = sign_checkpoint(Checkpoint(origin, size, bytes(32)), key)
        with pytest.raises(SignatureError, match="no trusted key"):
            open_checkpoint(note, trusted)
        assert open_checkpoint(note, [key.verify_key]).size == size


# A17: keys and signatures that a lax verifier takes.


def test_a17_for_a_key_of_small_order_anyone_could_sign():
    identity = point(1)
    with pytest.raises(KeyFormatError, match="small order"):
        VerifyKey("name", identity)
    # R + k*A is R whatever is hashed, for R the identity and S = 0: the equation alone accepts every message.
    assert crypto_core_ed25519_add(identity, identity) == identity
    unchecked = replace(GOOD)
    object.__setattr__(unchecked, "public", identity)
    with pytest.raises(SignatureError):
        unchecked.verify(identity + bytes(32), b"any message")


def test_a17_a_signature_has_one_spelling():
    order = 2**252 + 27742317777372353535851937790883648493
    key = SigningKey.from_seed("name", bytes(32))
    good = key.sign(b"m")
    scalar = int.from_bytes(good[32:], "little")
    other = good[:32] + (scalar + order).to_bytes(32, "little")
    key.verify_key.verify(good, b"m")
    with pytest.raises(SignatureError, match="altered"):
        key.verify_key.verify(other, b"m")
    # The equation alone cannot tell them apart: both scalars reach the same point.
    assert crypto_scalarmult_ed25519_base_noclamp(good[32:]) == crypto_scalarmult_ed25519_base_noclamp(other[32:])


# A27: the file system between a key and its owner.


def test_a27_a_link_that_another_placed_is_not_followed(tmp_path):
    SigningKey.generate("victim").save(tmp_path / "victim.key")
    (tmp_path / "mine.key").symlink_to(tmp_path / "victim.key")
    with pytest.raises(KeyFormatError, match="is a link"):
        load_signing_key(tmp_path / "mine.key")
    assert (tmp_path / "mine.key").read_text().startswith("PRIVATE+KEY+victim")  # a plain open follows it


def test_a27_what_is_read_is_what_was_judged(tmp_path, monkeypatch):
    mine, theirs = SigningKey.generate("mine"), SigningKey.generate("theirs")
    path = tmp_path / "a.key"
    mine.save(path)
    theirs.save(tmp_path / "theirs.key")
    judged = os.fstat

    def swapped(handle):
        (tmp_path / "theirs.key").replace(path)
        return judged(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", swapped)
        found = load_signing_key(path)
    assert found == mine
    assert SigningKey.parse(path.read_text().strip()) == theirs  # who opens the name again reads this


@pytest.mark.parametrize("bit", [stat.S_IRGRP, stat.S_IWGRP, stat.S_IXGRP, stat.S_IROTH, stat.S_IWOTH, stat.S_IXOTH])
def test_a27_a_key_that_others_can_reach_is_not_used(tmp_path, bit):
    path = tmp_path / "a.key"
    key = SigningKey.generate("a")
    key.save(path)
    path.chmod(0o600 | bit)
    with pytest.raises(KeyFormatError, match="chmod 600"):
        load_signing_key(path)
    assert SigningKey.parse(path.read_text().strip()) == key


def test_a27_a_key_in_the_place_of_a_file_name_is_not_repeated():
    key = SigningKey.generate("a")
    for load in (load_signing_key, load_verify_key):
        with pytest.raises(KeyFormatError, match="rotate it") as caught:
            load(key.private_text)
        assert key.private_text not in str(caught.value)


def test_a27_a_link_at_the_place_of_a_new_key_is_not_written_through(tmp_path):
    (tmp_path / "elsewhere").write_text("theirs")
    (tmp_path / "new.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="not overwritten"):
        SigningKey.generate("a").save(tmp_path / "new.key")
    assert (tmp_path / "elsewhere").read_text() == "theirs"


def test_canonical_envelopes_only():
    with pytest.raises(CanonicalError):
        open_signed(b" " + seal("t", b"x", ROOTS[:1]), "t", [ROOTS[0].verify_key])
