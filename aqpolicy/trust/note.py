"""Signed notes that state the head of a log: origin, size and root.

Checkpoints have no extension lines here. Signatures by unknown keys are passed
over; a failing one that claims a trusted key condemns the note.

Source:
    C2SP signed-note and tlog-checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aqpolicy.errors import CanonicalError, SignatureError
from aqpolicy.trust.base64text import decode_base64, encode_base64
from aqpolicy.trust.keys import Retired, SigningKey, VerifyKey
from aqpolicy.trust.merkle import HASH_BYTES, LARGEST_SIZE

_ORIGIN: Final = re.compile(r"[!-*,-~]{1,256}", re.ASCII)
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_SIGNATURE_LINE: Final = re.compile("— ([^ +]+) ([A-Za-z0-9+/=]+)", re.ASCII)
_LARGEST_NOTE: Final = 1_000_000
_LARGEST_SIGNATURES: Final = 16
_KEY_ID_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log.

    Raises:
        CanonicalError: A part cannot be written in a note.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Refuse what would be read back differently."""
        if _ORIGIN.fullmatch(self.origin) is None:
            raise CanonicalError("the origin of a checkpoint is ASCII without spaces and `+`")
        if not 0 <= self.size <= LARGEST_SIZE:
            raise CanonicalError("the size of a checkpoint is not the size of a tree")
        if len(self.root) != HASH_BYTES:
            raise CanonicalError("the root of a checkpoint is not a hash")

    @property
    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """Return the signed note of a checkpoint."""
    public = key.verify_key
    signature = public.key_id + key.sign(checkpoint.text.encode("utf-8"))
    return f"{checkpoint.text}\n— {public.name} {encode_base64(signature)}\n"


def open_checkpoint(note: str | bytes, trusted: Sequence[VerifyKey]) -> Checkpoint:
    """Return the checkpoint of a note that a trusted key signed.

    A retired key counts for the heads that its bound covers, and for others is a stranger's.

    Trust:
        note is untrusted; trusted comes from the operator's keyring.

    Raises:
        SignatureError: No trusted key is given, none signed, or a signature of one fails.
        CanonicalError: The note is not a checkpoint in the only spelling it may have.
    """
    if not trusted:
        raise SignatureError("the keyring lists no key that may sign a checkpoint")
    text, lines = _split(_note_text(note))
    known = {(key.name, key.key_id): key for key in trusted}
    names, verified = [], 0
    for name, key_id, signature in map(_signature, lines):
        names.append(name)
        key = known.get((name, key_id))
        if key is not None and (key.retired is None or _is_within(key.retired, text)):
            key.restored.verify(signature, text.encode("utf-8"))
            verified += 1
    if not verified:
        signers = ", ".join(f"`{ascii(name)[1:-1]:.80}`" for name in names)
        raise SignatureError(f"no trusted key signed this checkpoint; it is signed by {signers}")
    return _parse(text)


def _note_text(note: str | bytes) -> str:
    if len(note) > _LARGEST_NOTE:
        raise CanonicalError("a note is too long")
    try:
        return (note.encode("utf-8") if isinstance(note, str) else note).decode("utf-8")
    except UnicodeError as error:
        raise CanonicalError("a note is not UTF-8") from error


def _split(note: str) -> tuple[str, list[str]]:
    if any(ord(letter) < 32 and letter != "\n" for letter in note):
        raise CanonicalError("a note holds a control character")
    text, gap, signatures = note.rpartition("\n\n")
    if not gap or not signatures.endswith("\n"):
        raise CanonicalError("a note is a text, an empty line and signature lines")
    lines = signatures[:-1].split("\n")
    if len(lines) > _LARGEST_SIGNATURES:
        raise CanonicalError(f"a note carries at most {_LARGEST_SIGNATURES} signatures")
    return text + "\n", lines


def _signature(line: str) -> tuple[str, bytes, bytes]:
    match = _SIGNATURE_LINE.fullmatch(line)
    if match is None:
        raise CanonicalError("a signature line of a note is ill-formed")
    data = decode_base64(match[2])
    if len(data) <= _KEY_ID_BYTES:
        raise CanonicalError("a signature of a note is too short")
    return match[1], data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:]


def _is_within(bound: Retired, text: str) -> bool:
    """Return whether a text that is not verified yet speaks of a head within a bound."""
    try:
        checkpoint = _parse(text)
    except CanonicalError:
        return False
    return bound.covers(checkpoint.origin, checkpoint.size)


def _parse(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != 4 or _SIZE.fullmatch(lines[1]) is None:
        raise CanonicalError("a checkpoint has three lines: origin, size and root")
    return Checkpoint(lines[0], int(lines[1]), decode_base64(lines[2]))
