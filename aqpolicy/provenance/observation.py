"""What is known about one training example, who says so, and under which credential.

Pure data; `issue` writes it and `manifest` reads it back. Numbers are integers
of millionths, times are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aqpolicy.trust import SigningKey, sha256


@dataclass(frozen=True, slots=True)
class Field:
    """One attribute of the schema; `values` names the categories in order and is empty for a number."""

    name: str
    kind: Literal["category", "numeric"]
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Credential:
    """Who signs a session: a key, the holder's pseudonym, and what entitles the holder."""

    id: str
    key: str
    """Text of the holder's public key."""
    holder: str = ""
    authority: str = ""
    envelope: bytes = b""
    """The signed credential (`standing` says what it is worth); empty where the issuer vouches alone."""


@dataclass(frozen=True, slots=True)
class ConsensusEvent:
    """One entry of an observation's history: how far judgments agreed at a time."""

    credential: str
    """Id of the credential, or the pseudonym of the source, that states it."""
    consensus: int
    """Millionths."""
    judgments: int
    """A plain count."""
    observed_at: int


@dataclass(frozen=True, slots=True)
class Observation:
    """One labelled example as its annotator signed it; attributes that are not known are absent."""

    example_id: str
    example_digest: bytes
    label_digest: bytes
    credential: str
    observed_at: int
    attributes: Mapping[str, str | int]
    history: tuple[ConsensusEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """Observations that one annotator signs together."""

    credential: Credential
    signer: SigningKey
    observations: Sequence[Observation]


def example_digest(example: bytes) -> bytes:
    """Return the digest by which an observation names the bytes of its example."""
    return sha256(example)


def label_digest(salt: str, label: bytes) -> bytes:
    """Return the digest by which an observation names its label.

    Args:
        salt: The example's id; another salt also works where it is kept, but
            `Manifest.mismatched` expects the id. Labels are few: whoever knows
            the salt can find the label by trying.
        label: The label's bytes.
    """
    name = salt.encode("utf-8", "surrogatepass")
    return sha256(b"aqpolicy label\x00" + len(name).to_bytes(4, "little") + name + label)
