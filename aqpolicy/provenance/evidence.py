"""One signed label, alone: everything that a stranger needs to read it, and to know whose it is and who vouches.

The reader has the manifest's root from a log that names it, and a keyring; not the
manifest. What is shown: the label is under that root; its issuer signed that root
and the schema; the key of the credential signed the session; and, where the
manifest presents a credential, who granted it.

Layout: docs/formats/proof.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aqpolicy.errors import CanonicalError, ProofError
from aqpolicy.provenance.codec import EVENT, FIXED, LEAF_TAG, UNKNOWN_CATEGORY, LabelCodec, is_example_id
from aqpolicy.provenance.credential import CA_ROLE, CREDENTIAL_TYPE, AnnotatorCredential, peek_credential
from aqpolicy.provenance.header import HEADER_TYPE, SESSION_TYPE, parse_context, session_statement
from aqpolicy.provenance.load import open_head
from aqpolicy.provenance.manifest import Manifest
from aqpolicy.provenance.observation import ConsensusEvent
from aqpolicy.provenance.parts import Context, Head
from aqpolicy.provenance.proof import LabelProof, SessionProof, verify_label_proof
from aqpolicy.trust import (
    Cursor,
    Keyring,
    VerifyKey,
    canonical_json,
    decode_base64,
    encode_base64,
    open_signed,
    parse_canonical,
    path_bytes,
    pre_authentication,
    sized,
)

MAGIC: Final = b"AQE1"
_HASH_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_LARGEST_WORD: Final = 512
"""Bytes of a name or a key."""


@dataclass(frozen=True, slots=True)
class ProvedLabel:
    """A label that is under a manifest's root, with those who answer for it."""

    example_id: str
    attributes: Mapping[str, str | int]
    """Numbers in millionths; what is not known is absent."""
    history: tuple[ConsensusEvent, ...]
    example_digest: bytes
    label_digest: bytes
    observed_at: int
    manifest: str
    purpose: str
    taxonomy: str
    credential: str
    key: VerifyKey
    """Signed the session."""
    granted: AnnotatorCredential | None = None
    """The credential, where the manifest presents one that a trusted key of `annotator-ca` granted."""


def label_evidence(manifest: Manifest, index: int) -> bytes:
    """Return the evidence of one label, for `verify_label`.

    Raises:
        ProvenanceError: The manifest has no such observation.
        CanonicalError: It presents a credential that is none.
    """
    proof, credential = manifest.prove(index), manifest.credentials[manifest.observation(index).credential]
    signed: Any = parse_canonical(proof.session.statement)
    return b"".join(
        (
            MAGIC,
            sized(proof.leaf, 4),
            proof.index.to_bytes(4, "little"),
            path_bytes(proof.path),
            signed["size"].to_bytes(4, "little"),
            bytes.fromhex(signed["root"].removeprefix("sha256:")),
            proof.session.session.to_bytes(4, "little"),
            path_bytes(proof.session.path),
            sized(credential.id.encode("ascii"), 2),
            sized(credential.key.encode("utf-8"), 2),
            manifest.session_signature(index),
            sized(manifest.context, 4),
            _packed(manifest.head),
            _packed(credential.envelope),
        )
    )


def verify_label(data: bytes, root: bytes, keyring: Keyring) -> ProvedLabel:
    """Return the label that the evidence shows to be under a manifest's root.

    Trust:
        data is untrusted; root comes from a verified source, keyring from the operator.

    Raises:
        CanonicalError: The bytes are not the one encoding of evidence.
        ProofError: They do not lead to the root, or hold no label of this version.
        ProvenanceError: No trusted issuer signed that root and this schema, or a part is ill-formed.
        SignatureError: The key of the credential did not sign the session, or no trusted key granted the credential.
        KeyFormatError: The session names no key.
    """
    parts = _cut(data)
    head = open_head(parts.head, keyring)
    if head.root_bytes != root:
        raise ProofError("the issuer signed another manifest than the one that the label is from")
    statement = parts.session.statement(head)
    session = SessionProof(statement, parts.number, head.sessions, parts.session_path)
    verify_label_proof(LabelProof(parts.leaf, parts.index, parts.path, session), root)
    key = VerifyKey.parse(parts.session.key)
    key.verify(parts.signature, pre_authentication(SESSION_TYPE, statement))
    granted = _granted(parts.credential, parts.session, keyring) if parts.credential else None
    return _label(parts, head, parse_context(parts.context, head.context), key, granted)


@dataclass(frozen=True, slots=True)
class _Session:
    """What an annotator signed, beside what the head of the manifest says too."""

    credential: str
    key: str
    size: int
    root: bytes

    def statement(self, head: Head) -> bytes:
        return session_statement(
            head.name,
            head.purpose,
            head.context,
            credential=self.credential,
            key=self.key,
            size=self.size,
            root=self.root,
        )


