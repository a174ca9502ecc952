"""The parts of a manifest that are canonical JSON: their shape, and how they are read and made.

Nothing here verifies; it refuses what has another shape, or is there twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator
from pydantic import Field as Limits

from aqpolicy.errors import CanonicalError, MalformedManifestError
from aqpolicy.provenance.observation import Field
from aqpolicy.trust import decode_base64, parse_canonical

FORMAT: Final = "aqpolicy manifest 2"

LARGEST_MANIFEST: Final = 50_000_000
"""Observations in one manifest."""

LARGEST_LIST: Final = 0xFFFF
"""Credentials in one manifest, and sources: numbers of two bytes name them."""

Name = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9._:/-]{1,64}\z")]
Text = Annotated[str, StringConstraints(max_length=512)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=128)]
DigestText = Annotated[str, StringConstraints(pattern=r"\Asha256:[0-9a-f]{64}\z")]
TaxonomyRef = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9._-]{1,64}@[0-9]{1,9}\z")]
Base64 = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9+/]*={0,2}\z", max_length=2**18)]
Serial = Annotated[int, Limits(ge=1, le=2**53 - 1)]
Count = Annotated[int, Limits(ge=1, le=LARGEST_MANIFEST)]


class Part(BaseModel):
    """A part of a manifest; unknown and missing members are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a part.

        Raises:
            MalformedManifestError: The bytes are no such part of this version.
        """
        try:
            parse_canonical(data)
            return cls.model_validate_json(data)
        except (CanonicalError, ValidationError) as error:
            raise cls._refused(error) from error

    @classmethod
    def of(cls, parts: Mapping[str, object]) -> Self:
        """Make a part of what an issuer gives.

        Raises:
            MalformedManifestError: It does not make one.
        """
        try:
            return cls.model_validate(parts)
        except (CanonicalError, ValidationError) as error:
            raise cls._refused(error) from error

    @classmethod
    def _refused(cls, error: CanonicalError | ValidationError) -> MalformedManifestError:
        what = f"the {cls.__name__.lower()} of the manifest"
        if isinstance(error, CanonicalError):
            return MalformedManifestError(f"{what}: {error}")
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        at = f" at `{ascii(place)[1:-1]:.100}`" if place else ""
        return MalformedManifestError(f"{what}, wrong{at}: {first['msg'].removeprefix('Value error, ')}")


class Head(Part):
    """What the issuer signs."""

    format: Literal["aqpolicy manifest 2"]
    name: Name
    purpose: Name
    """What the manifest may be used for: a loader that asks for another purpose refuses it."""
    serial: Serial
    """Only rises among manifests of one name."""
    supersedes: DigestText | Literal[""]
    """Root of the manifest whose place this one takes."""
    context: DigestText
    credentials: DigestText
    sessions: Count
    size: Count
    root: DigestText

    @property
    def root_bytes(self) -> bytes:
        """The root over the sessions."""
        return bytes.fromhex(self.root.removeprefix("sha256:"))


class FieldPart(Part):
    """One attribute of the schema."""

    name: Word
    kind: Literal["category", "numeric"]
    values: tuple[Word, ...]

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.kind == "category") != bool(self.values):
            raise ValueError(f"the attribute `{self.name}` must have values if, and only if, it is a category")
        if len(set(self.values)) != len(self.values) or len(self.values) >= 0xFFFF:
            raise ValueError(f"the values of the attribute `{self.name}` repeat or are too many")
        return self


class Context(Part):
    """All that gives a label record its meaning; annotators sign its digest with their session."""

    fields: tuple[FieldPart, ...]
    sources: Annotated[tuple[Name, ...], Limits(max_length=LARGEST_LIST)]
    """Who states the events of the histories, by number."""
    taxonomy: TaxonomyRef

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        _refuse_twice("attribute", [field.name for field in self.fields])
        _refuse_twice("source", self.sources)
        return self

    def schema_fields(self) -> tuple[Field, ...]:
        """Return the attributes in order."""
        return tuple(Field(field.name, field.kind, field.values) for field in self.fields)


class CredentialPart(Part):
    """One credential, as the issuer vouches for it."""

    id: Name
    key: Word
    holder: Text
    authority: Text
    envelope: Base64
    """The signed credential, where the manifest presents one."""


class Credentials(Part):
    """Who signed sessions."""

    credentials: Annotated[tuple[CredentialPart, ...], Limits(max_length=LARGEST_LIST)]

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        _refuse_twice("credential", [credential.id for credential in self.credentials])
        for part in self.credentials:
            decode_base64(part.envelope)
        return self


def _refuse_twice(what: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"one {what} is there twice")
