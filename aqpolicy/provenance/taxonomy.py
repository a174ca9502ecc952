"""The customer's own taxonomy of authority: which classes there are, and what each may attest.

It belongs to whoever signs it, not to aqpolicy: a log stays verifiable with
nothing but this file and public keys. Scopes are dotted words; one covers all
that begin with it (`nodule` covers `nodule.margin`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from aqpolicy.provenance.signed_form import Form, Name, Scope, TaxonomyName, read_document
from aqpolicy.trust import Keyring, SigningKey, seal

TAXONOMY_ROLE: Final = "taxonomy"
"""The role under which a keyring lists the keys that may sign taxonomies."""

TAXONOMY_TYPE: Final = "application/vnd.aqpolicy.taxonomy+json;version=1"

_MOST: Final = 1024


class AuthorityClass(Form, title="class of authority"):
    """One class of authority."""

    name: Name
    scopes: tuple[Scope, ...]
    """What its holders may attest, each at most within the scopes of the own credential."""
    delegates: bool
    """Whether its holders may issue credentials."""


class Taxonomy(Form, title="taxonomy"):
    """Classes of authority, and the scopes of the ontology that they are competent for."""

    format: Literal["aqpolicy taxonomy 1"]
    name: TaxonomyName
    version: Annotated[int, Field(ge=1, le=999_999_999)]
    scopes: tuple[Scope, ...]
    classes: tuple[AuthorityClass, ...]

    @model_validator(mode="after")
    def _refers_to_what_is_there(self) -> Self:
        names = [each.name for each in self.classes]
        if not names or len(names) > _MOST or len(self.scopes) > _MOST:
            raise ValueError(f"a taxonomy has 1 to {_MOST} classes and at most as many scopes")
        if len(set(names)) != len(names) or len(set(self.scopes)) != len(self.scopes):
            raise ValueError("a class or a scope is there twice")
        known = set(self.scopes)
        for each in self.classes:
            if not known.issuperset(each.scopes) or len(set(each.scopes)) != len(each.scopes):
                raise ValueError(f"the class `{each.name}` has a scope twice, or one that the taxonomy lacks")
        return self

    @property
    def ref(self) -> str:
        """Name and version, as manifests and credentials name it."""
        return f"{self.name}@{self.version}"

    def find(self, name: str) -> AuthorityClass | None:
        """Return a class, or None where there is none of that name."""
        return next((each for each in self.classes if each.name == name), None)


def covers(scopes: Sequence[str], scope: str) -> bool:
    """Return whether one of several scopes is this one or stands above it."""
    return any(scope == each or scope.startswith(f"{each}.") for each in scopes)


def new_taxonomy(name: str, version: int, classes: Sequence[AuthorityClass], scopes: Sequence[str]) -> Taxonomy:
    """Make a taxonomy.

    Raises:
        ProvenanceError: The parts do not make one.
    """
    parts = tuple(each.model_dump() for each in classes)
    return Taxonomy.of(format="aqpolicy taxonomy 1", name=name, version=version, scopes=tuple(scopes), classes=parts)


def seal_taxonomy(taxonomy: Taxonomy, signers: Sequence[SigningKey]) -> bytes:
    """Return the bytes of a taxonomy file."""
    return seal(TAXONOMY_TYPE, taxonomy.to_payload(), signers)


def open_taxonomy(data: bytes, keyring: Keyring) -> Taxonomy:
    """Verify and read the bytes of a taxonomy file.

    Trust:
        data is untrusted; keyring comes from the operator.

    Raises:
        SignatureError: Too few trusted keys of the role `taxonomy` signed it.
        CanonicalError: The bytes are no canonical envelope.
        ProvenanceError: They are no taxonomy of this version.
    """
    return Taxonomy.open(data, keyring, TAXONOMY_TYPE, TAXONOMY_ROLE)


def load_taxonomy(path: Path | str, keyring: Keyring) -> Taxonomy:
    """Verify and read a taxonomy file.

    Raises:
        InputError: The file cannot be read.
        TrustError, ProvenanceError: It is not signed as it must be, or no taxonomy.
    """
    return open_taxonomy(read_document(path), keyring)
