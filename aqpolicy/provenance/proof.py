"""Show one label to be in a manifest without showing the others.

The reader needs the manifest's root from somewhere trusted: the signed header,
or a log that names it.
"""

from __future__ import annotations

from dataclasses import dataclass

from aqpolicy.errors import CanonicalError, ProofError
from aqpolicy.trust import digest_text, leaf_hash, parse_canonical, verify_inclusion


@dataclass(frozen=True, slots=True)
class LabelProof:
    """A label's leaf, its session's signed statement, and the paths from one to the other to the root."""

    leaf: bytes
    """The bytes that are hashed: tag, record, id, events."""
    index: int
    """Of the leaf in its session."""
    path: tuple[bytes, ...]
    statement: bytes
    session: int
    sessions: int
    session_path: tuple[bytes, ...]


def verify_label_proof(proof: LabelProof, root: bytes) -> None:
    """Return if the proof connects its leaf with the root of a manifest.

    Trust:
        proof is untrusted; root comes from a verified source.

    Raises:
        ProofError: It does not.
    """
    try:
        statement = parse_canonical(proof.statement)
    except CanonicalError as error:
        raise ProofError("the statement of the session cannot be read") from error
    size = statement.get("size") if isinstance(statement, dict) else None
    if not isinstance(statement, dict) or not isinstance(size, int):
        raise ProofError("the statement of the session is ill-formed")
    session_root = _digest_bytes(statement.get("root"))
    verify_inclusion(proof.index, size, leaf_hash(proof.leaf), proof.path, session_root)
    verify_inclusion(proof.session, proof.sessions, leaf_hash(proof.statement), proof.session_path, root)


def _digest_bytes(text: object) -> bytes:
    try:
        digest = bytes.fromhex(text.removeprefix("sha256:")) if isinstance(text, str) else b""
    except ValueError:
        digest = b""
    if len(digest) != 32 or digest_text(digest) != text:
        raise ProofError("the statement of the session names no root")
    return digest
