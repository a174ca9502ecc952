"""A small organisation for tests: a taxonomy, its officers' keys, and credentials of annotators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aqpolicy.provenance.credential import AnnotatorCredential, new_credential, seal_credential
from aqpolicy.provenance.standing import Presented
from aqpolicy.provenance.status import Refused, StatusList, new_status_list
from aqpolicy.provenance.taxonomy import AuthorityClass, Taxonomy, new_taxonomy
from aqpolicy.trust import Keyring, SigningKey

OFFICER = SigningKey.from_seed("officer", bytes([1]) * 32)
CA = SigningKey.from_seed("ca", bytes([2]) * 32)
LOG = SigningKey.from_seed("log", bytes([3]) * 32)
STRANGER = SigningKey.from_seed("stranger", bytes([4]) * 32)
KEYRING = Keyring.of([("taxonomy", OFFICER.verify_key), ("annotator-ca", CA.verify_key), ("log", LOG.verify_key)])

HOLDERS = {name: SigningKey.from_seed(name, bytes([n + 10]) * 32) for n, name in enumerate("abcdefghijkl")}

NOON = 1_767_268_800
"""12 o'clock of 2026-01-01."""
A_DAY = 86_400


def clinic(version: int = 1) -> Taxonomy:
    """Return a taxonomy of two classes."""
    classes = (
        AuthorityClass(name="reader", scopes=("nodule",), delegates=False),
        AuthorityClass(name="chief", scopes=("nodule", "report"), delegates=True),
    )
    return new_taxonomy("clinic", version, classes, ("nodule", "nodule.margin", "report"))


def granted(name: str, **changes: Any) -> AnnotatorCredential:
    """Return a credential of the holder of that name, valid in January 2026."""
    parts: dict[str, Any] = {
        "id": name,
        "pseudonym": f"person-{name}",
        "authority": "reader",
        "taxonomy": "clinic@1",
        "scopes": ("nodule",),
        "key": HOLDERS[name].verify_key.text,
        "issued_by": "annotator-ca",
        "issued_on": "2026-01-01",
        "valid_from": "2026-01-01",
        "valid_until": "2026-01-31",
    }
    return new_credential(**{**parts, **changes})


def sealed(credential: AnnotatorCredential, *issuers: SigningKey) -> bytes:
    """Return the envelope of a credential, by the CA unless others are named."""
    return seal_credential(credential, issuers or (CA,))


def presented(credential: AnnotatorCredential, envelope: bytes | None = None) -> Presented:
    """Return what an honest manifest presents."""
    data = sealed(credential) if envelope is None else envelope
    return Presented(credential.id, credential.key, credential.authority, data)


def refused(credential: str, kind: str = "compromised", from_s: int = 0, roots: Sequence[str] = ()) -> Refused:
    """Return an entry of a status list."""
    return Refused.of(
        credential=credential,
        kind=kind,
        reason=f"{kind}: for a test",
        from_s=from_s,
        known_roots=tuple(roots),
        log="a/log",
        entry=7,
    )


def listing(*entries: Refused, serial: int = 1, issued_on: str = "2026-01-10") -> StatusList:
    """Return a status list."""
    return new_status_list(serial, issued_on, entries)
