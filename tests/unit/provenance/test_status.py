"""The list of refused credentials: signed, fresh, and exact about which labels it refuses."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.credentials import HOLDERS, KEYRING, LOG, OFFICER, STRANGER, listing, refused

from aqpolicy.errors import CanonicalError, InputError, ProvenanceError, SignatureError
from aqpolicy.provenance import (
    Credential,
    Field,
    Manifest,
    Observation,
    Session,
    decode_manifest,
    encode_manifest,
    example_digest,
    label_digest,
)
from aqpolicy.provenance.status import (
    STATUS_TYPE,
    load_status_list,
    open_status_list,
    refused_examples,
    seal_status_list,
)
from aqpolicy.trust import Keyring, seal

TRUSTED = Keyring.of([("manifest-issuer", OFFICER.verify_key)])


def manifest(times: dict[str, int]) -> Manifest:
    """Return a manifest with one label of each id; the first letter is the credential."""
    sessions = []
    for name in sorted({example[0] for example in times}):
        key = HOLDERS[name]
        labels = [
            Observation(e, example_digest(e.encode()), label_digest(e, b"1"), name, at, {"kind": "x"})
            for e, at in times.items()
            if e[0] == name
        ]
        sessions.append(Session(Credential(name, key.verify_key.text), key, labels))
    data = encode_manifest("m", "clinic@1", [Field("kind", "category", ("x",))], sessions, OFFICER)
    return decode_manifest(data, TRUSTED)


def test_a_list_survives_its_file(tmp_path: Path) -> None:
    status = listing(refused("a"), refused("b", "left", 5))
    (tmp_path / "s").write_bytes(seal_status_list(status, [LOG]) + b"\n")
    assert load_status_list(tmp_path / "s", KEYRING) == status
    with pytest.raises(InputError, match="gone"):
        load_status_list(tmp_path / "gone", KEYRING)


def test_only_a_logs_key_signs_it() -> None:
    for key in (STRANGER, OFFICER):
        with pytest.raises(SignatureError, match="no trusted key"):
            open_status_list(seal_status_list(listing(), [key]), KEYRING)


def test_exactly_the_refused_labels_are_listed() -> None:
    held = manifest({"a1": 10, "a2": 20, "b1": 10, "b2": 20, "c1": 10})
    assert refused_examples(held, listing()) == ()
    assert refused_examples(held, listing(refused("z"))) == ()
    assert refused_examples(held, listing(refused("a"))) == ("a1", "a2")
    assert refused_examples(held, listing(refused("a"), refused("b", "left", 20))) == ("a1", "a2", "b2")
    assert refused_examples(held, listing(refused("a", roots=[held.root.hex()]))) == ()
    assert refused_examples(held, listing(refused("a", roots=["00" * 32]))) == ("a1", "a2")


@given(
    st.dictionaries(st.from_regex(r"[abcd][0-9]{1,2}", fullmatch=True), st.integers(0, 9), min_size=1, max_size=12),
    st.dictionaries(
        st.sampled_from("abcde"), st.tuples(st.sampled_from(["left", "compromised"]), st.integers(0, 9)), max_size=4
    ),
)
def test_a_list_refuses_what_a_scan_label_by_label_finds(
    times: dict[str, int], said: dict[str, tuple[str, int]]
) -> None:
    status = listing(*(refused(name, kind, from_s=at) for name, (kind, at) in said.items()))
    held = manifest(times)
    slow = {e for e, at in times.items() if e[0] in said and at >= said[e[0]][1]}
    assert set(refused_examples(held, status)) == slow
    assert {e for e, at in times.items() if status.refuses(e[0], at, held.root)} == slow


def test_the_next_list_keeps_what_is_refused_and_counts_up() -> None:
    status = listing(refused("a", "left", 5)).with_refused([refused("b"), refused("a")], "2026-02-01")
    assert (status.serial, status.issued_on) == (2, "2026-02-01")
    assert {each.credential: each.kind for each in status.refused} == {"a": "compromised", "b": "compromised"}


def test_a_list_is_fresh_for_so_many_days() -> None:
    status = listing(issued_on="2026-01-10")
    for today in (date(2026, 1, 10), date(2026, 1, 17)):
        status.refuse_stale(today, 7)
    for today in (date(2026, 1, 9), date(2026, 1, 18)):
        with pytest.raises(ProvenanceError, match="at most 7 days old"):
            status.refuse_stale(today, 7)


def test_an_older_list_than_one_used_before_is_refused() -> None:
    listing(serial=3).refuse_older(3)
    with pytest.raises(ProvenanceError, match=r"list 2 .* is older than list 3"):
        listing(serial=2).refuse_older(3)


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"1.5", b"[" * 9999, b"\x00"])
def test_signed_bytes_that_are_no_list_are_refused(payload: bytes) -> None:
    with pytest.raises((ProvenanceError, CanonicalError)):
        open_status_list(seal(STATUS_TYPE, payload, [LOG]), KEYRING)


@pytest.mark.parametrize(
    "change", [{"kind": "tired"}, {"from_s": -1}, {"from_s": True}, {"known_roots": ("xy",)}, {"entry": "1"}], ids=str
)
def test_an_entry_that_makes_no_sense_is_not_made(change: dict[str, object]) -> None:
    from aqpolicy.provenance.status import Refused

    with pytest.raises(ProvenanceError, match="the refused credential is wrong"):
        Refused.of(**{**refused("a").model_dump(), **change})
    with pytest.raises(ProvenanceError, match="twice"):
        listing(refused("a"), refused("a"))
