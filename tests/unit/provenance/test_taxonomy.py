"""A taxonomy is the customer's: signed by whom the keyring says, and read as it was signed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.credentials import KEYRING, OFFICER, STRANGER, clinic

from aqpolicy.errors import CanonicalError, InputError, ProvenanceError, SignatureError
from aqpolicy.provenance.taxonomy import TAXONOMY_TYPE, covers, load_taxonomy, open_taxonomy, seal_taxonomy
from aqpolicy.trust import Keyring, canonical_json, parse_canonical, seal


def test_a_taxonomy_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "clinic.taxonomy"
    path.write_bytes(seal_taxonomy(clinic(), [OFFICER]) + b"\n")
    taxonomy = load_taxonomy(path, KEYRING)
    assert taxonomy == clinic()
    assert taxonomy.ref == "clinic@1"
    found = taxonomy.find("chief")
    assert found is not None
    assert found.delegates
    assert taxonomy.find("nobody") is None


def test_only_the_role_taxonomy_signs_it() -> None:
    with pytest.raises(SignatureError, match="no trusted key"):
        open_taxonomy(seal_taxonomy(clinic(), [STRANGER]), KEYRING)
    wrong = Keyring.of([("policy-author", OFFICER.verify_key)])
    with pytest.raises(SignatureError, match="lists no key"):
        open_taxonomy(seal_taxonomy(clinic(), [OFFICER]), wrong)


def test_a_scope_covers_what_begins_with_it_word_by_word() -> None:
    assert covers(("nodule",), "nodule")
    assert covers(("report", "nodule"), "nodule.margin.left")
    assert not covers(("nodule",), "nodules")
    assert not covers(("nodule.margin",), "nodule")
    assert not covers((), "nodule")


@pytest.mark.parametrize(
    "change",
    [
        {"format": "aqpolicy taxonomy 2"},
        {"name": "a b"},
        {"version": 0},
        {"version": True},
        {"version": "1"},
        {"scopes": ["nodule", "nodule"]},
        {"scopes": ["nodule"]},
        {"scopes": ["No"]},
        {"classes": []},
        {"classes": [{"name": "a", "scopes": ["x"], "delegates": False}]},
        {"classes": [{"name": "a", "scopes": [], "delegates": False}] * 2},
        {"classes": [{"name": "a", "scopes": [], "delegates": 1}]},
        {"classes": [{"name": "a", "scopes": [], "delegates": False, "more": 1}]},
        {"more": None},
    ],
    ids=str,
)
def test_another_shape_is_refused_although_it_is_signed(change: dict[str, object]) -> None:
    facts = parse_canonical(clinic().to_payload())
    assert isinstance(facts, dict)
    data = seal(TAXONOMY_TYPE, canonical_json({**facts, **change}), [OFFICER])
    with pytest.raises(ProvenanceError, match="the taxonomy is wrong"):
        open_taxonomy(data, KEYRING)


@pytest.mark.parametrize("payload", [b"{}", b'{"version":1.5}', b'{"a":1,"a":2}', b"[" * 5000, b"\xff", b""])
def test_signed_bytes_that_are_no_taxonomy_are_refused(payload: bytes) -> None:
    with pytest.raises((ProvenanceError, CanonicalError)):
        open_taxonomy(seal(TAXONOMY_TYPE, payload, [OFFICER]), KEYRING)


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"{" * 300_000)
    with pytest.raises(ProvenanceError, match="too large"):
        load_taxonomy(tmp_path / "big", KEYRING)
    with pytest.raises(InputError, match="gone"):
        load_taxonomy(tmp_path / "gone", KEYRING)
