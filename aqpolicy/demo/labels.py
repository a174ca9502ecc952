"""Turn readings into labelled, attributed examples, and plant the one incident.

What LIDC does not know is assigned here and named as such: who the readers are
(credentials `reader-01` to `reader-10`), when they read, and that one credential
was stolen and signs inverted ratings. Everything that depends on ratings
(consensus, its history, entropy) is computed after the planting, as a platform
would have seen it. The held-out patients keep the readers' true ratings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import groupby
from math import log
from typing import Final

from aqpolicy.demo.lidc import Reading
from aqpolicy.provenance import ConsensusEvent
from aqpolicy.units import MICRO

READERS: Final = tuple(f"reader-{number:02d}" for number in range(1, 11))
STOLEN: Final = "reader-07"
INDETERMINATE: Final = 3
HIGH_CONSENSUS: Final = 750_000
_FIRST_READING: Final = 1_300_000_000
"""Reading times are not in LIDC; they are assigned from here on, a day per scan."""
_HELD_OUT: Final = 0.25


@dataclass(frozen=True, slots=True)
class LabelledReading:
    """One reading as the platform holds it: who signed what, and what was known about it."""

    row: int
    """Row of its image."""
    example_id: str
    nodule: tuple[int, int]
    """Scan, and number of the nodule within it."""
    credential: str
    rating: int
    """As signed, so after the planting."""
    planted: bool
    observed_at: int
    judgments: int
    consensus: int
    """Millionths."""
    entropy: int
    """Micro-nats."""
    authority: str
    history: tuple[ConsensusEvent, ...] = ()

    @property
    def label(self) -> int | None:
        """1 for malignant, 0 for benign, None for an indeterminate rating, which is no label to train on."""
        return None if self.rating == INDETERMINATE else int(self.rating > INDETERMINATE)

    @property
    def low_consensus(self) -> bool:
        """Whether fewer than three of four readings agree with this one."""
        return self.consensus < HIGH_CONSENSUS

    @property
    def attributes(self) -> dict[str, str | int]:
        """What the policy may ask about; numbers in millionths."""
        return {
            "authority": self.authority,
            "consensus": self.consensus,
            "judgments": self.judgments * MICRO,
            "label_entropy": self.entropy,
            "ontology": MICRO,
            "review": "approved" if self.authority == "panel" else "submitted",
        }


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One held-out nodule that its panel agreed on: the images of its readings and the truth."""

    example_id: str
    row: int
    label: int


@dataclass(frozen=True, slots=True)
class Labels:
    """All readings of the training patients, and the held-out reference nodules."""

    readings: tuple[LabelledReading, ...]
    held_out: tuple[HeldOut, ...]

    @property
    def training(self) -> tuple[LabelledReading, ...]:
        """The readings that say benign or malignant."""
        return tuple(reading for reading in self.readings if reading.label is not None)


def label_readings(readings: Sequence[Reading]) -> Labels:
    """Split by patient, assign credentials, plant the theft, and work out what was known of each reading."""
    by_nodule = _by_nodule(readings)
    training = [nodule for nodule in by_nodule if not is_held_out(nodule[0][1].patient)]
    labelled = tuple(each for nodule in training for each in _label_nodule(nodule))
    held_out = tuple(each for nodule in by_nodule if is_held_out(nodule[0][1].patient) for each in _reference(nodule))
    return Labels(labelled, held_out)


def is_held_out(patient: str) -> bool:
    """Whether a patient belongs to the test set; decided by digest, so all nodules and readers of one go together."""
    return sha256(b"held out\x00" + patient.encode()).digest()[0] < _HELD_OUT * 256


def credential_of(reading: Reading) -> str:
    """Return the credential assigned to a reader session; the sessions of one scan never share one."""
    order = sorted(READERS, key=lambda name: sha256(f"{reading.scan}/{name}".encode()).digest())
    return order[reading.session % len(order)]


def entropy_nats(ratings: Iterable[int]) -> float:
    """Return the entropy over benign, indeterminate and malignant."""
    counts = Counter(_opinion(rating) for rating in ratings)
    total = sum(counts.values())
    return sum(-count / total * log(count / total) for count in counts.values())


def _by_nodule(readings: Sequence[Reading]) -> list[list[tuple[int, Reading]]]:
    rows = sorted(enumerate(readings), key=lambda pair: (pair[1].scan, pair[1].nodule, pair[1].session, pair[1].number))
    return [list(group) for _, group in groupby(rows, key=lambda pair: (pair[1].scan, pair[1].nodule))]


def _opinion(rating: int) -> int:
    return (rating > INDETERMINATE) - (rating < INDETERMINATE)


def _label_nodule(nodule: list[tuple[int, Reading]]) -> list[LabelledReading]:
    signed: list[LabelledReading] = []
    authority = "panel" if len(nodule) >= 3 else "single"
    for place, (row, reading) in enumerate(nodule):
        credential = credential_of(reading)
        stolen = credential == STOLEN
        rating = 6 - reading.rating if stolen else reading.rating
        signed.append(
            LabelledReading(
                row=row,
                example_id=f"{reading.patient}/{reading.scan}/nodule-{reading.nodule}/{place + 1}",
                nodule=(reading.scan, reading.nodule),
                credential=credential,
                rating=rating,
                planted=stolen and rating != reading.rating,
                observed_at=_FIRST_READING + reading.scan * 86_400 + place * 3_600,
                judgments=len(nodule),
                consensus=0,
                entropy=0,
                authority=authority,
            )
        )
    entropy = round(entropy_nats(each.rating for each in signed) * MICRO)
    return [
        replace(each, entropy=entropy, consensus=history[-1].consensus, history=history)
        for each in signed
        for history in (_history(each, signed),)
    ]


def _history(reading: LabelledReading, nodule: Sequence[LabelledReading]) -> tuple[ConsensusEvent, ...]:
    """Return how the agreement with one reading went as the others came in."""
    opinion = _opinion(reading.rating)
    agreeing, events = 0, []
    for count, other in enumerate(nodule, start=1):
        agreeing += _opinion(other.rating) == opinion
        events.append(ConsensusEvent(other.credential, agreeing * MICRO // count, count, other.observed_at))
    return tuple(events)


def _reference(nodule: list[tuple[int, Reading]]) -> list[HeldOut]:
    """Return the middle committed reading of a panel in which nobody contradicts, or nothing.

    At least two readers, and at least half of the panel, must commit to benign or malignant.
    """
    committed = [(row, reading) for row, reading in nodule if reading.rating != INDETERMINATE]
    opinions = {_opinion(reading.rating) for _, reading in committed}
    if len(nodule) < 3 or len(committed) < max(2, len(nodule) / 2) or len(opinions) != 1:
        return []
    row, reading = committed[len(committed) // 2]
    return [HeldOut(f"{reading.patient}/{reading.scan}/nodule-{reading.nodule}", row, int(opinions == {1}))]
