"""Entries of the log: the leaves of its tree.

No IO. An entry is a 16-byte header and a payload; STEP has a fixed layout, the
rare kinds carry canonical JSON. Several ranks have their place in a STEP.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from aqpolicy.errors import CanonicalError, CorruptLogError, LineageError
from aqpolicy.trust import canonical_json, parse_canonical

GENESIS: Final = 1
STATUS: Final = 5
STEP: Final = 6
CKPT: Final = 7
END: Final = 12
KINDS: Final = {GENESIS: "genesis", STATUS: "status", STEP: "step", CKPT: "checkpoint", END: "end"}
"""Kinds in use; 2-4 and 8-11 are kept for keyring, policy, manifest, resume, seal, erase and prune."""

LARGEST: Final = 65_535
"""Bytes of an entry, by tlog-tiles."""

_HEADER: Final = struct.Struct("<4sBBHII")
_STEP: Final = struct.Struct("<16sIQIQ32s32sI")
_RANK: Final = struct.Struct("<IIII32s")


@dataclass(frozen=True, slots=True)
class StepEntry:
    """The commitment to one step."""

    run_id: bytes
    attempt: int
    step: int
    epoch: int
    time_ns: int
    bundle: bytes
    manifest_root: bytes
    rows: int
    cells: int
    inner_root: bytes


def encode_entry(kind: int, payload: bytes) -> bytes:
    """Return the bytes of an entry.

    Raises:
        LineageError: The payload is too large for an entry.
    """
    data = _HEADER.pack(b"AQL1", kind, 1, 0, len(payload), 0) + payload
    if len(data) > LARGEST:
        raise LineageError(f"an entry of {len(data)} bytes is larger than {LARGEST}")
    return data


def decode_entry(data: bytes) -> tuple[int, bytes]:
    """Return kind and payload of an entry.

    Raises:
        CorruptLogError: The bytes are no entry of this version.
    """
    try:
        magic, kind, version, flags, length, zero = _HEADER.unpack_from(data)
    except struct.error as error:
        raise CorruptLogError("the entry is cut short") from error
    if (magic, version, flags, zero) != (b"AQL1", 1, 0, 0) or kind not in KINDS or length != len(data) - _HEADER.size:
        raise CorruptLogError("the entry has no valid header")
    return kind, data[_HEADER.size :]


def encode_step(entry: StepEntry) -> bytes:
    """Return the payload of a STEP entry of one rank."""
    head = _STEP.pack(
        entry.run_id, entry.attempt, entry.step, entry.epoch, entry.time_ns, entry.bundle, entry.manifest_root, 1
    )
    return head + _RANK.pack(0, entry.rows, entry.cells, 0, entry.inner_root)


def decode_step(payload: bytes) -> StepEntry:
    """Return the STEP entry of a payload.

    Raises:
        CorruptLogError: The payload is not a step of one rank.
    """
    if len(payload) != _STEP.size + _RANK.size:
        raise CorruptLogError("the step entry has another length")
    run_id, attempt, step, epoch, time_ns, bundle, manifest_root, world = _STEP.unpack_from(payload)
    rank, rows, cells, flags, inner_root = _RANK.unpack_from(payload, _STEP.size)
    if (world, rank, flags) != (1, 0, 0):
        raise CorruptLogError("the step entry is not of one rank")
    return StepEntry(run_id, attempt, step, epoch, time_ns, bundle, manifest_root, rows, cells, inner_root)


def encode_facts(facts: object) -> bytes:
    """Return the payload of an entry that carries canonical JSON."""
    return canonical_json(facts)


def decode_facts(payload: bytes) -> dict[str, object]:
    """Return the object of such a payload.

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
