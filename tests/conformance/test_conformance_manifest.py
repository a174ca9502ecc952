"""What the product writes is what docs/formats/manifest.md says: a reader written from it agrees on every byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conformance.independent_manifest import Label, RefusedError, check_label, leaf_hash, read

from aqpolicy.errors import AqpolicyError, MalformedManifestError, ManifestSignatureError
from aqpolicy.provenance import (
    ConsensusEvent,
    Credential,
    Field,
    Observation,
    Session,
    decode_manifest,
    encode_manifest,
    example_digest,
    label_digest,
)
from aqpolicy.provenance.evidence import label_evidence, verify_label
from aqpolicy.trust import Cursor, Keyring, SigningKey, add_signatures, sha256, sized

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "formats" / "manifest.md"
ISSUER, SECOND = SigningKey.from_seed("issuer", bytes(32)), SigningKey.from_seed("second", b"s" * 32)
READERS = [SigningKey.from_seed(f"reader-{number}", bytes([number + 1]) * 32) for number in range(3)]
CREDENTIALS = [Credential(key.name, key.verify_key.text, "pseudonym é", "\u2028 \U0001f600") for key in READERS]
KEYRING = Keyring.of([("manifest-issuer", ISSUER.verify_key)])
KEYS = {ISSUER.verify_key.label: ISSUER.verify_key.public}
SCHEMA = (
    Field("tier", "category", ("hint", "gold", 'a "quoted" \\ word\n')),
    Field("consensus", "numeric"),
    Field("é", "category", ("\ue000", "\U0001f600")),
)


def observed(name: str, reader: int, number: int) -> Observation:
    known = {"tier": SCHEMA[0].values[number % 3], "consensus": -number, "é": SCHEMA[2].values[number % 2]}
    return Observation(
        example_id=name,
        example_digest=example_digest(name.encode()),
        label_digest=label_digest(name, b"yes"),
        credential=READERS[reader].name,
        observed_at=2**40 + number,
        attributes=dict(list(known.items())[: number % 4]),
        history=tuple(ConsensusEvent(f"pool:{at}", at - 500_000, 2**32 - 1 - at, at) for at in range(number % 3)),
    )


def manifest(*sizes: int, **changes: object) -> bytes:
    """Return a manifest of sessions of these sizes."""
    sessions = [
        Session(
            CREDENTIALS[number % 3],
            READERS[number % 3],
            [observed(f"{number}/{at}", number % 3, at) for at in range(size)],
        )
        for number, size in enumerate(sizes)
    ]
    return encode_manifest("pilot", "lidc.readers@1", SCHEMA, sessions, ISSUER, **changes)  # type: ignore[arg-type]


GOOD = manifest(3, 1, 7, 2, serial=3, purpose="evaluation", supersedes=bytes(range(32)))


def as_read(observation: Observation) -> Label:
    """Return an observation in the words of the other reader."""
    return Label(
        observation.example_id,
        observation.example_digest,
        observation.label_digest,
        observation.observed_at,
        dict(observation.attributes),
        [(event.credential, event.consensus, event.judgments, event.observed_at) for event in observation.history],
        observation.credential,
    )


@pytest.mark.parametrize("sizes", [(1,), (2, 1), (3, 1, 7, 2), (33, 64, 65)])
def test_both_readers_see_the_same_labels(sizes: tuple[int, ...]) -> None:
    data = manifest(*sizes)
    own, other = decode_manifest(data, KEYRING), read(data, KEYS)
    assert [as_read(own.observation(index)) for index in range(own.size)] == other.labels
    assert (own.name, own.purpose, own.serial, own.taxonomy) == ("pilot", "training", 1, other.taxonomy)
    assert other.head["root"] == f"sha256:{own.root.hex()}"


def test_both_readers_accept_the_evidence_of_every_label() -> None:
    whole = decode_manifest(GOOD, KEYRING)
    for index in range(whole.size):
        evidence = label_evidence(whole, index)
        assert check_label(evidence, whole.root, KEYS) == as_read(whole.observation(index))
        with pytest.raises(RefusedError):
            check_label(evidence, bytes(32), KEYS)


def test_both_readers_refuse_every_flipped_bit_of_a_manifest() -> None:
    small = manifest(2, 1)
    for at in range(len(small)):
        changed = small[:at] + bytes((small[at] ^ 1 << at % 8,)) + small[at + 1 :]
        with pytest.raises(RefusedError):
            read(changed, KEYS)
        with pytest.raises((MalformedManifestError, ManifestSignatureError)):
            decode_manifest(changed, KEYRING)


def test_both_readers_refuse_every_flipped_bit_of_evidence() -> None:
    whole = decode_manifest(GOOD, KEYRING)
    evidence = label_evidence(whole, 8)
    for at in range(len(evidence)):
        changed = evidence[:at] + bytes((evidence[at] ^ 1 << at % 8,)) + evidence[at + 1 :]
        with pytest.raises(RefusedError):
            check_label(changed, whole.root, KEYS)
        with pytest.raises(AqpolicyError):
            verify_label(changed, whole.root, KEYRING)


def test_both_readers_refuse_what_is_cut_or_goes_on() -> None:
    for changed in (*(GOOD[:end] for end in range(0, len(GOOD), 11)), GOOD + b"\x00", GOOD[:-1] + b"\x00\x00"):
        with pytest.raises(RefusedError):
            read(changed, KEYS)
        with pytest.raises((MalformedManifestError, ManifestSignatureError)):
            decode_manifest(changed, KEYRING)


def test_both_readers_count_signers() -> None:
    cursor = Cursor(GOOD, "manifest")
    magic, envelope = cursor.take(8), cursor.sized(4)
    signed = add_signatures(envelope, "application/vnd.aqpolicy.manifest+json", [SECOND])
    twice = magic + sized(signed, 4) + GOOD[12 + len(envelope) :]
    keys = KEYS | {SECOND.verify_key.label: SECOND.verify_key.public}
    root = SigningKey.from_seed("root", b"r" * 32).verify_key
    roles = {"root": (root,), "manifest-issuer": (ISSUER.verify_key, SECOND.verify_key)}
    keyring = Keyring(roles, 1, "2999-12-31", {"manifest-issuer": 2})
    assert read(twice, keys, 2).labels == read(GOOD, KEYS).labels
    assert decode_manifest(twice, keyring).root == decode_manifest(GOOD, KEYRING).root
    with pytest.raises(RefusedError, match="too few"):
        read(GOOD, keys, 2)
    with pytest.raises(ManifestSignatureError, match="2 trusted keys must sign"):
        decode_manifest(GOOD, keyring)


def test_the_known_answer_of_the_document_is_right() -> None:
    reader = SigningKey.from_seed("reader", b"\x01" * 32)
    label = Observation("a", sha256(b"x"), label_digest("a", b"yes"), "c", 1_700_000_000, {"tier": "gold"})
    session = Session(Credential("c", reader.verify_key.text), reader, [label])
    data = encode_manifest("m", "t@1", [replace(SCHEMA[0], values=("hint", "gold"))], [session], ISSUER)
    whole, text = decode_manifest(data, KEYRING), DOCUMENT.read_text("utf-8")
    assert f"| leaf hash, also the session's root | `{leaf_hash(whole.prove(0).leaf).hex()}` |" in text
    assert f"| root of the manifest | `{whole.root.hex()}` |" in text
    assert f"| file, of {len(data)} bytes | `{sha256(data).hex()}` |" in text
