"""Which credentials the next training refuses: a signed list, drawn from the revocations of logs.

A credential that was stolen or wrong is refused for everything, except in
manifests that a log held before; one that has ended, because its holder left or
has another, is refused for what is declared to be made afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from aqpolicy.errors import ProvenanceError
from aqpolicy.provenance.signed_form import Form, Name, checked_date, read_document
from aqpolicy.trust import Keyring, SigningKey, seal

if TYPE_CHECKING:
    from aqpolicy.provenance.manifest import Manifest

STATUS_ROLE: Final = "log"
"""Who may sign the list: whoever may write the revocations that it is drawn from."""

STATUS_TYPE: Final = "application/vnd.aqpolicy.credential-status+json;version=1"

Kind = Literal["compromised", "error", "left", "superseded"]
KINDS: Final[tuple[Kind, ...]] = ("compromised", "error", "left", "superseded")

RETROACTIVE: Final[frozenset[Kind]] = frozenset({"compromised", "error"})
"""Kinds that also reach what was learned before the revocation."""

Root = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{64}\z")]
_MOST: Final = 1024


class Refused(Form, title="refused credential"):
    """One credential that is refused."""

    credential: Name
    kind: Kind
    reason: Annotated[str, StringConstraints(max_length=1000)]
    from_s: Annotated[int, Field(ge=0)]
    """Refused for what is declared to be made at this time or later, in seconds since 1970."""
    known_roots: tuple[Root, ...]
    """Roots of manifests in which it is not refused: a log held them before the key was stolen."""
    log: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    entry: Annotated[int, Field(ge=0)]
    """Where the revocation is."""

    def refuses(self, at: int, manifest_root: bytes) -> bool:
        """Return whether the credential is refused for what it is declared to have signed at a time."""
        return at >= self.from_s and manifest_root.hex() not in self.known_roots


class StatusList(Form, title="list of refused credentials"):
    """All credentials that are refused, as of a day."""

    format: Literal["aqpolicy credential status 1"]
    serial: Annotated[int, Field(ge=1)]
    """Counts up; a lower one is older."""
    issued_on: Annotated[str, AfterValidator(checked_date)]
    refused: tuple[Refused, ...]

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        if len(self.refused) > _MOST:
            raise ValueError(f"a list refuses at most {_MOST} credentials")
        if len({(each.credential, each.log) for each in self.refused}) != len(self.refused):
            raise ValueError("one credential is refused twice by one log")
        return self

    def refuses(self, credential: str, at: int, manifest_root: bytes = b"") -> bool:
        """Return whether a credential is refused for what it is declared to have signed at a time."""
        return any(each.refuses(at, manifest_root) for each in self.refused if each.credential == credential)

    def refuse_stale(self, today: date, most_days: int) -> None:
        """Return if the list is of today or of at most so many days before.

        Raises:
            ProvenanceError: It is older, or of a day to come.
        """
        issued = date.fromisoformat(self.issued_on)
        if not timedelta(0) <= today - issued <= timedelta(days=most_days):
            raise ProvenanceError(
                f"the list of refused credentials is of {self.issued_on}; get one that is at most {most_days} days old"
            )

    def refuse_older(self, serial: int) -> None:
        """Return if the list is not older than one that was used before.

        Raises:
            ProvenanceError: It is.
        """
        if self.serial < serial:
            raise ProvenanceError(f"list {self.serial} of refused credentials is older than list {serial}, used before")

    def with_refused(self, more: Sequence[Refused], issued_on: str) -> StatusList:
        """Return the next list, with further credentials; one by the same log replaces what that said before."""
        held = {(each.credential, each.log): each for each in (*self.refused, *more)}
        return new_status_list(self.serial + 1, issued_on, tuple(held.values()))


def new_status_list(serial: int, issued_on: str, refused: Sequence[Refused]) -> StatusList:
    """Make a list.

    Raises:
        ProvenanceError: The parts do not make one.
    """
    parts = tuple(each.model_dump() for each in refused)
    return StatusList.of(format="aqpolicy credential status 1", serial=serial, issued_on=issued_on, refused=parts)


def seal_status_list(status: StatusList, signers: Sequence[SigningKey]) -> bytes:
    """Return the bytes of a status list file."""
    return seal(STATUS_TYPE, status.to_payload(), signers)


def open_status_list(data: bytes, keyring: Keyring) -> StatusList:
    """Verify and read the bytes of a status list file.

    Trust:
        data is untrusted; keyring comes from the operator.

    Raises:
        SignatureError: No trusted key of the role `log` signed it.
        CanonicalError: The bytes are no canonical envelope.
        ProvenanceError: They are no status list of this version.
    """
    return StatusList.open(data, keyring, STATUS_TYPE, STATUS_ROLE)


def load_status_list(path: Path | str, keyring: Keyring) -> StatusList:
    """Verify and read a status list file.

    Raises:
        InputError: The file cannot be read.
        TrustError, ProvenanceError: It is not signed as it must be, or no status list.
    """
    return open_status_list(read_document(path), keyring)


def refused_examples(manifest: Manifest, status: StatusList) -> tuple[str, ...]:
    """Return the ids of all examples whose label a refused credential signed; the gate denies these.

    Args:
        manifest: What is to be trained on; verified.
        status: The list; verified.
    """
    listed: dict[str, list[Refused]] = {}
    for each in status.refused:
        if each.credential in manifest.credentials:
            listed.setdefault(each.credential, []).append(each)
    return tuple(
        manifest.example_id(index)
        for session in range(manifest.sessions)
        for refused in (listed.get(manifest.session_credential(session).id),)
        if refused is not None
        for index, at in zip(manifest.session_labels(session), manifest.session_times(session), strict=True)
        if any(each.refuses(at, manifest.root) for each in refused)
    )
