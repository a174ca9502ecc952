"""Keys and keyrings as an attacker would write them."""

from __future__ import annotations

import pytest

from aqpolicy.errors import KeyFormatError
from aqpolicy.trust import (
    SigningKey,
    VerifyKey,
    canonical_json,
    encode_base64,
    load_keyring,
    load_verify_key,
    parse_keyring,
    sha256,
)

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
