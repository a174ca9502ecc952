"""The head of a manifest: what the issuer signs, and what that commits to beside the labels.

The head itself is small, so that it can travel with one label: it names schema
and credentials by digest and the sessions by the root over them. Everything here
checks shape and cross-references, no signatures; `manifest` does those. The
statement of a session is derived here, in one place for writer and reader.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from aqpolicy.errors import MalformedManifestError
from aqpolicy.provenance.observation import Credential, Field
from aqpolicy.provenance.parts import FORMAT, Context, CredentialPart, Credentials, Head
from aqpolicy.trust import canonical_json, decode_base64, digest_text, encode_base64, leaf_hash, root_of, sha256

HEADER_TYPE: Final = "application/vnd.aqpolicy.manifest+json"
SESSION_TYPE: Final = "application/vnd.aqpolicy.session+json"

SESSION: Final = struct.Struct("<HI32s64s")
"""Number of the credential, number of labels, root, signature."""


@dataclass(frozen=True, slots=True)
class SessionPart:
    """One session: whose it is (by number), what it covers, and the annotator's signature over its statement."""

    credential: int
    size: int
    root: bytes
    signature: bytes


@dataclass(frozen=True)
class Header:
    """All of a manifest but the labels."""

    head: Head
    envelope: bytes
    """The head as it was signed."""
    context: Context
    context_bytes: bytes
    credentials: tuple[CredentialPart, ...]
    sessions: tuple[SessionPart, ...]

    def __post_init__(self) -> None:
        """Check that the parts refer to what is there."""
        if {session.credential for session in self.sessions} != set(range(len(self.credentials))):
            raise MalformedManifestError("the sessions and the credentials of the manifest do not name each other")
        if len(self.sessions) != self.head.sessions or min(session.size for session in self.sessions) < 1:
            raise MalformedManifestError("the manifest has other sessions than its head says, or one without labels")
        if sum(session.size for session in self.sessions) != self.head.size:
            raise MalformedManifestError("the sizes of the manifest's sessions do not add up")

    def credential_map(self) -> dict[str, Credential]:
        """Return the credentials by id."""
        return {
            part.id: Credential(part.id, part.key, part.holder, part.authority, decode_base64(part.envelope))
            for part in self.credentials
        }

    @cached_property
    def statements(self) -> tuple[bytes, ...]:
        """What each annotator signed, one statement per session."""
        head = self.head
        return tuple(
            session_statement(
                head.name,
                head.purpose,
                head.context,
                credential=self.credentials[part.credential].id,
                key=self.credentials[part.credential].key,
                size=part.size,
                root=part.root,
            )
            for part in self.sessions
        )


def context_bytes(taxonomy: str, fields: Sequence[Field], sources: Sequence[str]) -> bytes:
    """Return the bytes of a context.

    Raises:
        MalformedManifestError: The parts do not make one.
    """
    named = tuple({"kind": field.kind, "name": field.name, "values": tuple(field.values)} for field in fields)
    context = Context.of({"fields": named, "sources": tuple(sources), "taxonomy": taxonomy})
    return canonical_json(context.model_dump())


def credential_bytes(credentials: Sequence[Credential]) -> bytes:
    """Return the bytes of the credentials.

    Raises:
        MalformedManifestError: One of them does not fit.
    """
    parts = tuple(
        {
            "id": each.id,
            "key": each.key,
            "holder": each.holder,
            "authority": each.authority,
            "envelope": encode_base64(each.envelope),
        }
        for each in credentials
    )
    return canonical_json(Credentials.of({"credentials": parts}).model_dump())


def head_bytes(parts: Mapping[str, object]) -> bytes:
    """Return the bytes of a head.

    Raises:
        MalformedManifestError: The parts do not make one.
    """
    return canonical_json(Head.of({"format": FORMAT, **parts}).model_dump())


def session_statement(
    manifest: str, purpose: str, context: str, *, credential: str, key: str, size: int, root: bytes
) -> bytes:
    """Return the bytes that an annotator signs: this session, of this manifest, for this purpose."""
    return canonical_json(
        {
            "context": context,
            "credential": credential,
            "key": key,
            "manifest": manifest,
            "purpose": purpose,
            "root": digest_text(root),
            "size": size,
        },
    )


def manifest_root(statements: Sequence[bytes]) -> bytes:
    """Return the root over the sessions; its leaves are their statements."""
    return root_of([leaf_hash(statement) for statement in statements])


def parse_context(data: bytes, digest: str) -> Context:
    """Read the context with a digest.

    Raises:
        MalformedManifestError: The bytes have another digest, or are none.
    """
    _refuse_other(data, digest, "context")
    return Context.parse(data)


def parse_credentials(data: bytes, digest: str) -> tuple[CredentialPart, ...]:
    """Read the credentials with a digest.

    Raises:
        MalformedManifestError: The bytes have another digest, or are none.
    """
    _refuse_other(data, digest, "credentials")
    return Credentials.parse(data).credentials


def _refuse_other(data: bytes, digest: str, what: str) -> None:
    if digest_text(sha256(data)) != digest:
        raise MalformedManifestError(f"the {what} of the manifest differ from what was signed")
