"""The demo's output folder: it replaces only what an earlier demo made.

A marker file says that a folder is the demo's own. A folder with anything else
in it is refused, never cleaned.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aqpolicy.demo.labels import READERS, LabelledReading
from aqpolicy.errors import InputError
from aqpolicy.provenance import Credential, Field, Observation, Session, example_digest, issue_manifest, label_digest
from aqpolicy.trust import Keyring, SigningKey

MARKER: Final = ".aqpolicy-demo"
_STATEMENT: Final = "This folder was made by `aqpolicy demo`, which replaces it as a whole.\n"

TAXONOMY: Final = "lidc.readers@1"
SCHEMA: Final = (
    Field("authority", "category", ("single", "panel")),
    Field("review", "category", ("submitted", "approved", "rejected")),
    Field("consensus", "numeric"),
    Field("judgments", "numeric"),
    Field("label_entropy", "numeric"),
    Field("ontology", "numeric"),
)
_ROLES: Final = {"author": "policy-author", "issuer": "manifest-issuer", "log": "log"}


@dataclass(frozen=True, slots=True)
class Workspace:
    """A fresh output folder."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> Workspace:
        """Make the folder, in the place of an earlier demo's.

        Raises:
            InputError: Something that is not the demo's lies there.
        """
        if root.is_symlink() or (root.exists() and not root.is_dir()):
            raise InputError(f"`{root}` is not a folder; choose another with --out")
        if root.exists() and any(root.iterdir()):
            if not (root / MARKER).is_file():
                raise InputError(f"`{root}` holds files that the demo did not make; choose another folder with --out")
            shutil.rmtree(root)
        try:
            (root / "keys").mkdir(parents=True, exist_ok=True)
            (root / MARKER).write_text(_STATEMENT, encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write to `{root}`: {error.strerror}") from error
        return cls(root)

    @property
    def keyring_path(self) -> Path:
        """The public keys, by role."""
        return self.root / "keyring.json"

    @property
    def manifest_path(self) -> Path:
        """The signed labels."""
        return self.root / "labels.aqm"

    def path(self, *parts: str) -> Path:
        """Return a place inside the folder."""
        return self.root.joinpath(*parts)

    def make_keys(self) -> tuple[dict[str, SigningKey], Keyring]:
        """Make and save a key for every role and reader; only roles and readers are trusted, each for its own."""
        keys = {name: SigningKey.generate(f"demo/{name}") for name in (*_ROLES, *READERS)}
        for name, key in keys.items():
            key.save(self.path("keys", f"{name}.key"))
        keyring = Keyring.of((_ROLES.get(name, "annotator"), key.verify_key) for name, key in keys.items())
        keyring.save(self.keyring_path)
        return keys, keyring


def issue_labels(
    path: Path, readings: Sequence[LabelledReading], images: Sequence[bytes], keys: Mapping[str, SigningKey]
) -> None:
    """Let every reader sign what they read, and the issuer the whole.

    Args:
        path: The manifest to write.
        readings: All readings of the training patients.
        images: The bytes of each reading's example, in the same order.
        keys: Private keys by name.
    """
    by_reader: dict[str, list[Observation]] = {name: [] for name in READERS}
    for reading, image in zip(readings, images, strict=True):
        by_reader[reading.credential].append(_observation(reading, image))
    sessions = [
        Session(
            Credential(name, keys[name].verify_key.text, holder=f"anonymous LIDC reader, called {name}"),
            keys[name],
            observations,
        )
        for name, observations in by_reader.items()
        if observations
    ]
    issue_manifest(path, "lidc-readings", TAXONOMY, SCHEMA, sessions, keys["issuer"])


def _observation(reading: LabelledReading, image: bytes) -> Observation:
    return Observation(
        example_id=reading.example_id,
        example_digest=example_digest(image),
        label_digest=label_digest(reading.example_id, label_bytes(reading)),
        credential=reading.credential,
        observed_at=reading.observed_at,
        attributes=reading.attributes,
        history=reading.history,
    )


def label_bytes(reading: LabelledReading) -> bytes:
    """Return a label as it is bound into the manifest."""
    return f"malignancy {reading.rating}".encode()
