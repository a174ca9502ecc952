"""One label, alone, is read and attributed by whoever trusts the manifest's root."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqpolicy.errors import (
    AqpolicyError,
    CanonicalError,
    KeyFormatError,
    MalformedManifestError,
    ManifestSignatureError,
    ProofError,
    ProvenanceError,
    SignatureError,
)
from aqpolicy.provenance import (
    ConsensusEvent,
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
from aqpolicy.provenance.credential import new_credential, seal_credential
from aqpolicy.provenance.evidence import label_evidence, verify_label
from aqpolicy.provenance.header import HEADER_TYPE, SESSION_TYPE, session_statement
from aqpolicy.trust import (
    Keyring,
    SigningKey,
    canonical_json,
    digest_text,
    leaf_hash,
    path_bytes,
    peek,
    pre_authentication,
    sha256,
    sized,
)

ISSUER = SigningKey.from_seed("issuer", bytes(32))
KEYS = [SigningKey.from_seed(f"reader-{number}", bytes([number + 1]) * 32) for number in range(3)]
CA = SigningKey.from_seed("ca", bytes([9]) * 32)
KEYRING = Keyring.of([("manifest-issuer", ISSUER.verify_key), ("annotator-ca", CA.verify_key)])
CREDENTIALS = [Credential(key.name, key.verify_key.text) for key in KEYS]
SCHEMA = (Field("tier", "category", ("hint", "gold")), Field("consensus", "numeric"))


def observed(name: str, reader: int) -> Observation:
    return Observation(
        example_id=name,
        example_digest=example_digest(name.encode()),
        label_digest=label_digest(name, b"yes"),
        credential=CREDENTIALS[reader].id,
        observed_at=1_700_000_000 + reader,
        attributes={"tier": "gold", "consensus": 750_000} if reader else {},
        history=(ConsensusEvent("pool:amt", 500_000, 2, 1_600_000_000),) * reader,
    )


def manifest(taxonomy: str = "lidc@1", schema: tuple[Field, ...] = SCHEMA) -> Manifest:
    """Return a manifest of three sessions, of 1, 3 and 5 labels."""
    sessions = [
        Session(CREDENTIALS[reader], KEYS[reader], [observed(f"{reader}/{at}", reader) for at in range(2 * reader + 1)])
        for reader in range(3)
    ]
    data = encode_manifest("pilot", taxonomy, schema, sessions, ISSUER)
    return decode_manifest(data, KEYRING)


def test_every_label_is_read_as_the_manifest_reads_it() -> None:
    whole = manifest()
    for index in range(whole.size):
        found, own = verify_label(label_evidence(whole, index), whole.root, KEYRING), whole.observation(index)
        assert (found.example_id, found.attributes, found.history) == (own.example_id, own.attributes, own.history)
        assert (found.example_digest, found.label_digest) == (own.example_digest, own.label_digest)
        assert (found.credential, found.observed_at) == (own.credential, own.observed_at)
        assert found.key.text == whole.credentials[own.credential].key
        assert (found.manifest, found.taxonomy) == ("pilot", "lidc@1")


def test_a_label_under_another_root_is_refused() -> None:
    whole = manifest()
    with pytest.raises(ProofError):
        verify_label(label_evidence(whole, 2), bytes(32), KEYRING)
    with pytest.raises(ProvenanceError):
        label_evidence(whole, 99)


def test_a_label_is_read_by_the_schema_that_was_signed() -> None:
    whole, renamed = manifest(), manifest(schema=(Field("tier", "category", ("gold", "hint")), SCHEMA[1]))
    data = label_evidence(whole, 2)
    swapped = data.replace(whole.context, renamed.context)
    assert swapped != data
    with pytest.raises(ProvenanceError, match="differ from what was signed"):
        verify_label(swapped, whole.root, KEYRING)


def test_a_session_that_its_key_did_not_sign_is_refused() -> None:
    whole = manifest()
    data = label_evidence(whole, 2)
    other = data.replace(whole.session_signature(2), whole.session_signature(0))
    assert other != data
    with pytest.raises(SignatureError):
        verify_label(other, whole.root, KEYRING)


@pytest.mark.parametrize("data", [b"", b"AQE1", b"AQE2" + bytes(40), b"AQE1" + bytes(40)])
def test_bytes_that_are_no_evidence_are_refused(data: bytes) -> None:
    with pytest.raises((CanonicalError, ProofError)):
        verify_label(data, bytes(32), KEYRING)


WHOLE = manifest()
EVIDENCE = label_evidence(WHOLE, 5)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(EVIDENCE) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused_with_a_typed_error(at: int, flip: int) -> None:
    changed = EVIDENCE[:at] + bytes((EVIDENCE[at] ^ flip,)) + EVIDENCE[at + 1 :]
    with pytest.raises(AqpolicyError):
        verify_label(changed, WHOLE.root, KEYRING)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_typed_error(data: bytes) -> None:
    for each in (data, b"AQE1" + data):
        with pytest.raises(AqpolicyError):
            verify_label(each, WHOLE.root, KEYRING)


def hostile(
    leaf: bytes,
    context: bytes = WHOLE.context,
    key: str = KEYS[0].verify_key.text,
    head: dict[str, object] | None = None,
) -> tuple[bytes, bytes]:
    """Return evidence, and its root, of one label that an annotator and an issuer signed although they should not."""
    digest = digest_text(sha256(context))
    own = {"credential": "reader-0", "key": key, "size": 1, "root": leaf_hash(leaf)}
    signed = session_statement("pilot", "training", digest, **own)
    signature = KEYS[0].sign(pre_authentication(SESSION_TYPE, signed))
    parts = json.loads(peek(WHOLE.head, HEADER_TYPE).payload)
    parts |= {"context": digest, "root": digest_text(leaf_hash(signed)), "sessions": 1, "size": 1, **(head or {})}
    payload = canonical_json(parts)
    issued = ISSUER.sign(pre_authentication(HEADER_TYPE, payload))
    one = (
        sized(leaf, 4),
        bytes(4),
        path_bytes(()),
        (1).to_bytes(4, "little"),
        leaf_hash(leaf),
        bytes(4),
        path_bytes(()),
    )
    who = (sized(b"reader-0", 2), sized(key.encode(), 2), signature)
    label = ISSUER.verify_key.label.encode()
    rest = (sized(context, 4), sized(payload, 4), b"\x01", sized(label, 2), sized(issued, 2), bytes(5))
    return b"".join((b"AQE1", *one, *who, *rest)), leaf_hash(signed)


def leaf_of(index: int) -> bytes:
    return WHOLE.prove(index).leaf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda leaf: b"x" + leaf, "not that of a label"),
        (lambda leaf: leaf[:40], "not that of a label"),
        (lambda leaf: leaf + b"x", "ill-formed"),
        (lambda leaf: leaf.replace(b"2/1", b"2 1"), "ill-formed"),
        (lambda leaf: leaf[:-22] + b"\x09\x00" + leaf[-20:], "a source or a time that does not exist"),
        (lambda leaf: leaf[:81] + b"\xff" * 8 + leaf[89:], "ill-formed"),
        (lambda leaf: leaf[:92] + b"\x07\x00" + leaf[94:], "a value of `tier` that its schema lacks"),
    ],
)
def test_a_label_that_an_annotator_should_not_have_signed_is_refused(
    change: Callable[[bytes], bytes], message: str
) -> None:
    plain = hostile(leaf_of(5))
    assert verify_label(*plain, KEYRING).example_id == "2/1"
    data, root = hostile(change(leaf_of(5)))
    assert data != plain[0]
    with pytest.raises(ProofError, match=message):
        verify_label(data, root, KEYRING)


@pytest.mark.parametrize("context", [b"{}", b"[]", b"{ }", b"\xff"])
def test_a_schema_that_is_none_is_refused(context: bytes) -> None:
    data, root = hostile(leaf_of(5), context)
    with pytest.raises(MalformedManifestError, match="the context of the manifest"):
        verify_label(data, root, KEYRING)


def test_a_key_that_is_none_is_refused() -> None:
    data, root = hostile(leaf_of(5), key="no key")
    with pytest.raises(KeyFormatError):
        verify_label(data, root, KEYRING)


@pytest.mark.parametrize(
    ("head", "error", "message"),
    [
        ({"root": "sha256:" + "00" * 32}, ProofError, "the issuer signed another manifest"),
        ({"context": "sha256:" + "00" * 32}, ProofError, "is not in the tree"),
        ({"name": "other"}, ProofError, "is not in the tree"),
        ({"purpose": "test"}, ProofError, "is not in the tree"),
        ({"sessions": 2, "size": 2}, ProofError, "is not in the tree"),
        ({"name": "a b"}, MalformedManifestError, "wrong at `name`"),
        ({"more": 1}, MalformedManifestError, "wrong at `more`"),
    ],
)
def test_a_head_that_is_not_that_of_the_session_is_refused(
    head: dict[str, object], error: type[Exception], message: str
) -> None:
    data, root = hostile(leaf_of(5), head=head)
    with pytest.raises(error, match=message):
        verify_label(data, root, KEYRING)


def test_a12_another_label_of_the_same_manifest_in_its_place_is_refused() -> None:
    for index in (0, 4, 6):
        own, other = sized(leaf_of(5), 4), sized(leaf_of(index), 4)
        swapped = EVIDENCE.replace(own, other)
        assert swapped != EVIDENCE
        with pytest.raises(ProofError, match="leaf 1 is not in the tree"):
            verify_label(swapped, WHOLE.root, KEYRING)


def test_an_issuer_that_is_not_trusted_is_refused() -> None:
    stranger = Keyring.of([("manifest-issuer", SigningKey.generate("issuer").verify_key)])
    with pytest.raises(ManifestSignatureError):
        verify_label(EVIDENCE, WHOLE.root, stranger)


def granted(issuers: Sequence[SigningKey] = (CA,), **changes: object) -> Manifest:
    """Return a manifest of one label whose session presents a credential."""
    parts: dict[str, object] = {
        "id": "reader-0",
        "pseudonym": "p7",
        "authority": "radiologist",
        "taxonomy": "lidc@1",
        "scopes": ("nodule",),
        "key": KEYS[0].verify_key.text,
        "issued_by": "annotator-ca",
        "issued_on": "2023-01-01",
        "valid_from": "2023-01-01",
        "valid_until": "2024-12-31",
    }
    envelope = seal_credential(new_credential(**parts | changes), issuers)
    credential = replace(CREDENTIALS[0], envelope=envelope)
    data = encode_manifest("pilot", "lidc@1", SCHEMA, [Session(credential, KEYS[0], [observed("a", 0)])], ISSUER)
    return decode_manifest(data, KEYRING)


def test_a_presented_credential_names_who_granted_what() -> None:
    whole = granted()
    found = verify_label(label_evidence(whole, 0), whole.root, KEYRING)
    assert found.granted is not None
    assert (found.granted.pseudonym, found.granted.authority) == ("p7", "radiologist")


def test_a_credential_by_a_strangers_key_is_refused() -> None:
    whole = granted(issuers=(SigningKey.generate("ca"),))
    with pytest.raises(SignatureError):
        verify_label(label_evidence(whole, 0), whole.root, KEYRING)


@pytest.mark.parametrize("changes", [{"id": "reader-1"}, {"key": KEYS[1].verify_key.text}])
def test_a_credential_of_somebody_else_is_refused(changes: dict[str, object]) -> None:
    whole = granted(**changes)
    with pytest.raises(ProofError, match="not the one that the session was signed under"):
        verify_label(label_evidence(whole, 0), whole.root, KEYRING)


def test_a_credential_that_the_keyring_cannot_judge_is_not_said_to_be_granted() -> None:
    delegated, plain = granted(issued_by="reader-9"), granted()
    assert verify_label(label_evidence(delegated, 0), delegated.root, KEYRING).granted is None
    bare = Keyring.of([("manifest-issuer", ISSUER.verify_key)])
    assert verify_label(label_evidence(plain, 0), plain.root, bare).granted is None
    assert verify_label(EVIDENCE, WHOLE.root, KEYRING).granted is None


def test_a_manifest_that_presents_no_envelope_as_a_credential_gives_no_evidence() -> None:
    for envelope in (b"[]", b"{}", b'{"payload":"","signatures":[1]}', b"no JSON"):
        credential = replace(CREDENTIALS[0], envelope=envelope)
        data = encode_manifest("pilot", "lidc@1", SCHEMA, [Session(credential, KEYS[0], [observed("a", 0)])], ISSUER)
        with pytest.raises(CanonicalError):
            label_evidence(decode_manifest(data, KEYRING), 0)
