"""The signed files by which the credentials behind labels are judged, as a run keeps them.

They lie beside the log under names of their own, and its first entry names their
digests: so an auditor judges by the same files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, Self

from aqpolicy.errors import InputError, ProvenanceError
from aqpolicy.provenance.entitlement import unentitled_examples
from aqpolicy.provenance.manifest import Manifest
from aqpolicy.provenance.signed_form import read_document
from aqpolicy.provenance.standing import Standing
from aqpolicy.provenance.status import open_status_list
from aqpolicy.provenance.taxonomy import open_taxonomy
from aqpolicy.trust import Keyring, digest_text, sha256

_TAXONOMY: Final = "taxonomy.signed"
_STATUS: Final = "refused.status"
_MOST_ISSUERS: Final = 256


@dataclass(frozen=True, slots=True)
class Credentials:
    """By what credentials are judged; the bytes are untrusted until they are used. Made by `read`."""

    taxonomy: bytes
    status: bytes | None = None
    scopes: tuple[str, ...] = ()
    """What the labels attest."""
    issuers: tuple[bytes, ...] = ()
    """Credentials of issuers that sign no label themselves."""
    most_days: int | None = None
    """How old the list of refused credentials may be where a training begins."""
    least_serial: int = 1
    """The least number that the list may have: that of one that was seen before."""

    @classmethod
    def read(
        cls,
        taxonomy: Path | str,
        *,
        status: Path | str | None = None,
        scopes: Sequence[str] = (),
        issuers: Sequence[Path | str] = (),
        most_days: int | None = None,
        least_serial: int = 1,
    ) -> Self:
        """Read the files.

        Args:
            taxonomy: The signed taxonomy that the manifest names.
            status: The signed list of refused credentials.
            scopes: What the labels attest; every credential must cover it.
            issuers: Credentials of issuers that sign no label themselves.
            most_days: How old the list of refused credentials may be where a training begins.
            least_serial: The least number that the list may have, which is that of one that was seen before.

        Raises:
            InputError: A file cannot be read, or there are too many.
        """
        if isinstance(scopes, str):
            raise InputError(f"scopes are a list of texts, not the text `{scopes}`")
        if len(issuers) > _MOST_ISSUERS:
            raise InputError(f"there are {len(issuers)} credentials of issuers; {_MOST_ISSUERS} can be given")
        listed = None if status is None else read_document(status)
        if listed is None and (most_days is not None or least_serial > 1):
            raise InputError("most_days and least_serial are about the list of refused credentials; give status=...")
        granted = tuple(map(read_document, issuers))
        return cls(read_document(taxonomy), listed, tuple(scopes), granted, most_days, least_serial)

    @property
    def files(self) -> dict[str, bytes]:
        """What a run keeps, by name."""
        listed = {} if self.status is None else {_STATUS: self.status}
        granted = {f"issuer-{number}.credential": data for number, data in enumerate(self.issuers)}
        return {_TAXONOMY: self.taxonomy, **listed, **granted}

    @property
    def facts(self) -> dict[str, Any]:
        """What the first entry of a log says of them."""
        return {
            "files": {name: digest_text(sha256(data)) for name, data in self.files.items()},
            "scopes": list(self.scopes),
        }

    @classmethod
    def of_run(cls, folder: Path, facts: Mapping[str, Any]) -> Self:
        """Read the files that a run kept.

        Args:
            folder: Of the run; untrusted.
            facts: What the first entry of its log says of them.

        Raises:
            InputError: A file cannot be read.
            ProvenanceError: The files are not those that the entry names.
        """
        named = facts.get("files")
        if not isinstance(named, dict) or not isinstance(facts.get("scopes"), list):
            raise ProvenanceError("the first entry of the log does not say what credentials are judged by")
        issuers = len(named) - len({_TAXONOMY, _STATUS} & named.keys())
        found = cls.read(
            folder / _TAXONOMY,
            status=folder / _STATUS if _STATUS in named else None,
            scopes=facts["scopes"],
            issuers=[folder / f"issuer-{number}.credential" for number in range(issuers)],
        )
        if found.facts != facts:
            raise ProvenanceError("taxonomy, list of refused credentials or issuers are not those that the log names")
        return found

    def unentitled(self, manifest: Manifest, keyring: Keyring, today: date | None = None) -> dict[str, Standing]:
        """Return the ids of all examples whose label no valid credential signed, and why.

        Args:
            manifest: What is trained on.
            keyring: Who is trusted.
            today: Where a training begins, so that the list of refused credentials must not be too old.

        Raises:
            TrustError, ProvenanceError: A file is not signed as it must be, or not what it is taken for.
        """
        listed = None if self.status is None else open_status_list(self.status, keyring)
        if listed is not None:
            listed.refuse_older(self.least_serial)
            if today is not None and self.most_days is not None:
                listed.refuse_stale(today, self.most_days)
        return unentitled_examples(
            manifest,
            open_taxonomy(self.taxonomy, keyring),
            keyring,
            scopes=self.scopes,
            issuers=self.issuers,
            status=listed,
        )
