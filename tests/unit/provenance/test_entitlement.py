"""A manifest's labels are entitled one by one, as the slow way says that checks every label for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.credentials import A_DAY, CA, HOLDERS, KEYRING, NOON, STRANGER, clinic, granted, listing, refused, sealed

from aqpolicy.errors import ProvenanceError
from aqpolicy.provenance import (
    Credential,
    Field,
    Manifest,
    Observation,
    Session,
    decode_manifest,
    encode_manifest,
    unentitled_examples,
)
from aqpolicy.provenance.credential import AnnotatorCredential
from aqpolicy.provenance.standing import CredentialChecker, Presented, Standing
from aqpolicy.trust import Keyring, SigningKey

ISSUER = SigningKey.from_seed("issuer", bytes(32))
ISSUERS = Keyring.of([("manifest-issuer", ISSUER.verify_key)])
FIRST = NOON - A_DAY // 2
"""The first second of January 2026."""
LAST = FIRST + 31 * A_DAY - 1


def signed(name: str, times: Sequence[int], envelope: bytes, authority: str = "reader") -> Session:
    """Return a session of labels that say that they were made at these times."""
    key = HOLDERS[name]
    labels = [
        Observation(f"{name}/{at}", bytes(32), bytes(32), name, time, {"tier": "gold"}) for at, time in enumerate(times)
    ]
    return Session(Credential(name, key.verify_key.text, "", authority, envelope), key, labels)


def manifest(*sessions: Session, taxonomy: str = "clinic@1") -> Manifest:
    data = encode_manifest("m", taxonomy, [Field("tier", "category", ("hint", "gold"))], sessions, ISSUER)
    return decode_manifest(data, ISSUERS)


def reasons(found: dict[str, Standing]) -> dict[str, str]:
    return {name: standing.reason for name, standing in found.items()}


def test_labels_under_valid_credentials_are_entitled() -> None:
    whole = manifest(*(signed(name, [FIRST, NOON, LAST], sealed(granted(name))) for name in "ab"))
    assert unentitled_examples(whole, clinic(), KEYRING, scopes=["nodule.margin"]) == {}


def test_labels_without_a_credential_are_not() -> None:
    whole = manifest(signed("a", [NOON], sealed(granted("a"))), signed("b", [NOON, NOON], b""))
    assert reasons(unentitled_examples(whole, clinic(), KEYRING)) == {"b/0": "no_credential", "b/1": "no_credential"}


def test_only_the_labels_outside_a_credentials_days_are_refused() -> None:
    whole = manifest(signed("a", [FIRST - 1, FIRST, LAST, LAST + 1], sealed(granted("a"))))
    assert reasons(unentitled_examples(whole, clinic(), KEYRING)) == {"a/0": "not_yet_valid", "a/3": "expired"}


def test_only_the_labels_from_the_second_of_a_revocation_on_are_refused() -> None:
    whole = manifest(signed("a", [NOON - 1, NOON, NOON + 1], sealed(granted("a"))))
    status = listing(refused("a", "left", NOON), refused("b"))
    found = unentitled_examples(whole, clinic(), KEYRING, status=status)
    assert reasons(found) == {"a/1": "revoked", "a/2": "revoked"}
    spared = listing(refused("a", "left", NOON, (whole.root.hex(),)))
    assert unentitled_examples(whole, clinic(), KEYRING, status=spared) == {}


def test_a_time_that_cannot_be_true_is_refused() -> None:
    whole = manifest(signed("a", [NOON - 1, NOON, NOON + 9, NOON + 10], sealed(granted("a"))))
    found = unentitled_examples(whole, clinic(), KEYRING, known=(NOON, NOON + 9))
    assert reasons(found) == {"a/0": "backdated", "a/3": "in_future"}


@pytest.mark.parametrize(
    ("credential", "issuer", "reason"),
    [
        (granted("a"), STRANGER, "unknown_issuer"),
        (granted("a", taxonomy="clinic@2"), CA, "other_taxonomy"),
        (granted("a", authority="chief"), CA, "other_class"),
        (granted("b"), CA, "other_credential"),
    ],
)
def test_a_credential_that_does_not_hold_entitles_to_nothing(
    credential: AnnotatorCredential, issuer: SigningKey, reason: str
) -> None:
    whole = manifest(signed("a", [NOON], sealed(credential, issuer)))
    assert reasons(unentitled_examples(whole, clinic(), KEYRING)) == {"a/0": reason}


def test_what_a_credential_does_not_cover_is_refused() -> None:
    whole = manifest(signed("a", [NOON], sealed(granted("a"))))
    assert reasons(unentitled_examples(whole, clinic(), KEYRING, scopes=["report"])) == {"a/0": "outside_scope"}


def test_an_issuer_that_signs_no_label_is_given_beside_the_manifest() -> None:
    chief = granted("c", authority="chief", scopes=("nodule",))
    whole = manifest(signed("a", [NOON], sealed(granted("a", issued_by="c"), HOLDERS["c"])))
    assert reasons(unentitled_examples(whole, clinic(), KEYRING)) == {"a/0": "unknown_issuer"}
    assert unentitled_examples(whole, clinic(), KEYRING, issuers=[sealed(chief)]) == {}


def test_a_taxonomy_that_the_manifest_does_not_name_is_an_error() -> None:
    whole = manifest(signed("a", [NOON], sealed(granted("a"))), taxonomy="clinic@2")
    with pytest.raises(ProvenanceError, match="names the taxonomy clinic@2, not clinic@1"):
        unentitled_examples(whole, clinic(), KEYRING)


TIMES = st.integers(FIRST - 2 * A_DAY, LAST + 2 * A_DAY) | st.sampled_from([0, 2**63 - 1, FIRST, LAST, NOON, NOON + 1])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(TIMES, min_size=1, max_size=8), min_size=1, max_size=3),
    st.lists(TIMES.filter(lambda at: at < 2**53), max_size=3),
    st.none() | st.tuples(TIMES, TIMES),
)
def test_labels_are_judged_as_if_each_were_checked_for_itself(
    times: list[list[int]], revoked: list[int], known: tuple[int, int] | None
) -> None:
    whole = manifest(*(signed(name, own, sealed(granted(name))) for name, own in zip("abc", times, strict=False)))
    status = listing(*(refused(name, "left", at) for name, at in zip("abc", revoked, strict=False)))
    slow = {}
    for index in range(whole.size):
        label = whole.observation(index)
        own = whole.credentials[label.credential]
        envelopes = [each.envelope for each in whole.credentials.values()]
        checker = CredentialChecker(clinic(), KEYRING, envelopes, status=status, manifest_root=whole.root, known=known)
        standing = checker.check(Presented(own.id, own.key, own.authority, own.envelope), label.observed_at)
        slow |= {} if standing.is_valid else {label.example_id: standing}
    assert unentitled_examples(whole, clinic(), KEYRING, status=status, known=known) == slow


def test_a_label_is_refused_by_its_own_session_only() -> None:
    one = signed("a", [NOON], sealed(granted("a")))
    other = replace(one, observations=[replace(one.observations[0], example_id="later", observed_at=LAST + 1)])
    assert reasons(unentitled_examples(manifest(one, other), clinic(), KEYRING)) == {"later": "expired"}
