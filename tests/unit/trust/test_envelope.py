from __future__ import annotations

import json

import pytest

from aqpolicy.errors import CanonicalError, SignatureError
from aqpolicy.trust import SigningKey, canonical_json, encode_base64, open_envelope, pre_authentication, seal

ALICE = SigningKey.from_seed("alice", bytes(range(32)))
BOB = SigningKey.from_seed("bob", bytes(range(1, 33)))
KIND = "application/vnd.example+json"


def test_pre_authentication_is_that_of_dsse():
    # dsse protocol.md, the worked example.
    assert (
        pre_authentication("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pre_authentication("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


def test_the_payload_comes_back_when_a_trusted_key_signed():
    envelope = seal(KIND, b"\x00payload", [ALICE, BOB])
    assert open_envelope(envelope, KIND, [ALICE.verify_key]) == b"\x00payload"
    assert open_envelope(envelope, KIND, [BOB.verify_key, ALICE.verify_key]) == b"\x00payload"


def test_nobody_trusted_means_nothing_opens():
    with pytest.raises(SignatureError, match="lists no key"):
        open_envelope(seal(KIND, b"x", [ALICE]), KIND, [])


def test_a_signature_by_a_stranger_does_not_count():
    with pytest.raises(SignatureError, match="alice"):
        open_envelope(seal(KIND, b"x", [ALICE]), KIND, [BOB.verify_key])


def test_a_stranger_that_takes_a_trusted_name_does_not_count():
    with pytest.raises(SignatureError, match="no trusted key"):
        open_envelope(seal(KIND, b"x", [SigningKey.from_seed("alice", bytes(32))]), KIND, [ALICE.verify_key])


def test_a_signature_for_one_purpose_is_worthless_for_another():
    envelope = seal(KIND, b"x", [ALICE])
    with pytest.raises(CanonicalError, match="type"):
        open_envelope(envelope, "application/other", [ALICE.verify_key])
    relabelled = envelope.replace(KIND.encode(), b"application/other")
    with pytest.raises(SignatureError):
        open_envelope(relabelled, "application/other", [ALICE.verify_key])


def test_one_failing_signature_of_a_trusted_key_condemns_the_envelope():
    value = json.loads(seal(KIND, b"x", [ALICE, BOB]))
    value["signatures"][1]["sig"] = value["signatures"][0]["sig"]
    with pytest.raises(SignatureError, match="bob"):
        open_envelope(canonical_json(value), KIND, [ALICE.verify_key, BOB.verify_key])


def test_signers_are_one_to_sixteen_and_distinct():
    for signers in ([], [ALICE] * 17, [ALICE, ALICE]):
        with pytest.raises(SignatureError):
            seal(KIND, b"x", signers)


@pytest.mark.parametrize("at", range(0, 60, 1))
def test_no_flipped_byte_goes_unnoticed(at):
    envelope = bytearray(seal(KIND, b"some payload", [ALICE]))
    envelope[at * len(envelope) // 60] ^= 1
    with pytest.raises((SignatureError, CanonicalError)):
        open_envelope(bytes(envelope), KIND, [ALICE.verify_key])


def changed(**members):
    value = json.loads(seal(KIND, b"x", [ALICE])) | members
    return canonical_json({name: member for name, member in value.items() if member is not ...})


GOOD = {"keyid": "k", "sig": encode_base64(bytes(64))}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        changed(extra=1),
        changed(payload=...),
        changed(payload=1),
        changed(payload="eA"),
        changed(payload="eB=="),
        changed(payload="e A="),
        changed(payload="_-=="),
        changed(payloadType=1),
        changed(signatures=[]),
        changed(signatures={}),
        changed(signatures=[GOOD | {"keyid": str(n)} for n in range(17)]),
        changed(signatures=[GOOD, GOOD]),
        changed(signatures=[{"sig": GOOD["sig"]}]),
        changed(signatures=[GOOD | {"keyid": 1}]),
        changed(signatures=[GOOD | {"sig": "eA=="}]),
        changed(signatures=[GOOD | {"more": 1}]),
        changed(signatures=["x"]),
    ],
)
def test_another_shape_is_refused(data):
    with pytest.raises(CanonicalError):
        open_envelope(data, KIND, [ALICE.verify_key])


def test_names_of_strangers_are_shown_without_control_characters():
    data = changed(signatures=[GOOD | {"keyid": "\x1b[31m\u202eevil" + "x" * 500}])
    with pytest.raises(SignatureError) as caught:
        open_envelope(data, KIND, [ALICE.verify_key])
    assert str(caught.value).isascii()
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 250
