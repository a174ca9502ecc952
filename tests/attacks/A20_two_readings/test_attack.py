"""A20: signed JSON that two readers read differently: one key twice, escaped, or in another case."""

from __future__ import annotations

import json

import pytest
from support.attacking import put_in_place
from support.lineage_runs import KEYRING

from aqpolicy.errors import AqpolicyError, CanonicalError, CorruptLogError
from aqpolicy.lineage.entry import decode_facts
from aqpolicy.trust import canonical, parse_keyring

TWICE = b'{"share":0,"share":1}'
ESCAPED = b'{"sh\\u0061re":0,"share":1}'
SPELT = b'{"sh\\u0061re":1}'


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (TWICE, "one key twice"),
        (ESCAPED, "one key twice"),
        (SPELT, "not the canonical form"),
        (b'{"a": 1}', "not the canonical form"),
    ],
)
def test_bytes_have_one_reading_or_none(data: bytes, said: str) -> None:
    with pytest.raises(CanonicalError, match=said):
        canonical.parse_canonical(data)
    with pytest.raises(CorruptLogError):
        decode_facts(data)


def test_without_the_look_at_keys_the_last_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(monkeypatch, canonical._object, dict)
    with pytest.raises(CanonicalError, match="not the canonical form"):  # the second guard
        canonical.parse_canonical(TWICE)
    put_in_place(monkeypatch, canonical.canonical_json, lambda value: TWICE if value == {"share": 1} else b"")
    assert canonical.parse_canonical(TWICE) == json.loads(TWICE) == {"share": 1}


def test_a_key_that_nobody_knows_is_refused() -> None:
    facts = json.loads(KEYRING.to_bytes())
    for more in ({"Keys": facts["keys"]}, {"quorum": 0}):
        with pytest.raises(AqpolicyError):
            parse_keyring(canonical.canonical_json(facts | more) + b"\n")
    assert parse_keyring(canonical.canonical_json(facts) + b"\n").keys("log") == KEYRING.keys("log")
