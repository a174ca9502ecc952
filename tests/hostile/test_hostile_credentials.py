"""Credentials, taxonomies and status lists as an attacker would write, time or withhold them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.credentials import (
    A_DAY,
    CA,
    HOLDERS,
    KEYRING,
    LOG,
    NOON,
    OFFICER,
    STRANGER,
    clinic,
    granted,
    listing,
    presented,
    refused,
    sealed,
)

from aqpolicy.errors import CanonicalError, ProvenanceError, SignatureError
from aqpolicy.provenance.credential import CREDENTIAL_TYPE, peek_credential
from aqpolicy.provenance.standing import check_credentials
from aqpolicy.provenance.status import STATUS_TYPE, open_status_list, seal_status_list
from aqpolicy.provenance.taxonomy import TAXONOMY_TYPE, open_taxonomy, seal_taxonomy
from aqpolicy.trust import canonical_json, parse_canonical, seal

A = granted("a")
REFUSED = (ProvenanceError, SignatureError, CanonicalError)


def reason(shown, at=NOON, **more):
    return check_credentials([shown], clinic(), KEYRING, at, **more)[shown.id].reason


def test_a15_a_revoked_credential_is_refused_and_would_pass_without_the_list():
    work = NOON + 5 * A_DAY
    for entry in (refused("a"), refused("a", "error"), refused("a", "left", work), refused("a", "superseded", work)):
        assert reason(presented(A), work, status=listing(entry)) == "revoked"
    assert reason(presented(A), work) == "valid"


def test_a15_the_thief_of_a_key_gains_nothing_by_an_early_date():
    stolen, left = listing(refused("a", "compromised")), listing(refused("a", "left", NOON + A_DAY))
    assert reason(presented(A), NOON, status=stolen) == "revoked"
    assert reason(presented(A), NOON, status=left) == "valid"  # what a rule by declared dates alone would say of both


def test_a15_an_old_list_is_told_from_a_new_one():
    old, new = listing(serial=1, issued_on="2026-01-01"), listing(refused("a"), serial=2, issued_on="2026-01-09")
    for each in (old, new):
        assert open_status_list(seal_status_list(each, [LOG]), KEYRING) == each  # both are signed as they must be
    assert reason(presented(A), status=old) == "valid"  # and the old one refuses nobody
    with pytest.raises(ProvenanceError, match="is older than list 2"):
        old.refuse_older(new.serial)
    with pytest.raises(ProvenanceError, match="at most 7 days old"):
        old.refuse_stale(date(2026, 1, 9), 7)
    new.refuse_stale(date(2026, 1, 9), 7)


@pytest.mark.parametrize("key", [CA, OFFICER, STRANGER, HOLDERS["a"]])
def test_a15_nobody_else_takes_a_name_off_the_list(key):
    with pytest.raises(SignatureError, match="no trusted key"):
        open_status_list(seal_status_list(listing(), [key]), KEYRING)


@pytest.mark.parametrize(("known", "word"), [((NOON + 1, NOON + 9), "backdated"), ((NOON - 9, NOON - 1), "in_future")])
def test_a16_a_date_at_which_the_work_cannot_have_been_done_is_seen(known, word):
    assert reason(presented(A), known=known) == word
    assert reason(presented(A)) == "valid"
    assert reason(presented(A), known=(NOON, NOON)) == "valid"


def test_a_class_and_scopes_cannot_be_written_into_a_credential():
    value = parse_canonical(sealed(A))
    facts = parse_canonical(A.to_payload())
    assert isinstance(value, dict)
    assert isinstance(facts, dict)
    raised = {**facts, "authority": "chief", "scopes": ["nodule", "report"]}
    from aqpolicy.trust import encode_base64

    forged = canonical_json({**value, "payload": encode_base64(canonical_json(raised))})
    assert peek_credential(forged)[0].authority == "chief"  # who believes the payload believes the forger
    assert reason(replace(presented(A, forged), authority="chief"), scopes=["report"]) == "bad_signature"


def test_a_holder_grants_nothing_without_the_right_to_delegate():
    child = granted("b", issued_by="a")
    assert reason(presented(child, sealed(child, HOLDERS["a"])), issuers=[sealed(A)]) == "not_delegated"


def test_a_second_credential_of_an_issuers_id_does_not_choose_the_issuers_key():
    chief = granted("b", authority="chief")
    child = granted("a", issued_by="b")
    usurper = granted("b", authority="chief", key=HOLDERS["c"].verify_key.text)
    shown = presented(child, sealed(child, HOLDERS["c"]))
    assert reason(shown, issuers=[sealed(chief), sealed(usurper, STRANGER)]) == "unknown_issuer"
    assert reason(shown, issuers=[sealed(usurper, STRANGER)]) == "unknown_issuer"
    assert reason(shown, issuers=[sealed(usurper)]) == "valid"


@pytest.mark.parametrize("kind", [CREDENTIAL_TYPE, TAXONOMY_TYPE, STATUS_TYPE])
def test_a_document_of_one_kind_is_none_of_another(kind):
    readers = {
        CREDENTIAL_TYPE: peek_credential,
        TAXONOMY_TYPE: lambda data: open_taxonomy(data, KEYRING),
        STATUS_TYPE: lambda data: open_status_list(data, KEYRING),
    }
    documents = {
        CREDENTIAL_TYPE: sealed(A),
        TAXONOMY_TYPE: seal_taxonomy(clinic(), [OFFICER]),
        STATUS_TYPE: seal_status_list(listing(), [LOG]),
    }
    for name, read in readers.items():
        if name == kind:
            read(documents[kind])
        else:
            with pytest.raises(CanonicalError, match="not of the type"):
                read(documents[kind])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_other_bytes_raise_nothing_but_our_errors(data, is_signed):
    for kind, key, read in (
        (CREDENTIAL_TYPE, CA, peek_credential),
        (TAXONOMY_TYPE, OFFICER, lambda data: open_taxonomy(data, KEYRING)),
        (STATUS_TYPE, LOG, lambda data: open_status_list(data, KEYRING)),
    ):
        with pytest.raises(REFUSED):
            read(seal(kind, data, [key]) if is_signed else data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*A.model_dump()]), JSON)
def test_any_member_may_be_anything_and_the_outcome_is_a_reason(name, value):
    facts = parse_canonical(A.to_payload())
    assert isinstance(facts, dict)
    try:
        data = seal(CREDENTIAL_TYPE, canonical_json({**facts, name: value}), [CA])
    except CanonicalError:
        return  # a lone surrogate has no canonical form
    found = reason(presented(A, data))
    assert found == "valid" or value != facts[name]


@pytest.mark.parametrize("data", [b"{" * 10**6, b"[" * 200_000, b" " * 10**6, b'"' + b"a" * 10**6])
def test_large_bytes_are_refused_before_they_are_read(data):
    for read in (
        peek_credential,
        lambda data: open_taxonomy(data, KEYRING),
        lambda data: open_status_list(data, KEYRING),
    ):
        with pytest.raises(REFUSED):
            read(data)