@dataclass(frozen=True, slots=True)
class _Parts:
    """Evidence, cut; nothing of it is verified."""

    leaf: bytes
    index: int
    path: tuple[bytes, ...]
    session: _Session
    number: int
    """Of the session."""
    session_path: tuple[bytes, ...]
    signature: bytes
    context: bytes
    head: bytes
    credential: bytes


def _cut(data: bytes) -> _Parts:
    cursor = Cursor(data, "label")
    if cursor.take(len(MAGIC)) != MAGIC:
        raise CanonicalError("the label is not one of this version")
    leaf, index, path = cursor.sized(4), cursor.number(4), cursor.path()
    size, root, number, session_path = cursor.number(4), cursor.take(_HASH_BYTES), cursor.number(4), cursor.path()
    session = _Session(cursor.text(_LARGEST_WORD), cursor.text(_LARGEST_WORD), size, root)
    signature, context = cursor.take(_SIGNATURE_BYTES), cursor.sized(4)
    head, credential = _unpacked(cursor, HEADER_TYPE), _unpacked(cursor, CREDENTIAL_TYPE)
    cursor.finish()
    return _Parts(leaf, index, path, session, number, session_path, signature, context, head, credential)


def _packed(envelope: bytes) -> bytes:
    """Return an envelope without its text form, which costs a third more each time it is written as text again."""
    facts: Any = parse_canonical(envelope) if envelope else {"payload": "", "signatures": []}
    try:
        signed = [(item["keyid"].encode("utf-8"), decode_base64(item["sig"])) for item in facts["signatures"]]
        payload = decode_base64(facts["payload"])
    except (TypeError, KeyError, AttributeError) as error:
        raise CanonicalError("the manifest presents something that is no envelope") from error
    signatures = [sized(label, 2) + sized(signature, 2) for label, signature in signed]
    return b"".join((sized(payload, 4), len(signatures).to_bytes(1, "little"), *signatures))


def _unpacked(cursor: Cursor, payload_type: str) -> bytes:
    """Return the envelope that `_packed` took apart, or nothing where it was nothing."""
    payload, count = cursor.sized(4), cursor.number(1)
    signatures = [{"keyid": cursor.text(_LARGEST_WORD), "sig": encode_base64(cursor.sized(2))} for _ in range(count)]
    if not payload and not signatures:
        return b""
    return canonical_json({"payload": encode_base64(payload), "payloadType": payload_type, "signatures": signatures})


def _granted(envelope: bytes, session: _Session, keyring: Keyring) -> AnnotatorCredential | None:
    """Return the credential that a trusted key granted; None where the keyring names none, or a chain led to it.

    Whether it covers this label, at this time, is for `standing` to say, which has the taxonomy.
    """
    claimed, _ = peek_credential(envelope)
    if (claimed.id, claimed.key) != (session.credential, session.key):
        raise ProofError("the credential is not the one that the session was signed under")
    trusted = keyring.on(claimed.issued_on).keys(CA_ROLE)
    if claimed.issued_by != CA_ROLE or not trusted:
        return None
    opened = open_signed(envelope, CREDENTIAL_TYPE, trusted, keyring.threshold(CA_ROLE))
    return AnnotatorCredential.parse(opened.payload)


def _label(
    parts: _Parts, head: Head, context: Context, key: VerifyKey, granted: AnnotatorCredential | None
) -> ProvedLabel:
    leaf = parts.leaf
    codec = LabelCodec(context.schema_fields(), context.sources)
    start, end = len(LEAF_TAG), len(LEAF_TAG) + codec.record.size
    if not leaf.startswith(LEAF_TAG) or len(leaf) < end:
        raise ProofError("the leaf is not that of a label")
    members = codec.record.unpack(leaf[start:end])
    example_digest, label_digest, observed_at, length, count = members[:FIXED]
    name, events = leaf[end : end + length], leaf[end + length :]
    if not is_example_id(name) or len(events) != count * EVENT.size or observed_at < 0:
        raise ProofError("the leaf of the label is ill-formed")
    _refuse_unnamed(members, codec, events)
    return ProvedLabel(
        name.decode("ascii"),
        codec.attributes(members),
        codec.history(events),
        example_digest,
        label_digest,
        observed_at,
        head.name,
        head.purpose,
        context.taxonomy,
        parts.session.credential,
        key,
        granted,
    )


def _refuse_unnamed(members: tuple[int, ...], codec: LabelCodec, events: bytes) -> None:
    for field, code in zip(codec.fields, members[FIXED:], strict=True):
        if field.kind == "category" and len(field.values) <= code != UNKNOWN_CATEGORY:
            raise ProofError(f"the label has a value of `{field.name}` that its schema lacks")
    if any(source >= len(codec.sources) or at < 0 for source, _, _, at in EVENT.iter_unpack(events)):
        raise ProofError("the history of the label has a source or a time that does not exist")
