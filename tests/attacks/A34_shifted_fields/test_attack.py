"""A34: bytes that belong to one field are read as the next one's, or to one type of statement as another's."""

from __future__ import annotations

import pytest
from support.attacking import denied, put_in_place, take_away
from support.lineage_runs import KEY

from aqpolicy.errors import CanonicalError, SignatureError
from aqpolicy.trust import cursor, envelope, example_key, merkle, seal, sha256

ONE, OTHER = "application/vnd.aqpolicy.a+json;version=1", "application/vnd.aqpolicy.a+json;version=1 2"


def test_type_and_payload_cannot_change_places(monkeypatch: pytest.MonkeyPatch) -> None:
    assert envelope.pre_authentication(ONE, b"2 x") != envelope.pre_authentication(OTHER, b" x")
    sealed = seal(ONE, b'{"a":1}', [KEY])
    said = f"the envelope is not of the type `{OTHER}`"
    denied(lambda: envelope.open_envelope(sealed, OTHER, [KEY.verify_key]), CanonicalError, said)
    renamed = sealed.replace(ONE.encode(), OTHER.encode())
    with pytest.raises(SignatureError, match="altered"):
        envelope.open_envelope(renamed, OTHER, [KEY.verify_key])
    put_in_place(monkeypatch, envelope.pre_authentication, lambda kind, payload: payload)
    renamed = seal(ONE, b'{"a":1}', [KEY]).replace(ONE.encode(), OTHER.encode())
    assert envelope.open_envelope(renamed, OTHER, [KEY.verify_key]) == b'{"a":1}'


def test_a_leaf_is_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = merkle.leaf_hash(b"a"), merkle.leaf_hash(b"b")
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)
    monkeypatch.setattr(merkle, "leaf_hash", sha256)
    monkeypatch.setattr(merkle, "node_hash", lambda one, other: sha256(one + other))
    assert merkle.leaf_hash(left + right) == merkle.node_hash(left, right)


def test_an_examples_key_is_no_other_digest() -> None:
    assert example_key("a") != sha256(b"a")[:16]


def test_fields_end_where_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    data = cursor.sized(b"ab", 2) + cursor.sized(b"c", 2)
    assert data != cursor.sized(b"a", 2) + cursor.sized(b"bc", 2)
    taken = cursor.Cursor(data + b"more", "proof")
    assert (taken.sized(2), taken.sized(2)) == (b"ab", b"c")
    denied(taken.finish, CanonicalError, "the proof goes on behind its end")
    take_away(monkeypatch, cursor.Cursor.finish, "goes on behind its end")
    taken.finish()
