"""Read a manifest and believe none of it before everything is verified.

Rules: the bytes that were verified are the bytes that are used (the file is
read once); every byte is covered by a signature, by a tree that a signature
covers, or has only one legal value; an example is there at most once.
"""

from __future__ import annotations

from itertools import starmap
from pathlib import Path
from typing import Final

from aqpolicy.errors import (
    CanonicalError,
    InputError,
    MalformedManifestError,
    ManifestSignatureError,
    ProvenanceError,
    SignatureError,
    TrustError,
)
from aqpolicy.provenance.codec import LabelCodec
from aqpolicy.provenance.header import (
    HEADER_TYPE,
    SESSION,
    SESSION_TYPE,
    Header,
    SessionPart,
    manifest_root,
    parse_context,
    parse_credentials,
)
from aqpolicy.provenance.issue import LENGTH_BYTES, MAGIC
from aqpolicy.provenance.labels import Labels
from aqpolicy.provenance.manifest import Manifest
from aqpolicy.provenance.parts import Head
from aqpolicy.trust import Cursor, Keyring, VerifyKey, pre_authentication, root_of

ISSUER_ROLE: Final = "manifest-issuer"


def load_manifest(path: Path | str, keyring: Keyring, *, purpose: str | None = None, least_serial: int = 1) -> Manifest:
    """Read a manifest file and verify all of it.

    Args:
        path: The file.
        keyring: Who may issue manifests.
        purpose: What it is to be used for; any, where none is given.
        least_serial: The highest number that was seen before.

    Raises:
        InputError: The file cannot be read.
        MalformedManifestError: The bytes are no manifest, or were altered.
        ManifestSignatureError: The issuer is not trusted, or a signature fails.
        ProvenanceError: It is for another purpose, or an older one than was seen before.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the manifest `{path}`: {error.strerror}") from error
    return decode_manifest(data, keyring, purpose=purpose, least_serial=least_serial)


def decode_manifest(data: bytes, keyring: Keyring, *, purpose: str | None = None, least_serial: int = 1) -> Manifest:
    """Verify the bytes of a manifest and return it; see `load_manifest`.

    (1) The issuer signed the head, which names schema and credentials. (2) Each
    session's statement, derived from the head, is signed by the key of its
    credential, and the root covers the statements. (3) The labels have the roots
    that the sessions say.

    Trust:
        data is untrusted; keyring comes from the operator.

    Raises:
        MalformedManifestError: The bytes are no manifest, or were altered.
        ManifestSignatureError: The issuer is not trusted, or a signature fails.
        ProvenanceError: It is for another purpose, or an older one than was seen before.
    """
    if not data.startswith(MAGIC):
        raise MalformedManifestError("the bytes are not a manifest that this version reads")
    header, start = _read_header(data, keyring)  # (1)
    refuse_other_use(header.head, purpose, least_serial)
    _verify_sessions(header)  # (2)
    codec = LabelCodec(header.context.schema_fields(), header.context.sources)
    labels = Labels(data, start, header.head.size, codec)
    _verify_labels(header, labels)  # (3)
    return Manifest(header, codec, labels, data)


def open_head(envelope: bytes, keyring: Keyring) -> Head:
    """Return the head that an issuer signed.

    Trust:
        envelope is untrusted; keyring comes from the operator.

    Raises:
        MalformedManifestError: The bytes are no head.
        ManifestSignatureError: The issuer is not trusted, or the signature fails.
    """
    try:
        return Head.parse(keyring.open(envelope, HEADER_TYPE, ISSUER_ROLE).payload)
    except SignatureError as error:
        raise ManifestSignatureError(f"the issuer of the manifest: {error}") from error
    except TrustError as error:
        raise MalformedManifestError(f"the head of the manifest: {error}") from error


def refuse_other_use(head: Head, purpose: str | None, least_serial: int = 1) -> None:
    """Return if a manifest is for this purpose, where one is given, and not older than what was seen before.

    Raises:
        ProvenanceError: It is not.
    """
    if purpose is not None and head.purpose != purpose:
        raise ProvenanceError(f"the manifest `{head.name}` is for `{head.purpose}`, not for `{ascii(purpose)[1:-1]}`")
    if head.serial < least_serial:
        raise ProvenanceError(
            f"the manifest `{head.name}` is number {head.serial}; number {least_serial} was seen before"
        )


def _read_header(data: bytes, keyring: Keyring) -> tuple[Header, int]:
    """Return all that comes before the labels, and where these begin."""
    cursor = Cursor(data, "manifest")
    try:
        cursor.take(len(MAGIC))
        envelope = cursor.sized(LENGTH_BYTES)
        head = open_head(envelope, keyring)
        context, credentials = cursor.sized(LENGTH_BYTES), cursor.sized(LENGTH_BYTES)
        if head.sessions * SESSION.size > len(data):
            raise MalformedManifestError("the manifest is shorter than its head says")
        table = cursor.take(head.sessions * SESSION.size)
    except CanonicalError as error:
        raise MalformedManifestError(str(error)) from error
    header = Header(
        head=head,
        envelope=envelope,
        context=parse_context(context, head.context),
        context_bytes=context,
        credentials=parse_credentials(credentials, head.credentials),
        sessions=tuple(starmap(SessionPart, SESSION.iter_unpack(table))),
    )
    before = len(MAGIC) + 3 * LENGTH_BYTES + len(envelope) + len(context) + len(credentials)
    return header, before + len(table)


def _verify_sessions(header: Header) -> None:
    keys = [_credential_key(part.id, part.key) for part in header.credentials]
    for number, (part, statement) in enumerate(zip(header.sessions, header.statements, strict=True)):
        try:
            keys[part.credential].verify(part.signature, pre_authentication(SESSION_TYPE, statement))
        except TrustError as error:
            raise ManifestSignatureError(
                f"session {number} is not signed under its credential `{header.credentials[part.credential].id}`: "
                f"{error}",
            ) from error
    if manifest_root(header.statements) != header.head.root_bytes:
        raise MalformedManifestError("the root of the manifest does not cover its sessions")


def _credential_key(name: str, text: str) -> VerifyKey:
    try:
        return VerifyKey.parse(text)
    except TrustError as error:
        raise MalformedManifestError(f"the key of the credential `{name}`: {error}") from error


def _verify_labels(header: Header, labels: Labels) -> None:
    hashes = labels.session_hashes(part.size for part in header.sessions)
    for number, (part, session) in enumerate(zip(header.sessions, hashes, strict=True)):
        if root_of(session) != part.root:
            raise MalformedManifestError(
                f"the labels of session {number} (credential `{header.credentials[part.credential].id}`) are not "
                "those that were signed",
            )
