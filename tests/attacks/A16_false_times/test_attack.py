"""A16: labels that say that they were made before or after they can have been, to stand under a credential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support.attacking import put_in_place, take_away
from support.credentials import A_DAY, HOLDERS, KEYRING, NOON, clinic, granted, listing, refused, sealed

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
from aqpolicy.provenance.entitlement import _moments
from aqpolicy.provenance.standing import CredentialChecker
from aqpolicy.trust import Keyring, SigningKey

ISSUER = SigningKey.from_seed("issuer", bytes(32))
ISSUERS = Keyring.of([("manifest-issuer", ISSUER.verify_key)])
LAST = NOON + 30 * A_DAY
"""Noon of the last day of the credential."""


def labels(*times: int, name: str = "a") -> Manifest:
    """Return a signed manifest of labels that say that they were made at these times."""
    key = HOLDERS[name]
    made = [Observation(f"e{at}", bytes(32), bytes(32), name, time, {"tier": "gold"}) for at, time in enumerate(times)]
    session = Session(Credential(name, key.verify_key.text, "", "reader", sealed(granted(name))), key, made)
    data = encode_manifest("m", "clinic@1", [Field("tier", "category", ("hint", "gold"))], [session], ISSUER)
    return decode_manifest(data, ISSUERS)


def judged(times: Sequence[int], **more: Any) -> dict[str, str]:
    """Return the labels that count for nothing, and why."""
    found = unentitled_examples(labels(*times), clinic(), KEYRING, **more)
    return {name: standing.reason for name, standing in found.items()}


def test_work_of_after_the_end_is_not_dated_back_into_the_time_of_the_credential(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    february = LAST + 5 * A_DAY
    known = (february, february + A_DAY)  # heads of the log before and after the labels came
    assert judged([february], known=known) == {"e0": "expired"}
    assert judged([LAST], known=known) == {"e0": "backdated"}
    take_away(monkeypatch, CredentialChecker._check_time, "backdated")
    assert judged([LAST], known=known) == {}


def test_work_of_before_the_begin_is_not_dated_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    december = NOON - 9 * A_DAY
    known = (december - A_DAY, december)
    assert judged([december], known=known) == {"e0": "not_yet_valid"}
    assert judged([NOON], known=known) == {"e0": "in_future"}
    take_away(monkeypatch, CredentialChecker._check_time, "in_future")
    assert judged([NOON], known=known) == {}


@pytest.mark.parametrize("kind", ["left", "superseded"])
def test_work_of_after_a_revocation_is_not_dated_back_before_it(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    end = NOON + 5 * A_DAY
    status, known = listing(refused("a", kind, from_s=end)), (end + 1, end + 9)
    assert judged([end + 5], status=status, known=known) == {"e0": "revoked"}
    assert judged([end - 1], status=status, known=known) == {"e0": "backdated"}
    take_away(monkeypatch, CredentialChecker._check_time, "backdated")
    assert judged([end - 1], status=status, known=known) == {}


def test_the_thief_of_a_key_cannot_date_back_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    status = listing(refused("a", "compromised"))
    assert judged([NOON], status=status) == {"e0": "revoked"}
    take_away(monkeypatch, CredentialChecker._check_moment, "is revoked for this time")
    assert judged([NOON], status=status) == {}


def test_both_ends_count_to_the_second_and_one_false_time_does_not_hide_behind_a_true_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, times = (NOON, NOON + 9), [NOON, NOON - 1, NOON + 9, NOON + 10]
    for order in (times, times[::-1], times[1:] + times[:1]):
        found = judged(order, known=known)
        assert found == {f"e{order.index(NOON - 1)}": "backdated", f"e{order.index(NOON + 10)}": "in_future"}
    put_in_place(monkeypatch, _moments, lambda *_: [])  # a credential is then checked once a day
    assert judged(times, known=known) == {}


@pytest.mark.parametrize(("at", "reason"), [(0, "not_yet_valid"), (2**62, "expired"), (2**63 - 1, "expired")])
def test_times_beyond_the_calendar_have_a_reason_too(monkeypatch: pytest.MonkeyPatch, at: int, reason: str) -> None:
    assert judged([at]) == {"e0": reason}
    word = "is valid from" if reason == "not_yet_valid" else "was valid until"
    take_away(monkeypatch, CredentialChecker._check_moment, word)
    assert judged([at]) == {}
