"""The signed head of a manifest: schema, credentials, sessions and the root over them.

It checks shape and cross-references, no signatures; `manifest` does those. The
session statement is derived here, in one place for writer and reader.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from aqpolicy.errors import CanonicalError, MalformedManifestError
from aqpolicy.provenance.observation import Credential, Field
from aqpolicy.trust import canonical_json, digest_text, leaf_hash, parse_canonical, root_of, sha256

FORMAT: Final = "aqpolicy manifest 1"
HEADER_TYPE: Final = "application/vnd.aqpolicy.manifest+json"
SESSION_TYPE: Final = "application/vnd.aqpolicy.session+json"

Name = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9._:/-]{1,64}\z")]
Text = Annotated[str, StringConstraints(max_length=512)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=128)]
DigestText = Annotated[str, StringConstraints(pattern=r"\Asha256:[0-9a-f]{64}\z")]
TaxonomyRef = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9._-]{1,64}@[0-9]{1,9}\z")]
SignatureText = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9+/]{86}==\z")]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class FieldPart(_Part):
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


class CredentialPart(_Part):
    """One credential, as the issuer vouches for it."""

    id: Name
    key: Word
    holder: Text
    authority: Text


class SessionPart(_Part):
    """One session: whose it is, what it covers, and the annotator's signature over its statement."""

    credential: Name
    size: int
    root: DigestText
    signature: SignatureText


class Header(_Part):
    """All of a manifest but the labels."""

    format: Literal["aqpolicy manifest 1"]
    name: Name
    taxonomy: TaxonomyRef
    fields: tuple[FieldPart, ...]
    credentials: tuple[CredentialPart, ...]
    sources: tuple[Name, ...]
    """Who states the events of the histories, by number."""
    sessions: tuple[SessionPart, ...]
    size: int
    root: DigestText

    @model_validator(mode="after")
    def _refers_to_what_is_there(self) -> Self:
        for what, names in (
            ("attribute", [field.name for field in self.fields]),
            ("credential", [credential.id for credential in self.credentials]),
            ("source", list(self.sources)),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"one {what} is there twice")
        if {session.credential for session in self.sessions} != {credential.id for credential in self.credentials}:
            raise ValueError("the sessions and the credentials do not name each other")
        if not self.sessions or min(session.size for session in self.sessions) < 1:
            raise ValueError("a manifest has sessions, and each has observations")
        if sum(session.size for session in self.sessions) != self.size:
            raise ValueError("the sizes of the sessions do not add up")
        return self

    def schema_fields(self) -> tuple[Field, ...]:
        """Return the attributes in order."""
        return tuple(Field(field.name, field.kind, field.values) for field in self.fields)

    def credential_map(self) -> dict[str, Credential]:
        """Return the credentials by id."""
        return {part.id: Credential(part.id, part.key, part.holder, part.authority) for part in self.credentials}

    def statements(self) -> tuple[bytes, ...]:
        """Return what each annotator signed, one statement per session."""
        context = context_digest(self.taxonomy, self.schema_fields(), self.sources)
        credentials = self.credential_map()
        return tuple(
            session_statement(self.name, context, credentials[part.credential], size=part.size, root=part.root)
            for part in self.sessions
        )


def context_digest(taxonomy: str, fields: tuple[Field, ...], sources: tuple[str, ...]) -> str:
    """Return the digest of all that gives a label record its meaning.

    Annotators sign it with their session, so an issuer cannot rename what the
    numbers in the records stand for.
    """
    named = [{"kind": field.kind, "name": field.name, "values": field.values} for field in fields]
    return digest_text(sha256(canonical_json({"fields": named, "sources": sources, "taxonomy": taxonomy})))


def session_statement(manifest: str, context: str, credential: Credential, *, size: int, root: str) -> bytes:
    """Return the bytes that an annotator signs: this session, of this manifest, under this credential."""
    return canonical_json(
        {
            "context": context,
            "credential": credential.id,
            "key": credential.key,
            "manifest": manifest,
            "root": root,
            "size": size,
        },
    )


def manifest_root(statements: tuple[bytes, ...]) -> bytes:
    """Return the root over the sessions; its leaves are their statements."""
    return root_of([leaf_hash(statement) for statement in statements])


def parse_header(payload: bytes) -> Header:
    """Read a header whose signature has been verified.

    Raises:
        MalformedManifestError: The bytes are no header of this version.
    """
    try:
        parse_canonical(payload)
        return Header.model_validate_json(payload)
    except CanonicalError as error:
        raise MalformedManifestError(f"the header of the manifest is not canonical: {error}") from error
    except ValidationError as error:
        raise MalformedManifestError(f"the header of the manifest {_first(error)}") from error


def build_header(**parts: object) -> Header:
    """Make a header of parts that an issuer gives.

    Raises:
        MalformedManifestError: The parts do not make a header.
    """
    try:
        return Header.model_validate({"format": FORMAT, **parts})
    except ValidationError as error:
        raise MalformedManifestError(f"the header of the manifest {_first(error)}") from error


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return f"is wrong at `{ascii(place)[1:-1]:.100}`: {reason}" if place else f"is wrong: {reason}"
