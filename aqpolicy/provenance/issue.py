"""Write a manifest: sessions signed by their annotators, the whole signed by the issuer.

It refuses what a reader would refuse. It does not judge whether observations
are true; signatures say who states them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aqpolicy.errors import MalformedManifestError, ManifestSignatureError
from aqpolicy.provenance.codec import LabelCodec, leaf_bytes
from aqpolicy.provenance.header import (
    HEADER_TYPE,
    SESSION_TYPE,
    build_header,
    context_digest,
    manifest_root,
    session_statement,
)
from aqpolicy.provenance.observation import Credential, Field, Session
from aqpolicy.trust import (
    SigningKey,
    canonical_json,
    digest_text,
    encode_base64,
    leaf_hash,
    pre_authentication,
    replace_file,
    root_of,
    seal,
    sha256,
)

MAGIC: Final = b"AQMANIF1"
HEADER_LENGTH: Final = struct.Struct("<I")
LARGEST_MANIFEST: Final = 50_000_000
"""Observations in one manifest."""


@dataclass(frozen=True, slots=True)
class _Signed:
    """One session as bytes: what the body keeps and what the header says."""

    statement: bytes
    part: dict[str, object]
    records: bytes
    ids: bytes
    events: bytes


def encode_manifest(
    name: str,
    taxonomy: str,
    schema: Sequence[Field],
    sessions: Sequence[Session],
    issuer: SigningKey,
) -> bytes:
    """Return the bytes of a manifest.

    Raises:
        MalformedManifestError: Something does not fit the format; the message names it.
        ManifestSignatureError: A session's signer does not hold its credential.
    """
    fields = tuple(schema)
    _check_ids(sessions)
    sources = _sources(sessions)
    codec = LabelCodec(fields, sources)
    context = context_digest(taxonomy, fields, sources)
    signed = [_sign_session(session, codec, name, context) for session in sessions]
    header = build_header(
        name=name,
        taxonomy=taxonomy,
        fields=tuple({"name": field.name, "kind": field.kind, "values": field.values} for field in fields),
        credentials=tuple(_credentials(sessions)),
        sources=sources,
        sessions=tuple(part.part for part in signed),
        size=sum(len(session.observations) for session in sessions),
        root=digest_text(manifest_root(tuple(part.statement for part in signed))),
    )
    envelope = seal(HEADER_TYPE, canonical_json(header.model_dump()), [issuer])
    body = [part.records for part in signed] + [part.ids for part in signed] + [part.events for part in signed]
    return b"".join([MAGIC, HEADER_LENGTH.pack(len(envelope)), envelope, *body])


def issue_manifest(  # noqa: PLR0917  # the order in which the file has them
    path: Path | str,
    name: str,
    taxonomy: str,
    schema: Sequence[Field],
    sessions: Sequence[Session],
    issuer: SigningKey,
) -> bytes:
    """Write a manifest, in the place of an older one, and return the digest of the file.

    Args:
        path: The file, by custom `*.aqm`.
        name: What the manifest is called; annotators sign it, so sessions cannot move to another.
        taxonomy: The vocabulary of the attributes, `name@version`.
        schema: The attributes, in the order in which records keep them.
        sessions: Observations by annotator; no example may be in two.
        issuer: Key that vouches for the credentials and for the whole.

    Raises:
        InputError: The file cannot be written.
        MalformedManifestError: Something does not fit the format; the message names it.
        ManifestSignatureError: A session's signer does not hold its credential.
    """
    data = encode_manifest(name, taxonomy, schema, sessions, issuer)
    replace_file(Path(path), data)
    return sha256(data)


def _sign_session(session: Session, codec: LabelCodec, name: str, context: str) -> _Signed:
    credential = session.credential
    if session.signer.verify_key.text != credential.key:
        raise ManifestSignatureError(f"the signer of a session does not hold its credential `{credential.id}`")
    labels = [codec.encode(observation) for observation in session.observations]
    root = digest_text(root_of([leaf_hash(leaf_bytes(*label)) for label in labels]))
    statement = session_statement(name, context, credential, size=len(labels), root=root)
    signature = encode_base64(session.signer.sign(pre_authentication(SESSION_TYPE, statement)))
    part: dict[str, object] = {
        "credential": credential.id,
        "size": len(labels),
        "root": root,
        "signature": signature,
    }
    records, ids, events = (b"".join(label[at] for label in labels) for at in range(3))
    return _Signed(statement, part, records, ids, events)


def _check_ids(sessions: Sequence[Session]) -> None:
    seen: set[str] = set()
    for session in sessions:
        for observation in session.observations:
            if observation.credential != session.credential.id:
                raise MalformedManifestError(
                    f"the observation `{observation.example_id}` is in a session of another credential",
                )
            if observation.example_id in seen:
                raise MalformedManifestError(f"the example `{observation.example_id}` is there twice")
            seen.add(observation.example_id)
    if len(seen) > LARGEST_MANIFEST:
        raise MalformedManifestError(f"a manifest holds at most {LARGEST_MANIFEST} observations; issue several")


def _sources(sessions: Sequence[Session]) -> tuple[str, ...]:
    stated = {
        event.credential
        for session in sessions
        for observation in session.observations
        for event in observation.history
    }
    if len(stated) > 0xFFFF:
        raise MalformedManifestError("the histories name more than 65535 sources")
    return tuple(sorted(stated))


def _credentials(sessions: Sequence[Session]) -> list[dict[str, object]]:
    known: dict[str, Credential] = {}
    for session in sessions:
        credential = session.credential
        if known.setdefault(credential.id, credential) != credential:
            raise MalformedManifestError(f"two different credentials are called `{credential.id}`")
    return [
        {"id": each.id, "key": each.key, "holder": each.holder, "authority": each.authority} for each in known.values()
    ]
