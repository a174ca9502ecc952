"""Label records: one observation as bytes of fixed width, an id, and events of fixed width.

Little-endian. A category is the number of its value, a number its millionths;
the largest u16 and the smallest i64 stand for "not known". Nothing here signs
or hashes, but `leaf_bytes` says what is hashed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final

from aqpolicy.errors import MalformedManifestError
from aqpolicy.provenance.observation import ConsensusEvent, Field, Observation

UNKNOWN_CATEGORY: Final = 0xFFFF
UNKNOWN_NUMBER: Final = -(2**63)
LEAF_TAG: Final = b"aqpolicy label 1\x00"
"""Stands before the bytes of every leaf, so that no other format's bytes can pass for a label."""

EVENT: Final = struct.Struct("<HqIq")
"""Source number, consensus, judgments, time."""

FIXED: Final = 5
"""Members of a record before its attributes: example digest, label digest, time, length of the id, events."""

TIME, ID_LENGTH, EVENTS, ATTRIBUTES = 64, 72, 73, 75
"""Where they begin in a record, and where its attributes do."""

EVENT_TIME: Final = 14
"""Where an event has its time."""

ID_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/-"
LONGEST_ID: Final = 64

_LARGEST_HISTORY: Final = 0xFFFF
_LARGEST_COUNT: Final = 2**32 - 1


def leaf_bytes(record: bytes, example_id: bytes, events: bytes) -> bytes:
    """Return the bytes of a leaf; record widths and lengths are in the record, so parts cannot shift."""
    return b"".join((LEAF_TAG, record, example_id, events))


def is_example_id(name: bytes) -> bool:
    """Return whether the bytes may name an example."""
    return 0 < len(name) <= LONGEST_ID and not name.translate(None, ID_LETTERS)


class LabelCodec:
    """Writes and reads the records of one schema."""

    def __init__(self, fields: Sequence[Field], sources: Sequence[str]) -> None:
        """Fix the width from the schema."""
        self.fields = tuple(fields)
        self.sources = tuple(sources)
        kinds = "".join("H" if field.kind == "category" else "q" for field in self.fields)
        self.record = struct.Struct("<32s32sqBH" + kinds)
        self.places = tuple(accumulate((struct.calcsize(f"<{kind}") for kind in kinds), initial=ATTRIBUTES))
        """Where each attribute begins in a record, and last where the record ends."""
        self._numbers = {source: number for number, source in enumerate(self.sources)}
        self._names = frozenset(field.name for field in self.fields)
        self._codes = tuple({value: code for code, value in enumerate(field.values)} for field in self.fields)

    def encode(self, observation: Observation) -> tuple[bytes, bytes, bytes]:
        """Return record, id and events of an observation.

        Raises:
            MalformedManifestError: The observation does not fit the schema or the widths.
        """
        shown = f"the observation `{ascii(observation.example_id)[1:-1]:.80}`"
        name = observation.example_id.encode("utf-8", "surrogatepass")
        if not is_example_id(name):
            raise MalformedManifestError(f"{shown} needs an id of 1 to 64 characters of A-Za-z0-9._:/-")
        if len(observation.example_digest) != 32 or len(observation.label_digest) != 32:
            raise MalformedManifestError(f"{shown} has a digest that is not of 32 bytes")
        if len(observation.history) > _LARGEST_HISTORY or not 0 <= observation.observed_at < 2**63:
            raise MalformedManifestError(f"{shown} has too long a history or a time before 1970")
        extra = sorted(set(observation.attributes) - self._names)
        if extra:
            raise MalformedManifestError(f"{shown} has the attribute `{extra[0]}`, which the schema does not list")
        record = self.record.pack(
            observation.example_digest,
            observation.label_digest,
            observation.observed_at,
            len(name),
            len(observation.history),
            *(self._code(at, observation.attributes, shown) for at in range(len(self.fields))),
        )
        return record, name, b"".join(self._event(event, shown) for event in observation.history)

    def attributes(self, members: Sequence[object]) -> dict[str, str | int]:
        """Return the attributes that an unpacked record knows."""
        known: dict[str, str | int] = {}
        for field, code in zip(self.fields, members[FIXED:], strict=True):
            if field.kind == "numeric":
                if code != UNKNOWN_NUMBER:
                    known[field.name] = int(code)  # type: ignore[call-overload]  # struct gives integers
            elif code != UNKNOWN_CATEGORY:
                known[field.name] = field.values[code]  # type: ignore[call-overload]  # checked at load
        return known

    def history(self, events: bytes) -> tuple[ConsensusEvent, ...]:
        """Return the events of one observation."""
        return tuple(
            ConsensusEvent(self.sources[source], consensus, judgments, observed_at)
            for source, consensus, judgments, observed_at in EVENT.iter_unpack(events)
        )

    def _code(self, at: int, attributes: Mapping[str, str | int], shown: str) -> int:
        field = self.fields[at]
        value = attributes.get(field.name)
        if value is None:
            return UNKNOWN_CATEGORY if field.kind == "category" else UNKNOWN_NUMBER
        if field.kind == "category":
            code = self._codes[at].get(value) if isinstance(value, str) else None
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            code = value
        else:
            code = None
        if code is None:
            raise MalformedManifestError(f"{shown} has a value of `{field.name}` that the schema does not allow")
        return code

    def _event(self, event: ConsensusEvent, shown: str) -> bytes:
        if not (
            abs(event.consensus) < 2**63 and 0 <= event.judgments <= _LARGEST_COUNT and 0 <= event.observed_at < 2**63
        ):
            raise MalformedManifestError(f"{shown} has an event whose numbers are out of range")
        return EVENT.pack(self._numbers[event.credential], event.consensus, event.judgments, event.observed_at)
