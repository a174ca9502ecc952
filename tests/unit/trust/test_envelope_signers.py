"""Who signed an envelope, how many must, and further signatures on one that is there."""

from __future__ import annotations

import json

import pytest

from aqpolicy.errors import CanonicalError, SignatureError
from aqpolicy.trust import SigningKey, add_signatures, open_envelope, open_signed, seal

ALICE = SigningKey.from_seed("alice", bytes(range(32)))
BOB = SigningKey.from_seed("bob", bytes(range(1, 33)))
KIND = "application/vnd.example+json"
MANY = [SigningKey.from_seed(f"k{n}", bytes([n]) * 32) for n in range(17)]


def test_signers_and_strangers_are_told_apart():
    opened = open_signed(seal(KIND, b"x", [ALICE, BOB]), KIND, [BOB.verify_key])
    assert opened.payload == b"x"
    assert opened.signers == (BOB.verify_key,)
    assert opened.strangers == (ALICE.verify_key.label,)


def test_a_threshold_counts_only_trusted_keys():
    envelope = seal(KIND, b"x", [ALICE, BOB])
    assert open_signed(envelope, KIND, [ALICE.verify_key, BOB.verify_key], 2).payload == b"x"
    with pytest.raises(SignatureError, match="2 trusted keys must sign"):
        open_signed(envelope, KIND, [ALICE.verify_key], 2)


def test_a_further_signature_is_as_if_it_had_been_there_from_the_start():
    assert add_signatures(seal(KIND, b"x", [ALICE]), KIND, [BOB]) == seal(KIND, b"x", [ALICE, BOB])


def test_a_strangers_label_cannot_act_on_a_terminal():
    value = json.loads(seal(KIND, b"x", [ALICE, BOB]))
    value["signatures"][0]["keyid"] = "\x1b[31m"
    data = json.dumps(value, separators=(",", ":"), sort_keys=True).replace("\\u001b", "\\u001b").encode()
    assert open_signed(data, KIND, [BOB.verify_key]).strangers == ("\\x1b[31m",)


def test_nobody_signs_twice_and_not_too_many_sign():
    envelope = seal(KIND, b"x", [ALICE])
    with pytest.raises(SignatureError, match="has signed this"):
        add_signatures(envelope, KIND, [ALICE])
    with pytest.raises(SignatureError, match="has signed this"):
        add_signatures(envelope, KIND, [BOB, BOB])
    with pytest.raises(SignatureError, match="at most 16"):
        add_signatures(envelope, KIND, MANY)


def test_further_signatures_save_no_broken_one():
    value = json.loads(seal(KIND, b"x", [ALICE, BOB]))
    value["signatures"][0]["sig"] = value["signatures"][1]["sig"]
    data = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    signed = add_signatures(data, KIND, MANY[:1])
    with pytest.raises(SignatureError, match="alice"):
        open_envelope(signed, KIND, [ALICE.verify_key, MANY[0].verify_key])


def test_only_an_envelope_of_the_type_is_signed():
    with pytest.raises(CanonicalError, match="type"):
        add_signatures(seal("application/other", b"x", [ALICE]), KIND, [BOB])
