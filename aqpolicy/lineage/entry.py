"""Entries of the log: the leaves of its tree.

No IO. An entry is a 16-byte header and a payload; a STEP has a fixed layout with
a place for every rank, the rare kinds carry canonical JSON.

Layout: docs/formats/lineage-log.md.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aqpolicy.errors import CanonicalError, CorruptLogError, LineageError
from aqpolicy.trust import canonical_json, parse_canonical

GENESIS: Final = 1
KEYRING: Final = 2
POLICY: Final = 3
MANIFEST: Final = 4
STATUS: Final = 5
STEP: Final = 6
CKPT: Final = 7
RESUME: Final = 8
SEAL: Final = 9
END: Final = 12
KINDS: Final = {
    GENESIS: "genesis",
    KEYRING: "keyring",
    POLICY: "policy",
    MANIFEST: "manifest",
    STATUS: "status",
    STEP: "step",
    CKPT: "model",
    RESUME: "resume",
    SEAL: "seal",
    END: "end",
}
"""Kinds in use; 10 (erase) and 11 (prune) are kept free."""

FORMAT: Final = 3
"""Version of the log that is written and read here."""

LARGEST_ENTRY: Final = 65_535
"""Bytes of an entry, by C2SP tlog-tiles."""

_HEADER: Final = struct.Struct("<4sBBHII")
_STEP: Final = struct.Struct("<16sIQIHHiQ32s32s32s32sI")
_RANK: Final = struct.Struct("<IIII32s")

MOST_RANKS: Final = (LARGEST_ENTRY - _HEADER.size - _STEP.size) // _RANK.size
"""Ranks of a step: as many as an entry has room for."""

MOST_CELLS: Final = 2**32 - 1
"""Cells of one rank in one step."""


@dataclass(frozen=True, slots=True)
class RankEntry:
    """The commitment to the rows of one rank; `cells` counts measurements (example and group)."""

    rank: int
    rows: int
    cells: int
    inner_root: bytes


@dataclass(frozen=True, slots=True)
class StepEntry:
    """The commitment to one step."""

    run_id: bytes
    attempt: int
    step: int
    epoch: int
    phase: int
    """Position among the phases of the first entry."""
    stage: int
    today: int
    time_ns: int
    bundle: bytes
    manifest_root: bytes
    budget_state: bytes
    """What every budget has been charged so far (`tally`)."""
    data_cursor: bytes
    """Which examples have been seen so far, in order (`tally`)."""
    ranks: tuple[RankEntry, ...]

    @property
    def rows(self) -> int:
        """Rows of all ranks."""
        return sum(rank.rows for rank in self.ranks)


def encode_entry(kind: int, payload: bytes) -> bytes:
    """Return the bytes of an entry.

    Raises:
        LineageError: The payload is too large for an entry.
    """
    data = _HEADER.pack(b"AQL1", kind, FORMAT, 0, len(payload), 0) + payload
    if len(data) > LARGEST_ENTRY:
        raise LineageError(f"an entry of {len(data)} bytes is larger than {LARGEST_ENTRY}")
    return data


def decode_entry(data: bytes) -> tuple[int, bytes]:
    """Return kind and payload of an entry.

    Trust:
        data is untrusted.

    Raises:
        CorruptLogError: The bytes are no entry of this version.
    """
    if not _HEADER.size <= len(data) <= LARGEST_ENTRY:
        raise CorruptLogError("the entry is cut short or too long")
    magic, kind, version, flags, length, zero = _HEADER.unpack_from(data)
    known = (magic, version, flags, zero) == (b"AQL1", FORMAT, 0, 0) and kind in KINDS
    if not known or length != len(data) - _HEADER.size:
        raise CorruptLogError("the entry has no valid header")
    return kind, data[_HEADER.size :]


def refuse_other_format(data: bytes) -> None:
    """Refuse the first entry of a log of another version, by the version's number.

    Raises:
        LineageError: It is one.
    """
    if data[:4] == b"AQL1" and len(data) > _HEADER.size and data[4] == GENESIS and data[5] != FORMAT:
        raise LineageError(
            f"the log has format {data[5]}, this version reads format {FORMAT}; read it with the version that wrote it"
        )


def encode_step(entry: StepEntry) -> bytes:
    """Return the payload of a STEP entry."""
    head = _STEP.pack(
        entry.run_id,
        entry.attempt,
        entry.step,
        entry.epoch,
        entry.phase,
        entry.stage,
        entry.today,
        entry.time_ns,
        entry.bundle,
        entry.manifest_root,
        entry.budget_state,
        entry.data_cursor,
        len(entry.ranks),
    )
    return head + b"".join(_RANK.pack(rank.rank, rank.rows, rank.cells, 0, rank.inner_root) for rank in entry.ranks)


def decode_step(payload: bytes) -> StepEntry:
    """Return the STEP entry of a payload.

    Trust:
        payload is untrusted.

    Raises:
        CorruptLogError: The payload is no step.
    """
    if len(payload) < _STEP.size:
        raise CorruptLogError("the step entry is cut short")
    *facts, world = _STEP.unpack_from(payload)
    if not world or len(payload) != _STEP.size + world * _RANK.size:
        raise CorruptLogError("the step entry has another length")
    ranks = []
    for number, (rank, rows, cells, flags, root) in enumerate(_RANK.iter_unpack(payload[_STEP.size :])):
        if rank != number or flags:
            raise CorruptLogError("the ranks of the step entry are not in order")
        ranks.append(RankEntry(rank, rows, cells, root))
    return StepEntry(*(*facts, tuple(ranks)))


def encode_facts(facts: Mapping[str, Any]) -> bytes:
    """Return canonical JSON.

    Raises:
        LineageError: The facts have no canonical form.
    """
    try:
        return canonical_json(dict(facts))
    except CanonicalError as error:
        raise LineageError(f"the log takes no such facts: {error}") from error


def decode_facts(payload: bytes) -> dict[str, Any]:
    """Return the object of a payload that carries canonical JSON.

    Trust:
        payload is untrusted.

    Raises:
        CorruptLogError: It is no canonical JSON object.
    """
    try:
        facts = parse_canonical(payload)
    except CanonicalError as error:
        raise CorruptLogError(f"the entry holds no canonical JSON: {error}") from error
    if not isinstance(facts, dict):
        raise CorruptLogError("the entry holds no object")
    return facts
