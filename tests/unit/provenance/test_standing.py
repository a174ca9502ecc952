"""What a credential is worth: every outcome with its reason, in the fixed order of the checks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.credentials import (
    A_DAY,
    CA,
    HOLDERS,
    KEYRING,
    NOON,
    STRANGER,
    clinic,
    granted,
    listing,
    presented,
    refused,
    sealed,
)

from aqpolicy.errors import ProvenanceError
from aqpolicy.provenance.credential import AnnotatorCredential, new_credential, peek_credential
from aqpolicy.provenance.standing import CHECKS, Presented, Standing, check_credentials
from aqpolicy.trust import Keyring, Retired, canonical_json, parse_canonical, seal


def standing(shown: Presented, at: int = NOON, **more: Any) -> Standing:
    taxonomy, keyring = more.pop("taxonomy", clinic()), more.pop("keyring", KEYRING)
    return check_credentials([shown], taxonomy, keyring, at, **more)[shown.id]


def chief(name: str = "b", **changes: Any) -> AnnotatorCredential:
    return granted(name, **{"authority": "chief", "scopes": ("nodule", "report"), **changes})


def test_an_honest_credential_passes_all_four_checks() -> None:
    found = standing(presented(granted("a")), scopes=["nodule.margin"])
    assert found == Standing("a", "valid", CHECKS)
    assert found.is_valid


def test_a_credential_may_come_through_others() -> None:
    child = granted("a", issued_by="b")
    found = standing(presented(child, sealed(child, HOLDERS["b"])), issuers=[sealed(chief())])
    assert found.reason == "valid"


def flipped(data: bytes) -> bytes:
    value = parse_canonical(data)
    assert isinstance(value, dict)
    signature = value["signatures"][0]["sig"]
    value["signatures"][0]["sig"] = ("B" if signature[0] == "A" else "A") + signature[1:]
    return canonical_json(value)


A = granted("a")
OUTCOMES: dict[str, tuple[str, Presented, dict[str, Any]]] = {
    "no envelope": ("signature no_credential", presented(A, b""), {}),
    "no canonical envelope": ("signature malformed", presented(A, sealed(A) + b" "), {}),
    "another document": ("signature malformed", presented(A, seal("other", A.to_payload(), [CA])), {}),
    "flipped byte": ("signature bad_signature", presented(A, flipped(sealed(A))), {}),
    "a stranger's": ("chain unknown_issuer", presented(A, sealed(A, STRANGER)), {}),
    "self-signed": ("chain unknown_issuer", presented(A, sealed(A, HOLDERS["a"])), {}),
    "of another holder": ("signature other_credential", replace(presented(A), key=HOLDERS["b"].verify_key.text), {}),
    "of another id": ("signature other_credential", replace(presented(A), id="z"), {}),
    "issuer is not presented": (
        "chain unknown_issuer",
        presented(granted("a", issued_by="b"), sealed(granted("a", issued_by="b"), HOLDERS["b"])),
        {},
    ),
    "issuer is presented twice": (
        "chain unknown_issuer",
        presented(granted("a", issued_by="b"), sealed(granted("a", issued_by="b"), HOLDERS["b"])),
        {"issuers": [sealed(chief()), sealed(chief(pseudonym="another"))]},
    ),
    "issuer may not delegate": (
        "chain not_delegated",
        presented(granted("a", issued_by="b"), sealed(granted("a", issued_by="b"), HOLDERS["b"])),
        {"issuers": [sealed(granted("b"))]},
    ),
    "more than the issuer has": (
        "chain wider_than_issuer",
        presented(granted("a", issued_by="b"), sealed(granted("a", issued_by="b"), HOLDERS["b"])),
        {"issuers": [sealed(chief(scopes=("report",)))]},
    ),
    "too early": ("time not_yet_valid", presented(A), {"at": NOON - A_DAY}),
    "too late": ("time expired", presented(A), {"at": NOON + 31 * A_DAY}),
    "beyond the calendar": ("time expired", presented(A), {"at": 2**62}),
    "before the calendar": ("time not_yet_valid", presented(A), {"at": -(2**62)}),
    "revoked": ("time revoked", presented(A), {"status": listing(refused("a"))}),
    "issuer revoked": (
        "time revoked",
        presented(granted("a", issued_by="b"), sealed(granted("a", issued_by="b"), HOLDERS["b"])),
        {"issuers": [sealed(chief())], "status": listing(refused("b"))},
    ),
    "issuer was not valid yet": (
        "time not_yet_valid",
        presented(granted("a", issued_by="b"), sealed(granted("a", issued_by="b"), HOLDERS["b"])),
        {"issuers": [sealed(chief(valid_from="2026-01-02"))]},
    ),
    "backdated": ("time backdated", presented(A), {"known": (NOON + 1, NOON + 2)}),
    "in the future": ("time in_future", presented(A), {"known": (NOON - 2, NOON - 1)}),
    "another taxonomy": ("competence other_taxonomy", presented(A), {"taxonomy": clinic(2)}),
    "a class that is not there": (
        "competence unknown_class",
        presented(granted("a", authority="king")),
        {},
    ),
    "another class": ("competence other_class", replace(presented(A), authority="chief"), {}),
    "another scope": ("competence outside_scope", presented(A), {"scopes": ["nodule", "report"]}),
    "more than its class": (
        "competence outside_scope",
        presented(granted("a", scopes=("report",))),
        {"scopes": ["report"]},
    ),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_every_way_to_fail_has_its_check_and_its_reason(name: str) -> None:
    outcome, shown, more = OUTCOMES[name]
    check, reason = outcome.split()
    found = standing(shown, **more)
    assert (found.reason, found.checks[-1]) == (reason, check)
    assert found.detail
    assert not found.is_valid
    assert found.checks == CHECKS[: len(found.checks)]


def test_two_credentials_that_grant_each_other_are_a_cycle() -> None:
    first, second = chief("b", issued_by="c"), chief("c", issued_by="b")
    found = standing(
        presented(first, sealed(first, HOLDERS["c"])),
        issuers=[sealed(second, HOLDERS["b"])],
    )
    assert (found.reason, found.checks) == ("cycle", ("signature", "chain"))
    with pytest.raises(ProvenanceError, match="does not grant itself"):
        chief("b", issued_by="b")


def test_a_chain_has_an_end() -> None:
    names = "abcdefghij"
    links = [chief(name, issued_by=above) for name, above in zip(names, [*names[1:], "annotator-ca"], strict=True)]
    envelopes = [sealed(link, HOLDERS.get(link.issued_by, CA)) for link in links]
    for length, reason in ((8, "valid"), (9, "too_long")):
        start = len(names) - length
        shown = presented(links[start], envelopes[start])
        assert standing(shown, issuers=envelopes[start + 1 :]).reason == reason


def test_the_order_of_the_checks_decides_which_reason_is_given() -> None:
    wrong_everywhere = granted("a", authority="king", taxonomy="other@9")
    shown = presented(wrong_everywhere, sealed(wrong_everywhere, STRANGER))
    more: dict[str, Any] = {"status": listing(refused("a")), "scopes": ["report"], "at": NOON + 99 * A_DAY}
    assert standing(replace(shown, envelope=b""), **more).reason == "no_credential"
    assert standing(shown, **more).reason == "unknown_issuer"
    assert standing(presented(wrong_everywhere), **more).reason == "expired"
    more["at"] = NOON
    assert standing(presented(wrong_everywhere), **more).reason == "revoked"
    del more["status"]
    assert standing(presented(wrong_everywhere), **more).reason == "other_taxonomy"


def test_who_left_is_refused_for_later_work_only_and_who_was_robbed_for_all() -> None:
    left = listing(refused("a", "left", from_s=NOON + 5 * A_DAY))
    assert standing(presented(A), NOON + 5 * A_DAY - 1, status=left).is_valid
    assert standing(presented(A), NOON + 5 * A_DAY, status=left).reason == "revoked"
    robbed = listing(refused("a", roots=["ab" * 32]))
    assert standing(presented(A), status=robbed).reason == "revoked"
    assert standing(presented(A), status=robbed, manifest_root=b"\xab" * 32).is_valid
    assert standing(presented(A), status=robbed, manifest_root=b"\xac" * 32).reason == "revoked"


def test_a_rotated_ca_key_still_vouches_for_what_it_granted_before() -> None:
    old = replace(CA.verify_key, retired=Retired("2026-01-01"))
    keyring = Keyring({"annotator-ca": (STRANGER.verify_key, old)})
    assert standing(presented(A), keyring=keyring).is_valid
    later = granted("a", issued_on="2026-01-02")
    assert standing(presented(later), keyring=keyring).reason == "unknown_issuer"


def test_a_threshold_of_cas_is_asked_for() -> None:
    keys = (CA.verify_key, STRANGER.verify_key)
    keyring = Keyring({"annotator-ca": keys, "root": (HOLDERS["l"].verify_key,)}, 1, "2999-12-31", {"annotator-ca": 2})
    assert standing(presented(A), keyring=keyring).reason == "bad_signature"
    assert standing(presented(A, sealed(A, CA, STRANGER)), keyring=keyring).is_valid


def test_each_credential_of_a_header_has_its_own_time_and_outcome() -> None:
    found = check_credentials(
        [presented(granted("a")), presented(granted("b"))], clinic(), KEYRING, {"a": NOON, "b": NOON - A_DAY}
    )
    assert {name: each.reason for name, each in found.items()} == {"a": "valid", "b": "not_yet_valid"}


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": "annotator-ca"},
        {"pseudonym": "J. Doe"},
        {"scopes": ()},
        {"scopes": ("nodule", "nodule")},
        {"key": "nonsense"},
        {"valid_until": "2025-12-31"},
        {"issued_on": "yesterday"},
        {"taxonomy": "clinic"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_credential_that_makes_no_sense_is_not_made(change: dict[str, object]) -> None:
    with pytest.raises(ProvenanceError, match="the credential is wrong"):
        new_credential(**{**granted("a").model_dump(exclude={"format"}), **change})


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", sealed(A)[:100], sealed(A)]))
def test_whatever_is_presented_has_an_outcome_and_no_exception(data: bytes, start: bytes) -> None:
    found = standing(presented(A, start + data), issuers=[data, start])
    assert found.is_valid == (start + data == sealed(A))


def test_what_is_peeked_at_is_what_was_signed() -> None:
    assert peek_credential(sealed(A)) == (A, (CA.verify_key.label,))
