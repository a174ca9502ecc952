from __future__ import annotations

import hashlib

import pytest

from aqpolicy.errors import CanonicalError
from aqpolicy.trust import decode_base64, digest_text, encode_base64, example_key, sha256


def test_example_keys_are_a_named_digest():
    assert example_key("scan/1") == hashlib.sha256(b"aqpolicy example\x00scan/1").digest()[:16]
    assert len({example_key(name) for name in ("a", "b", "", "é")}) == 4


def test_an_id_with_a_lone_surrogate_has_no_key():
    with pytest.raises(CanonicalError):
        example_key("\ud800")


def test_a_digest_is_written_with_its_name():
    assert digest_text(sha256(b"")) == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("text", ["eA", "eB==", "e A=", "eA==\n", "_-8=", "é", "===="])
def test_base64_has_one_spelling(text):
    with pytest.raises(CanonicalError):
        decode_base64(text)
    assert decode_base64(encode_base64(b"x")) == b"x"
