"""The proof of one row as a file: what a stranger needs to check it with a public key alone.

No IO; nothing here judges what is proved (`proved`). The text is a C2SP
tlog-proof whose extra bytes carry the entry, the row and what reads them.

Layout: docs/formats/proof.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aqpolicy.errors import CanonicalError, CorruptLogError
from aqpolicy.lineage.entry import CKPT, STEP, decode_facts, decode_step
from aqpolicy.trust import Cursor, TlogProof, decode_tlog_proof, encode_tlog_proof, path_bytes, sized

MAGIC: Final = b"AQP1"
LARGEST_NAME: Final = 1024
"""Bytes of an example's id."""
MOST_LATER: Final = 4096
"""Entries that say whether a step counts."""


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry, and the path that leads from it to the root of the log."""

    index: int
    data: bytes
    path: tuple[bytes, ...]


_NONE: Final = LoggedEntry(0, b"", ())


@dataclass(frozen=True, slots=True)
class RowProof:
    """Everything that ties one row to a signed head; nothing of it is believed yet."""

    note: bytes
    """The signed head, as it was published."""
    genesis: LoggedEntry | None
    """The first entry: it names depth groups and budgets, and with them the width of a row. A short proof leaves it
    out; it is read with the bundle that the step names."""
    step: LoggedEntry
    rank: int
    position: int
    """Of the row among those of its rank."""
    inner_path: tuple[bytes, ...]
    leaf: bytes
    example: str = ""
    """Id of the example; empty where the proof does not give it away."""
    later: tuple[LoggedEntry, ...] = ()
    """Entries that say whether another attempt took the step's place."""
    label: bytes = b""
    """The signed label of the example; its form is not the log's business."""


def encode_row_proof(proof: RowProof) -> bytes:
    """Return the file of a proof.

    Raises:
        CanonicalError: A part is too long for its place, or there are too many later entries.
    """
    if len(proof.later) > MOST_LATER:
        raise CanonicalError(f"a proof holds at most {MOST_LATER} later entries; prove the step under an older head")
    try:
        extra = b"".join(
            (
                MAGIC,
                sized(proof.example.encode("utf-8"), 2),
                _logged(proof.genesis or _NONE),
                sized(proof.step.data, 2),
                proof.rank.to_bytes(4, "little"),
                proof.position.to_bytes(4, "little"),
                path_bytes(proof.inner_path),
                sized(proof.leaf, 4),
                len(proof.later).to_bytes(2, "little"),
                *(entry.index.to_bytes(8, "little") + _logged(entry) for entry in proof.later),
                sized(proof.label, 4),
            )
        )
    except (OverflowError, UnicodeEncodeError) as error:
        raise CanonicalError(f"a part of the proof does not fit its place: {error}") from error
    return encode_tlog_proof(TlogProof(proof.step.index, proof.step.path, proof.note, extra))


def decode_row_proof(data: bytes) -> RowProof:
    """Read the file of a proof.

    Trust:
        data is untrusted.

    Raises:
        CanonicalError: The bytes are not the one encoding of a proof.
    """
    try:
        text = decode_tlog_proof(data)
    except CanonicalError as error:
        raise CanonicalError(f"the file is no proof of a row: {error}") from error
    cursor = Cursor(text.extra, "proof")
    if cursor.take(len(MAGIC)) != MAGIC:
        raise CanonicalError("the proof is not one of a row, or of another version")
    example = cursor.text(LARGEST_NAME)
    genesis = _read_logged(cursor, 0)
    if not genesis.data and genesis.path:
        raise CanonicalError("the proof has a path to a first entry that it does not hold")
    step = LoggedEntry(text.index, cursor.sized(2), text.path)
    rank, position, inner_path, leaf = cursor.number(4), cursor.number(4), cursor.path(), cursor.sized(4)
    count = cursor.number(2)
    if count > MOST_LATER:
        raise CanonicalError(f"a proof holds at most {MOST_LATER} later entries")
    later = tuple(_read_logged(cursor, cursor.number(8)) for _ in range(count))
    label = cursor.sized(4)
    cursor.finish()
    return RowProof(
        text.note, genesis if genesis.data else None, step, rank, position, inner_path, leaf, example, later, label
    )


WITNESSES: Final = (STEP, CKPT)
"""Kinds of entries that name the attempt that the log was in. A seal does not: it names that of the steps it covers."""


def attempt_of(kind: int, payload: bytes) -> int:
    """Return the attempt that the log was in where it says so.

    Args:
        kind: Of the entry, one of `WITNESSES`.
        payload: Of the entry.

    Raises:
        CorruptLogError: The entry does not say it.
    """
    attempt = decode_step(payload).attempt if kind == STEP else decode_facts(payload).get("attempt")
    if type(attempt) is not int:
        raise CorruptLogError("the entry of a model names no attempt")
    return attempt


def _logged(entry: LoggedEntry) -> bytes:
    return sized(entry.data, 2) + path_bytes(entry.path)


def _read_logged(cursor: Cursor, index: int) -> LoggedEntry:
    return LoggedEntry(index, cursor.sized(2), cursor.path())
