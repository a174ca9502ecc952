"""Proofs that a log holds something, as text: index, path, signed head, and bytes that the application adds.

Only the spelling is judged here. Whether the path leads to the root is for
`verify_inclusion` to say, who signed the head for `open_checkpoint`.

Source:
    C2SP tlog-proof.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from aqpolicy.errors import CanonicalError
from aqpolicy.trust.base64text import decode_base64, encode_base64
from aqpolicy.trust.merkle import LARGEST_PATH, LARGEST_SIZE

LARGEST_PROOF: Final = 4 * 1024 * 1024
"""Bytes of a proof's text."""

_VERSION: Final = "c2sp.org/tlog-proof@v1"
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_HASH: Final = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=", re.ASCII)
"""32 bytes in base64: the last letter holds four of their bits, and two that are 0."""


@dataclass(frozen=True, slots=True)
class TlogProof:
    """What a proof's text holds; the extra bytes are not authenticated by the log."""

    index: int
    path: tuple[bytes, ...]
    note: bytes
    extra: bytes = b""


def encode_tlog_proof(proof: TlogProof) -> bytes:
    """Return the text of a proof."""
    extra = [f"extra {encode_base64(proof.extra)}"] if proof.extra else []
    lines = [_VERSION, *extra, f"index {proof.index}", *map(encode_base64, proof.path), "", ""]
    return "\n".join(lines).encode("ascii") + proof.note


def decode_tlog_proof(data: bytes) -> TlogProof:
    """Read the text of a proof.

    Trust:
        data is untrusted.

    Raises:
        CanonicalError: The bytes are no proof in the only spelling it may have.
    """
    if len(data) > LARGEST_PROOF:
        raise CanonicalError(f"a proof has at most {LARGEST_PROOF} bytes")
    head, gap, note = data.partition(b"\n\n")
    lines = _lines(head)
    if not gap or lines[0] != _VERSION:
        raise CanonicalError(f"a proof begins with `{_VERSION}` and holds an empty line before its signed head")
    extra = lines[1].removeprefix("extra ") if lines[1:] and lines[1].startswith("extra ") else None
    if extra == "":
        raise CanonicalError("a proof without extra data has no line for it")
    index, *path = lines[1 if extra is None else 2 :] or [""]
    number = index.removeprefix("index ")
    if not index.startswith("index ") or _NUMBER.fullmatch(number) is None or int(number) >= LARGEST_SIZE:
        raise CanonicalError("a proof names the index of an entry behind its version and extra data")
    return TlogProof(int(number), _hashes(tuple(path)), note, b"" if extra is None else decode_base64(extra))


def _lines(head: bytes) -> list[str]:
    try:
        return head.decode("ascii").split("\n", LARGEST_PATH + 4)
    except UnicodeDecodeError as error:
        raise CanonicalError("a proof is ASCII up to its signed head") from error


@lru_cache(maxsize=256)  # many proofs share a path
def _hashes(lines: tuple[str, ...]) -> tuple[bytes, ...]:
    if len(lines) > LARGEST_PATH:
        raise CanonicalError("a proof has more hashes than any tree needs")
    if not all(map(_HASH.fullmatch, lines)):
        raise CanonicalError("a proof holds something that is not a hash in its only spelling")
    return tuple(map(a2b_base64, lines))
