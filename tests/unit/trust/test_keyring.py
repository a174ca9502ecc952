from __future__ import annotations

import pytest

from aqpolicy.errors import InputError, KeyFormatError
from aqpolicy.trust import Keyring, SigningKey, canonical_json, load_keyring, parse_keyring

KEY = SigningKey.from_seed("a", bytes(range(32))).verify_key
OTHER = SigningKey.from_seed("b", bytes(range(1, 33))).verify_key


def test_a_key_counts_for_its_role_only():
    keyring = Keyring.of([("log", KEY), ("policy-author", OTHER)])
    assert keyring.keys("log") == (KEY,)
    assert keyring.keys("policy-author") == (OTHER,)
    assert keyring.keys("manifest-issuer") == ()


def test_a_keyring_survives_its_file(tmp_path):
    keyring = Keyring.of([("log", KEY), ("log", OTHER), ("annotator", KEY)])
    keyring.save(tmp_path / "keyring.json")
    assert load_keyring(tmp_path / "keyring.json") == keyring


def test_a_key_can_be_added_once():
    keyring = Keyring.of([("log", KEY)]).with_key("log", OTHER)
    assert keyring.keys("log") == (KEY, OTHER)
    with pytest.raises(KeyFormatError, match="twice"):
        keyring.with_key("log", KEY)


def test_the_file_may_end_without_a_line_end():
    assert parse_keyring(Keyring.of([("log", KEY)]).to_bytes().rstrip()).keys("log") == (KEY,)


@pytest.mark.parametrize("empty", [b'{"keys":[]}', b'{"keys":[]}\n'])
def test_an_empty_keyring_is_an_error_and_never_trust_in_anyone(empty):
    with pytest.raises(KeyFormatError, match="empty"):
        parse_keyring(empty)
    with pytest.raises(KeyFormatError, match="empty"):
        Keyring({"log": ()})


def test_one_key_under_two_names_counts_once():
    renamed = type(KEY)("another-name", KEY.public)
    with pytest.raises(KeyFormatError, match="twice"):
        Keyring.of([("log", KEY), ("log", renamed)])


@pytest.mark.parametrize("role", ["", "Log", "log ", "-log", "lo\ng"])
def test_a_misspelt_role_is_refused(role):
    with pytest.raises(KeyFormatError, match="role"):
        Keyring.of([(role, KEY)])


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"keys": {}},
        {"keys": [1]},
        {"keys": [{"key": KEY.text}]},
        {"keys": [{"key": KEY.text, "role": "log", "note": "x"}]},
        {"keys": [{"key": 1, "role": "log"}]},
        {"keys": [{"key": KEY.text, "role": ["log"]}]},
        {"keys": [{"key": "nonsense", "role": "log"}]},
        {"keys": [], "more": 1},
    ],
    ids=str,
)
def test_another_shape_is_refused(value):
    with pytest.raises(KeyFormatError):
        parse_keyring(canonical_json(value))


def test_a_missing_keyring_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.json"):
        load_keyring(tmp_path / "gone.json")
