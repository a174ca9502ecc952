"""A17: keys under which anyone can sign, and second spellings of keys and signatures that hold."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import pytest
from attacks.A17_loose_signatures.loose_ed25519 import TOP, L, P, decoded, loose_open, times
from nacl.exceptions import CryptoError
from support.attacking import denied, put_in_place, refused, unnoticed
from support.lineage_runs import KEY

from aqpolicy.errors import KeyFormatError, SignatureError
from aqpolicy.trust import VerifyKey, canonical_json, decode_base64, encode_base64, keys, sha256
from aqpolicy.trust.keyring_file import parse_keyring
from aqpolicy.trust.keys import _check_point

# ---- keys


def spelt(number: int) -> bytes:
    return number.to_bytes(32, "little")


def on_curve(number: int) -> bool:
    try:
        return bool(decoded(spelt(number)))
    except CryptoError:
        return False


EIGHTH: Final = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
CANONICAL: Final = (1, P - 1, 0, TOP, EIGHTH, EIGHTH + TOP, P - EIGHTH, P - EIGHTH + TOP)
"""The points whose order divides 8."""
SMALL: Final = tuple(map(spelt, (*CANONICAL, P, P + 1, P + TOP, P + 1 + TOP, 1 + TOP, P - 1 + TOP)))
"""They, and every other spelling of them in 32 bytes."""
RESPELT: Final = tuple(spelt(P + more) for more in range(2, 19) if on_curve(P + more))
"""Other spellings of points that are not of small order."""
OFF_CURVE: Final = next(spelt(y) for y in range(2, 99) if not on_curve(y))


def text_of(public: bytes) -> str:
    """Return the text form of any bytes as a key."""
    body = b"\x01" + public
    return f"x+{sha256(b'x' + bytes([10]) + body)[:4].hex()}+{encode_base64(body)}"


def test_the_lists_are_what_they_are_said_to_be() -> None:
    for public in SMALL:
        assert times(8, decoded(public)) == (0, 1)
    assert len(set(SMALL)) == 14
    assert len({decoded(public) for public in SMALL}) == 8
    assert RESPELT
    assert parse_keyring(canonical_json({"keys": [{"key": text_of(KEY.verify_key.public), "role": "log"}]}))


@pytest.mark.parametrize("public", [*SMALL, *RESPELT, OFF_CURVE], ids=bytes.hex)
def test_such_a_key_does_not_get_into_a_keyring(public: bytes) -> None:
    said = "not a point of the curve" if public == OFF_CURVE else "of small order or not canonical"
    said = "a public key is " if public in RESPELT else said
    file = canonical_json({"keys": [{"key": text_of(public), "role": "log"}]})
    denied(lambda: parse_keyring(file), KeyFormatError, said)
    denied(lambda: VerifyKey("x", public), KeyFormatError, said)


@pytest.mark.parametrize("public", SMALL[:4], ids=bytes.hex)
def test_without_both_guards_one_signature_holds_for_any_message(
    public: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place(monkeypatch, _check_point, lambda _: None)
    (key,) = parse_keyring(canonical_json({"keys": [{"key": text_of(public), "role": "log"}]})).keys("log")
    forged = spelt(1) + bytes(32)  # R is the identity, S is 0
    messages = [b"%d" % number for number in range(40)]
    for message in messages:
        denied(lambda message=message: key.verify(forged, message), SignatureError, "the bytes were altered")
    monkeypatch.setattr(keys, "crypto_sign_open", loose_open)
    assert sum(holds(key, forged, message) for message in messages) >= (40 if public == spelt(1) else 3)


# ---- signatures


def holds(key: VerifyKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except SignatureError:
        return False
    return True


def respelt(signature: bytes, multiple: int = 1) -> bytes:
    """Return the signature with another number in the place of S that is the same modulo the order."""
    return signature[:32] + spelt(int.from_bytes(signature[32:], "little") + multiple * L)


def test_a_second_spelling_of_s(monkeypatch: pytest.MonkeyPatch) -> None:
    key, signature = KEY.verify_key, KEY.sign(b"message")
    forms = [respelt(signature, multiple) for multiple in (1, 2, 7, 15)]
    for form in forms:
        denied(lambda form=form: key.verify(form, b"message"), SignatureError, "the bytes were altered")
    monkeypatch.setattr(keys, "crypto_sign_open", loose_open)
    assert all(holds(key, form, b"message") for form in (signature, *forms))
    assert not holds(key, signature, b"another message")


def test_a_second_spelling_of_r(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = int.from_bytes(hashlib.sha512(bytes(range(32))).digest()[:32], "little") & ((1 << 254) - 8) | 1 << 254
    first = spelt(P + 1)  # R is the identity, so that the signature gives the key away, and is the key's all the same
    challenge = int.from_bytes(hashlib.sha512(first + KEY.verify_key.public + b"message").digest(), "little")
    form = first + spelt(challenge * secret % L)
    denied(lambda: KEY.verify_key.verify(form, b"message"), SignatureError, "the bytes were altered")
    monkeypatch.setattr(keys, "crypto_sign_open", loose_open)
    assert holds(KEY.verify_key, form, b"message")


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 128])
def test_a_signature_of_another_length(length: int) -> None:
    denied(lambda: KEY.verify_key.verify(bytes(length), b"message"), SignatureError, "has the wrong length")


def test_a_log_whose_head_has_a_second_spelling_of_its_signature(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = copy / "head.note"
    text, _, line = head.read_text().partition("\n\n")
    data = decode_base64(line.split()[-1])
    head.write_text(f"{text}\n\n— {KEY.name} {encode_base64(data[:4] + respelt(data[4:]))}\n")
    refused(copy, SignatureError, "the bytes were altered")
    monkeypatch.setattr(keys, "crypto_sign_open", loose_open)
    unnoticed(copy)
