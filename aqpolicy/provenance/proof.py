"""Show one label to be in a manifest without showing the others.

The reader needs the manifest's root from somewhere trusted: the signed head, or a
log that names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from aqpolicy.errors import CanonicalError, ProofError
from aqpolicy.trust import digest_text, leaf_hash, parse_canonical, verify_inclusion

_SESSIONS_KEPT: Final = 4096


@dataclass(frozen=True, slots=True)
class SessionProof:
    """A session's signed statement, and the path from it to the root of the manifest."""

    statement: bytes
    session: int
    sessions: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class LabelProof:
    """A label's leaf, the path from it to the root of its session, and the session's own proof."""

    leaf: bytes
    """The bytes that are hashed: tag, record, id, events."""
    index: int
    """Of the leaf in its session."""
    path: tuple[bytes, ...]
    session: SessionProof


class LabelChecker:
    """Checks proofs under one root; what labels of one session have in common is checked once."""

    def __init__(self, root: bytes) -> None:
        """Begin with the root of a manifest.

        Trust:
            root comes from a verified source.
        """
        self._root = root
        self._session = lru_cache(_SESSIONS_KEPT)(self._check_session)

    def check(self, proof: LabelProof) -> None:
        """Return if the proof connects its leaf with the root.

        Trust:
            proof is untrusted.

        Raises:
            ProofError: It does not.
        """
        size, root = self._session(proof.session)
        verify_inclusion(proof.index, size, leaf_hash(proof.leaf), proof.path, root)

    def _check_session(self, proof: SessionProof) -> tuple[int, bytes]:
        """Return size and root of a session that is under the root of the manifest."""
        verify_inclusion(proof.session, proof.sessions, leaf_hash(proof.statement), proof.path, self._root)
        try:
            statement = parse_canonical(proof.statement)
        except CanonicalError as error:
            raise ProofError("the statement of the session cannot be read") from error
        size = statement.get("size") if isinstance(statement, dict) else None
        if not isinstance(statement, dict) or type(size) is not int:
            raise ProofError("the statement of the session is ill-formed")
        return size, _digest_bytes(statement.get("root"))


def verify_label_proof(proof: LabelProof, root: bytes) -> None:
    """Return if the proof connects its leaf with the root of a manifest.

    Trust:
        proof is untrusted; root comes from a verified source.

    Raises:
        ProofError: It does not.
    """
    LabelChecker(root).check(proof)


def _digest_bytes(text: object) -> bytes:
    try:
        digest = bytes.fromhex(text.removeprefix("sha256:")) if isinstance(text, str) else b""
    except ValueError:
        digest = b""
    if len(digest) != 32 or digest_text(digest) != text:
        raise ProofError("the statement of the session names no root")
    return digest
