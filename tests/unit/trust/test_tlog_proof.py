from __future__ import annotations

import pytest

from aqpolicy.errors import CanonicalError
from aqpolicy.trust import TlogProof, decode_tlog_proof, encode_base64, encode_tlog_proof

NODE = bytes(range(32))
TEXT = f"c2sp.org/tlog-proof@v1\nextra AQID\nindex 7\n{encode_base64(NODE)}\n\nexample.org/log\n".encode()


def test_the_text_is_that_of_the_standard():
    proof = TlogProof(7, (NODE,), b"example.org/log\n", b"\1\2\3")
    assert encode_tlog_proof(proof) == TEXT
    assert decode_tlog_proof(TEXT) == proof


def test_what_is_not_there_has_no_line():
    proof = TlogProof(0, (), b"note\n")
    text = b"c2sp.org/tlog-proof@v1\nindex 0\n\nnote\n"
    assert encode_tlog_proof(proof) == text
    assert decode_tlog_proof(text) == proof


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"@v1", b"@v2"),
        (b"c2sp", b"\xe2\x80\x94c2sp"),
        (b"extra AQID\n", b"extra \n"),
        (b"extra AQID\n", b"extra AQID=\n"),
        (b"extra AQID\n", b"extra AQIE\nextra AQID\n"),
        (b"extra AQID\n", b"extra  AQID\n"),
        (b"extra AQID\n", b"Extra AQID\n"),
        (b"AQID", b"AQI"),
        (b"AQID", b"AQJ="),
        (b"index 7", b"index 07"),
        (b"index 7", b"index +7"),
        (b"index 7", b"index -7"),
        (b"index 7", b"index 9223372036854775807"),
        (b"index 7", b"index 99999999999999999999"),
        (b"index 7\n", b""),
        (b"index 7", b"index  7"),
        (b"index 7", b"index \xd9\xa7"),
        (b"\n\n", b"\n"),
        (b"=\n", b"\n"),
        (b"=\n", b"=\r\n"),
        (encode_base64(NODE).encode(), encode_base64(NODE[:31]).encode()),
        (encode_base64(NODE).encode(), b"\n".join([encode_base64(NODE).encode()] * 64)),
        (encode_base64(NODE).encode(), b"\n".join([encode_base64(NODE).encode()] * 200)),
    ],
)
def test_another_spelling_is_refused(old, new):
    changed = TEXT.replace(old, new, 1)
    assert changed != TEXT
    with pytest.raises(CanonicalError):
        decode_tlog_proof(changed)


def test_a_text_that_is_too_long_is_refused_unread():
    with pytest.raises(CanonicalError, match="at most"):
        decode_tlog_proof(TEXT + bytes(4 * 1024 * 1024))
