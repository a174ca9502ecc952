"""Write a manifest: sessions signed by their annotators, the whole signed by the issuer.

It refuses what a reader would refuse. It does not judge whether observations
are true; signatures say who states them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from aqpolicy.errors import MalformedManifestError, ManifestSignatureError
from aqpolicy.provenance.codec import LabelCodec, leaf_bytes
from aqpolicy.provenance.header import (
    HEADER_TYPE,
    SESSION,
    SESSION_TYPE,
    context_bytes,
    credential_bytes,
    head_bytes,
    manifest_root,
    session_statement,
)
from aqpolicy.provenance.observation import Credential, Field, Session
from aqpolicy.provenance.parts import LARGEST_LIST, LARGEST_MANIFEST
from aqpolicy.trust import (
    SigningKey,
    digest_text,
    leaf_hash,
    pre_authentication,
    replace_file,
    root_of,
    seal,
    sha256,
    sized,
)

MAGIC: Final = b"AQMANIF2"
LENGTH_BYTES: Final = 4
"""Of the lengths of head, context and credentials."""

PURPOSE: Final = "training"
"""What a manifest is for where its issuer does not say it."""


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What every session of a manifest is signed with."""

    name: str
    purpose: str
    context: str
    codec: LabelCodec


@dataclass(frozen=True, slots=True)
class _Signed:
    """One session as bytes: what the body keeps and what the annotator signed."""

    statement: bytes
    part: bytes
    records: bytes
    ids: bytes
    events: bytes


def encode_manifest(
    name: str,
    taxonomy: str,
    schema: Sequence[Field],
    sessions: Sequence[Session],
    issuer: SigningKey,
    *,
    purpose: str = PURPOSE,
    serial: int = 1,
    supersedes: bytes | None = None,
) -> bytes:
    """Return the bytes of a manifest; see `issue_manifest`.

    Raises:
        MalformedManifestError: Something does not fit the format; the message names it.
        ManifestSignatureError: A session's signer does not hold its credential.
    """
    fields = tuple(schema)
    _check_ids(sessions)
    sources = _sources(sessions)
    context, known = context_bytes(taxonomy, fields, sources), _credentials(sessions)
    credentials = credential_bytes(tuple(known.values()))
    meaning = _Meaning(name, purpose, digest_text(sha256(context)), LabelCodec(fields, sources))
    numbers = {credential: number for number, credential in enumerate(known)}
    signed = [_sign_session(session, numbers[session.credential.id], meaning) for session in sessions]
    head = head_bytes(
        {
            "name": name,
            "purpose": purpose,
            "serial": serial,
            "supersedes": "" if supersedes is None else digest_text(supersedes),
            "context": meaning.context,
            "credentials": digest_text(sha256(credentials)),
            "sessions": len(sessions),
            "size": sum(len(session.observations) for session in sessions),
            "root": digest_text(manifest_root([part.statement for part in signed])),
        }
    )
    parts = (seal(HEADER_TYPE, head, [issuer]), context, credentials)
    columns = ([getattr(part, column) for part in signed] for column in ("part", "records", "ids", "events"))
    return b"".join([MAGIC, *(sized(part, LENGTH_BYTES) for part in parts), *chain.from_iterable(columns)])


def issue_manifest(  # noqa: PLR0917  # the order in which the file has them
    path: Path | str,
    name: str,
    taxonomy: str,
    schema: Sequence[Field],
    sessions: Sequence[Session],
    issuer: SigningKey,
    *,
    purpose: str = PURPOSE,
    serial: int = 1,
    supersedes: bytes | None = None,
) -> bytes:
    """Write a manifest, in the place of an older one, and return the digest of the file.

    Args:
        path: The file, by custom `*.aqm`.
        name: What the manifest is called; annotators sign it, so sessions cannot move to another.
        taxonomy: The vocabulary of the attributes, `name@version`.
        schema: The attributes, in the order in which records keep them.
        sessions: Observations by annotator; no example may be in two.
        issuer: Key that vouches for the credentials and for the whole.
        purpose: What it may be used for; annotators sign it too.
        serial: Higher than that of every manifest of this name before.
        supersedes: Root of the manifest whose place this one takes.

    Raises:
        InputError: The file cannot be written.
        MalformedManifestError: Something does not fit the format; the message names it.
        ManifestSignatureError: A session's signer does not hold its credential.
    """
    data = encode_manifest(
        name, taxonomy, schema, sessions, issuer, purpose=purpose, serial=serial, supersedes=supersedes
    )
    replace_file(Path(path), data)
    return sha256(data)


def _sign_session(session: Session, number: int, meaning: _Meaning) -> _Signed:
    credential = session.credential
    if session.signer.verify_key.text != credential.key:
        raise ManifestSignatureError(f"the signer of a session does not hold its credential `{credential.id}`")
    labels = [meaning.codec.encode(observation) for observation in session.observations]
    root = root_of([leaf_hash(leaf_bytes(*label)) for label in labels])
    statement = session_statement(
        meaning.name,
        meaning.purpose,
        meaning.context,
        credential=credential.id,
        key=credential.key,
        size=len(labels),
        root=root,
    )
    signature = session.signer.sign(pre_authentication(SESSION_TYPE, statement))
    records, ids, events = (b"".join(label[at] for label in labels) for at in range(3))
    return _Signed(statement, SESSION.pack(number, len(labels), root, signature), records, ids, events)


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
    if len(stated) > LARGEST_LIST:
        raise MalformedManifestError(f"the histories name more than {LARGEST_LIST} sources; issue several manifests")
    return tuple(sorted(stated))


def _credentials(sessions: Sequence[Session]) -> dict[str, Credential]:
    known: dict[str, Credential] = {}
    for session in sessions:
        credential = session.credential
        if known.setdefault(credential.id, credential) != credential:
            raise MalformedManifestError(f"two different credentials are called `{credential.id}`")
    if len(known) > LARGEST_LIST:
        raise MalformedManifestError(f"a manifest has at most {LARGEST_LIST} credentials; issue several")
    return known
