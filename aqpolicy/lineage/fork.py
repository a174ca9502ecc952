"""The proof that a log told two stories: two signed heads that no one history can have.

Heads of one size contradict each other by their roots. For two sizes the
proof also holds what the longer history has in the place of the shorter one, and
the hashes that show it to be so.

Layout: docs/formats/proof.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aqpolicy.errors import CanonicalError, InputError, ProofError
from aqpolicy.trust import (
    Checkpoint,
    VerifyKey,
    canonical_json,
    decode_base64,
    encode_base64,
    open_checkpoint,
    parse_canonical,
    verify_consistency,
)

FORMAT: Final = "aqpolicy fork 1"
LARGEST_FILE: Final = 256 * 1024
_LARGEST_PATH: Final = 64
_HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class ForkProof:
    """Two signed heads of one log, the shorter first."""

    shorter: bytes
    """The signed note."""
    longer: bytes
    begin: bytes = b""
    """Root of the longer history's first entries, as many as the shorter one has; empty for heads of one size."""
    path: tuple[bytes, ...] = ()
    """Leads from `begin` to the root of the longer history."""


def encode_fork(proof: ForkProof) -> bytes:
    """Return the file of a proof.

    Raises:
        CanonicalError: A signed head is not UTF-8, or the two are too long for a file.
    """
    try:
        notes = [proof.shorter.decode("utf-8"), proof.longer.decode("utf-8")]
    except UnicodeDecodeError as error:
        raise CanonicalError("a signed head is not UTF-8") from error
    path = [encode_base64(node) for node in proof.path]
    facts = {"begin": encode_base64(proof.begin), "format": FORMAT, "notes": notes, "path": path}
    data = canonical_json(facts) + b"\n"
    if len(data) > LARGEST_FILE:
        raise CanonicalError(f"the proof of a fork has at most {LARGEST_FILE} bytes; leave signatures of others out")
    return data


def read_fork(place: Path | str) -> bytes:
    """Read a file that should hold a proof, of one that is too large enough to be refused.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with Path(place).open("rb") as file:
            return file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"cannot read the proof `{place}`: {error.strerror}") from error


def decode_fork(data: bytes) -> ForkProof:
    """Read the file of a proof.

    Trust:
        data is untrusted.

    Raises:
        CanonicalError: The bytes are not the one encoding of a proof.
    """
    if len(data) > LARGEST_FILE or not data.endswith(b"\n"):
        raise CanonicalError("the file is no proof of a fork")
    try:
        facts = parse_canonical(data[:-1])
    except CanonicalError as error:
        raise CanonicalError(f"the file is no proof of a fork: {error}") from error
    if not isinstance(facts, dict) or set(facts) != {"begin", "format", "notes", "path"} or facts["format"] != FORMAT:
        raise CanonicalError("the file is no proof of a fork of this version")
    shorter, longer = (note.encode("utf-8") for note in _texts(facts["notes"], 2, 2))
    path = tuple(map(_hash, _texts(facts["path"], 0, _LARGEST_PATH)))
    (begin,) = _texts([facts["begin"]], 1, 1)
    return ForkProof(shorter, longer, _hash(begin) if begin else b"", path)


def verify_fork(proof: ForkProof, trusted: Sequence[VerifyKey]) -> tuple[Checkpoint, Checkpoint]:
    """Return the two heads if they contradict each other.

    Trust:
        proof is untrusted.

    Raises:
        SignatureError: No trusted key signed one of the heads.
        CanonicalError: One of them is not a checkpoint.
        ProofError: They do not contradict each other, or are of different logs.
    """
    shorter, longer = open_checkpoint(proof.shorter, trusted), open_checkpoint(proof.longer, trusted)
    if shorter.origin != longer.origin:
        raise ProofError("the heads are of different logs, which contradict each other in nothing")
    if shorter.size == longer.size:
        if shorter.root == longer.root or proof.begin or proof.path:
            raise ProofError(
                "the heads have one size and do not contradict each other, or hashes where none are needed"
            )
        return shorter, longer
    if proof.begin == shorter.root:
        raise ProofError("the longer history begins with the shorter one")
    verify_consistency(shorter.size, longer.size, proof.begin, longer.root, proof.path)
    return shorter, longer


def _texts(items: object, least: int, most: int) -> list[str]:
    if not isinstance(items, list) or not least <= len(items) <= most:
        raise CanonicalError("the proof of a fork has another number of notes or hashes")
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) != len(items):
        raise CanonicalError("the proof of a fork holds something that is no text")
    return texts


def _hash(text: str) -> bytes:
    node = decode_base64(text)
    if len(node) != _HASH_BYTES:
        raise CanonicalError("the proof of a fork holds something that is not a hash")
    return node
