"""Signed documents of one shape: canonical JSON of a strict form, in an envelope.

It knows no document; `taxonomy`, `credential` and `status` do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from aqpolicy.errors import InputError, ProvenanceError
from aqpolicy.trust import Keyring, canonical_json, is_date, parse_canonical

LARGEST: Final = 256 * 1024
"""Bytes of a signed document."""

Name = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9._:/-]{1,64}\z")]
Scope = Annotated[str, StringConstraints(pattern=r"\A[a-z0-9_-]+(\.[a-z0-9_-]+)*\z", max_length=128)]
TaxonomyName = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9._-]{1,64}\z")]


class Form(BaseModel):
    """A document, or a part of one; unknown and missing members are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def to_payload(self) -> bytes:
        """Return the only bytes that stand for the document."""
        return canonical_json(self.model_dump())

    @classmethod
    def of(cls, **parts: object) -> Self:
        """Make a document of parts that an issuer gives.

        Raises:
            ProvenanceError: They do not make one.
        """
        try:
            return cls.model_validate(parts)
        except ValidationError as error:
            raise ProvenanceError(problem_of(error)) from error

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Read a document.

        Trust:
            payload is untrusted, also in time and memory.

        Raises:
            CanonicalError: The bytes are not canonical JSON.
            ProvenanceError: They are no such document.
        """
        if len(payload) > LARGEST:
            raise ProvenanceError("the document is too large")
        parse_canonical(payload)
        try:
            return cls.model_validate_json(payload)
        except ValidationError as error:
            raise ProvenanceError(problem_of(error)) from error

    @classmethod
    def open(cls, data: bytes, keyring: Keyring, payload_type: str, role: str) -> Self:
        """Verify and read the bytes of a document's file.

        Trust:
            data is untrusted; keyring comes from the operator.

        Raises:
            SignatureError: Too few trusted keys of the role signed it.
            CanonicalError: The bytes are no canonical envelope of this type.
            ProvenanceError: They are no such document.
        """
        if len(data) > LARGEST:
            raise ProvenanceError(f"the {cls.model_config['title']} is too large")
        return cls.parse(keyring.open(data, payload_type, role).payload)


def read_document(path: Path | str) -> bytes:
    """Return the bytes of a signed document, unverified; of one that is too large, enough to be refused.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(LARGEST + 1).removesuffix(b"\n")
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error
    except ValueError as error:  # a name that no file can have
        raise InputError(f"cannot read `{ascii(str(path))[1:-1]}`: {error}") from error


def checked_date(text: str) -> str:
    """Return a date, or refuse it as pydantic wants it refused."""
    if not is_date(text):
        raise ValueError("a date has the form YYYY-MM-DD")
    return text


def problem_of(error: ValidationError) -> str:
    """Return the first thing that is wrong, without the text that is wrong."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    what = error.title
    return (
        f"the {what} is wrong at `{ascii(place)[1:-1]:.100}`: {reason}" if place else f"the {what} is wrong: {reason}"
    )
