"""What entitles an annotator: a key, a class of authority and scopes, for some time, signed by whoever grants it.

A credential is granted by a key of the role `annotator-ca`, or by the holder of
another credential whose class may delegate. It bears no name of a person, only a
pseudonym. `standing` says what it is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from aqpolicy.errors import KeyFormatError, ProvenanceError
from aqpolicy.provenance.signed_form import LARGEST, Form, Name, Scope, checked_date
from aqpolicy.trust import SigningKey, VerifyKey, peek, seal

CA_ROLE: Final = "annotator-ca"
"""The role under which a keyring lists the keys that may grant credentials; also what `issued_by` says of these."""

CREDENTIAL_TYPE: Final = "application/vnd.aqpolicy.credential+json;version=1"

_MOST_SCOPES: Final = 256

Day = Annotated[str, AfterValidator(checked_date)]


class AnnotatorCredential(Form, title="credential"):
    """A credential as its issuer signed it; dates are days of UTC, the last one included."""

    format: Literal["aqpolicy credential 1"]
    id: Name
    pseudonym: Name
    """Stands for the person; the same on all credentials of one."""
    authority: Name
    """Class of the taxonomy."""
    taxonomy: Annotated[str, Field(pattern=r"\A[A-Za-z0-9._-]{1,64}@[0-9]{1,9}\z")]
    scopes: tuple[Scope, ...]
    key: Annotated[str, Field(max_length=256)]
    """Text of the holder's public key."""
    issued_by: Name
    """`annotator-ca`, or the id of the issuer's credential."""
    issued_on: Day
    valid_from: Day
    valid_until: Day

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if not 0 < len(self.scopes) <= _MOST_SCOPES or len(set(self.scopes)) != len(self.scopes):
            raise ValueError(f"a credential has 1 to {_MOST_SCOPES} scopes, each once")
        if self.valid_until < self.valid_from:
            raise ValueError("the credential ends before it begins")
        if self.id in {CA_ROLE, self.issued_by}:
            raise ValueError(f"a credential is not called `{CA_ROLE}`, and does not grant itself")
        try:
            VerifyKey.parse(self.key)
        except KeyFormatError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def verify_key(self) -> VerifyKey:
        """The holder's key."""
        return VerifyKey.parse(self.key)


def new_credential(**parts: object) -> AnnotatorCredential:
    """Make a credential of its members, without `format`.

    Raises:
        ProvenanceError: The parts do not make one.
    """
    return AnnotatorCredential.of(format="aqpolicy credential 1", **parts)


def seal_credential(credential: AnnotatorCredential, issuers: Sequence[SigningKey]) -> bytes:
    """Return the bytes of a credential file."""
    return seal(CREDENTIAL_TYPE, credential.to_payload(), issuers)


def peek_credential(data: bytes) -> tuple[AnnotatorCredential, tuple[str, ...]]:
    """Return what an envelope claims to grant, and who is said to have signed it; nothing is verified.

    Trust:
        data is untrusted, and so is what is returned.

    Raises:
        CanonicalError: The bytes are no canonical envelope of a credential.
        ProvenanceError: They are no credential of this version.
    """
    if len(data) > LARGEST:
        raise ProvenanceError("the credential is too large")
    seen = peek(data, CREDENTIAL_TYPE)
    return AnnotatorCredential.parse(seen.payload), seen.labels
