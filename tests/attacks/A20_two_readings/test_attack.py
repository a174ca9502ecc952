"""A20: signed JSON that two readers read differently: one key twice, escaped, or in another case."""

from __future__ import annotations

import json

import pytest
from support.attacking import denied, take_away
from support.lineage_runs import KEY, KEYRING

from aqpolicy.errors import CanonicalError, CorruptLogError, KeyFormatError
from aqpolicy.lineage.entry import decode_facts
from aqpolicy.trust import canonical, encode_base64, keyring_file, open_envelope, parse_keyring, seal

TWICE = b'{"share":0,"share":1}'
KEYS, FORM = "an object has one key twice", "the bytes are not the canonical form of the value that they hold"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (TWICE, KEYS),
        (b'{"sh\\u0061re":0,"share":1}', KEYS),
        (b'{"sh\\u0061re":1}', FORM),
        (b'{"a": 1}', FORM),
        (b'{"b":1,"a":2}', FORM),
        (b'{"a":1}\n', FORM),
        (b'\xef\xbb\xbf{"a":1}', "the bytes are not JSON that can be read"),
    ],
)
def test_bytes_have_one_reading_or_none(data: bytes, said: str) -> None:
    denied(lambda: canonical.parse_canonical(data), CanonicalError, said)
    denied(lambda: decode_facts(data), CorruptLogError, f"the entry holds no canonical JSON: {said}")


def test_an_envelope_with_two_payloads(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed, shown = seal("t", b"signed", [KEY]), encode_base64(b"shown")
    data = b'{"payload":"%s",' % shown.encode() + sealed[1:]
    first = dict(reversed(json.loads(data, object_pairs_hook=list)))  # what a reader sees to whom the first one counts
    assert first["payload"] == shown

    def opened() -> bytes:
        return open_envelope(data, "t", [KEY.verify_key])

    denied(opened, CanonicalError, KEYS)
    take_away(monkeypatch, canonical._object, KEYS)
    denied(opened, CanonicalError, FORM)
    take_away(monkeypatch, canonical.parse_canonical, FORM)
    assert opened() == b"signed"


@pytest.mark.parametrize("more", [{"Keys": []}, {"quorum": 0}, {"keys ": []}])
def test_a_key_that_nobody_knows(monkeypatch: pytest.MonkeyPatch, more: dict[str, object]) -> None:
    facts = json.loads(KEYRING.to_bytes())
    assert parse_keyring(canonical.canonical_json(facts) + b"\n") == KEYRING
    data = canonical.canonical_json(facts | more) + b"\n"
    denied(lambda: parse_keyring(data), KeyFormatError, "a keyring has the form")
    entry = {**facts["keys"][0], "Role": "root"}
    data = canonical.canonical_json({"keys": [entry]}) + b"\n"
    denied(lambda: parse_keyring(data), KeyFormatError, "an entry of the keyring has `key`, `role`")
    take_away(monkeypatch, keyring_file._entry, "an entry of the keyring has")
    assert parse_keyring(data) == KEYRING
