"""What a credential is worth at a time: four checks in a fixed order, each outcome with a reason.

(1) Signature: the envelope is whole, is of the key and id that are presented, and
no signature that claims its issuer fails. (2) Chain: issuers lead, without a
circle, to a trusted key of the role `annotator-ca`, and none grants more than it
has. (3) Time: valid and not revoked at the declared time, which is one at which
the work can have been done; every issuer likewise when it granted.
(4) Competence: the class is in the taxonomy and may attest the scope. The first
check that fails decides; later ones are not made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, Literal

from aqpolicy.errors import AqpolicyError, CanonicalError, SignatureError
from aqpolicy.provenance.credential import CA_ROLE, CREDENTIAL_TYPE, AnnotatorCredential, peek_credential
from aqpolicy.provenance.status import StatusList
from aqpolicy.provenance.taxonomy import Taxonomy, covers
from aqpolicy.trust import Keyring, VerifyKey, open_signed

Check = Literal["signature", "chain", "time", "competence"]
CHECKS: Final[tuple[Check, ...]] = ("signature", "chain", "time", "competence")

Reason = Literal[
    "valid",
    "no_credential",
    "malformed",
    "other_credential",
    "bad_signature",
    "unknown_issuer",
    "cycle",
    "too_long",
    "not_delegated",
    "wider_than_issuer",
    "not_yet_valid",
    "expired",
    "revoked",
    "backdated",
    "in_future",
    "other_taxonomy",
    "unknown_class",
    "other_class",
    "outside_scope",
]

LONGEST_CHAIN: Final = 8


@dataclass(frozen=True, slots=True)
class Presented:
    """A credential as a manifest presents it: whom it names, and the envelope that is to prove it."""

    id: str
    key: str
    authority: str
    envelope: bytes = b""


@dataclass(frozen=True, slots=True)
class Standing:
    """What came of checking one credential."""

    credential: str
    reason: Reason
    checks: tuple[Check, ...]
    """Checks that were made, in order; the last one failed unless the reason is `valid`."""
    detail: str = ""

    @property
    def is_valid(self) -> bool:
        """Whether every check passed."""
        return self.reason == "valid"


class _Refusal(Exception):  # noqa: N818  # an outcome, not a fault; it never leaves this module
    """A check that failed."""

    def __init__(self, check: Check, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.check, self.reason, self.detail = check, reason, detail


def check_credentials(
    header_credentials: Sequence[Presented],
    taxonomy: Taxonomy,
    keyring: Keyring,
    at: int | Mapping[str, int],
    *,
    scopes: Sequence[str] = (),
    issuers: Sequence[bytes] = (),
    status: StatusList | None = None,
    manifest_root: bytes = b"",
    known: tuple[int, int] | None = None,
) -> dict[str, Standing]:
    """Return the standing of every credential, by id. Never raises for what is wrong with a credential.

    Args:
        header_credentials: What a manifest presents.
        taxonomy: The taxonomy that the manifest names; verified.
        keyring: Who is trusted.
        at: The declared time of what the credentials sign, in seconds since 1970; one for all, or by id.
        scopes: What they attest.
        issuers: Envelopes of issuers' credentials that sign nothing themselves.
        status: Credentials that are refused; verified.
        manifest_root: The manifest's root: what it held before a credential was stolen is not refused.
        known: When the work was not there yet, and when it was, in seconds since 1970: the times of the signed heads
            before and after the manifest came into the log. A declared time outside was made up.

    Trust:
        header_credentials and issuers are untrusted.
    """
    checker = CredentialChecker(
        taxonomy,
        keyring,
        [*issuers, *(part.envelope for part in header_credentials)],
        status=status,
        manifest_root=manifest_root,
        known=known,
    )
    times = {part.id: at if isinstance(at, int) else at[part.id] for part in header_credentials}
    return {part.id: checker.check(part, times[part.id], scopes) for part in header_credentials}


class CredentialChecker:
    """Checks credentials against one another; the signatures of each are verified once."""

    def __init__(
        self,
        taxonomy: Taxonomy,
        keyring: Keyring,
        envelopes: Sequence[bytes],
        *,
        status: StatusList | None = None,
        manifest_root: bytes = b"",
        known: tuple[int, int] | None = None,
    ) -> None:
        """Sort the envelopes by the id that each claims; where two claim one id, none of them counts."""
        self._taxonomy, self._keyring = taxonomy, keyring
        self._status, self._root, self._known = status, manifest_root, known
        self._claims: dict[str, list[bytes]] = {}
        for data in dict.fromkeys(envelopes):
            try:
                claimed, _ = peek_credential(data)
            except AqpolicyError:
                continue  # whoever presents it is told why
            self._claims.setdefault(claimed.id, []).append(data)
        self._signed: dict[bytes, AnnotatorCredential | _Refusal] = {}

    def check(self, presented: Presented, at: int, scopes: Sequence[str] = ()) -> Standing:
        """Return the standing of a credential at a time."""
        try:
            credential = self._presented(presented)
            self._check_chain(credential)
            self._check_time(credential, at)
            self._check_competence(credential, presented, scopes)
        except _Refusal as refusal:
            made = CHECKS[: CHECKS.index(refusal.check) + 1]
            return Standing(presented.id, refusal.reason, made, refusal.detail)
        return Standing(presented.id, "valid", CHECKS)

    def _presented(self, presented: Presented) -> AnnotatorCredential:
        if not presented.envelope:
            raise _Refusal("signature", "no_credential", "no credential is presented, only a name")
        try:
            claimed, _ = peek_credential(presented.envelope)
        except AqpolicyError as error:
            raise _Refusal("signature", "malformed", str(error)) from error
        if (claimed.id, claimed.key) != (presented.id, presented.key):
            raise _Refusal("signature", "other_credential", "it is of another id or key than the one that signs")
        return self._verified(presented.envelope)

    def _verified(self, data: bytes) -> AnnotatorCredential:
        """Return a credential that its issuer's key signed; whether the issuer may is the chain's question."""
        known = self._signed.get(data)
        if known is None:
            try:
                known = self._verify(data)
            except _Refusal as refusal:
                known = refusal
            self._signed[data] = known
        if isinstance(known, _Refusal):
            raise _Refusal(known.check, known.reason, known.detail)
        return known

    def _verify(self, data: bytes) -> AnnotatorCredential:
        claimed, labels = peek_credential(data)
        keys, threshold = self._issuer_keys(claimed)
        if not {key.label for key in keys} & set(labels):
            raise _Refusal("chain", "unknown_issuer", f"no trusted key of `{claimed.issued_by}` signed it")
        try:
            opened = open_signed(data, CREDENTIAL_TYPE, keys, threshold)
        except (SignatureError, CanonicalError) as error:
            raise _Refusal("signature", "bad_signature", str(error)) from error
        return AnnotatorCredential.parse(opened.payload)

    def _issuer_keys(self, claimed: AnnotatorCredential) -> tuple[tuple[VerifyKey, ...], int]:
        if claimed.issued_by == CA_ROLE:
            return self._keyring.on(claimed.issued_on).keys(CA_ROLE), self._keyring.threshold(CA_ROLE)
        claims = self._claims.get(claimed.issued_by, [])
        if len(claims) != 1:
            problem = "is not presented" if not claims else "is presented in two forms"
            raise _Refusal("chain", "unknown_issuer", f"the credential `{claimed.issued_by}` of its issuer {problem}")
        return (peek_credential(claims[0])[0].verify_key,), 1

    def _issuer(self, credential: AnnotatorCredential) -> AnnotatorCredential | None:
        """Return the issuer's credential, verified; None where the keyring is the issuer."""
        if credential.issued_by == CA_ROLE:
            return None
        return self._verified(self._claims[credential.issued_by][0])

    def _check_chain(self, credential: AnnotatorCredential) -> None:
        seen, holder = {credential.id}, credential
        while (issuer := self._issuer(holder)) is not None:
            if issuer.id in seen:
                raise _Refusal("chain", "cycle", f"the chain of issuers comes back to `{issuer.id}`")
            if len(seen) >= LONGEST_CHAIN:
                raise _Refusal("chain", "too_long", f"the chain is longer than {LONGEST_CHAIN}")
            granted = self._taxonomy.find(issuer.authority)
            if granted is None or not granted.delegates or issuer.taxonomy != self._taxonomy.ref:
                raise _Refusal("chain", "not_delegated", f"`{issuer.id}` may not grant credentials")
            if not all(covers(issuer.scopes, scope) for scope in holder.scopes):
                raise _Refusal("chain", "wider_than_issuer", f"`{issuer.id}` granted more than it has")
            seen.add(issuer.id)
            holder = issuer

    def _check_time(self, credential: AnnotatorCredential, at: int) -> None:
        if self._known is not None and at < self._known[0]:
            raise _Refusal("time", "backdated", "it says a time at which it was not there yet")
        if self._known is not None and at > self._known[1]:
            raise _Refusal("time", "in_future", "it says a time by which it was there already")
        moment, holder = at, credential
        while True:
            self._check_moment(holder, moment)
            issuer = self._issuer(holder)
            if issuer is None:
                return
            moment, holder = _last_second(holder.issued_on), issuer

    def _check_moment(self, credential: AnnotatorCredential, at: int) -> None:
        day = _day(at)
        if day < credential.valid_from:
            raise _Refusal("time", "not_yet_valid", f"`{credential.id}` is valid from {credential.valid_from}")
        if day > credential.valid_until:
            raise _Refusal("time", "expired", f"`{credential.id}` was valid until {credential.valid_until}")
        if self._status is not None and self._status.refuses(credential.id, at, self._root):
            raise _Refusal("time", "revoked", f"`{credential.id}` is revoked for this time")

    def _check_competence(self, credential: AnnotatorCredential, presented: Presented, scopes: Sequence[str]) -> None:
        if credential.taxonomy != self._taxonomy.ref:
            raise _Refusal("competence", "other_taxonomy", f"it is of the taxonomy {credential.taxonomy}")
        granted = self._taxonomy.find(credential.authority)
        if granted is None:
            raise _Refusal("competence", "unknown_class", f"the taxonomy has no class `{credential.authority}`")
        if presented.authority != credential.authority:
            raise _Refusal("competence", "other_class", f"it grants `{credential.authority}`, not what is claimed")
        for scope in scopes:
            if not (covers(credential.scopes, scope) and covers(granted.scopes, scope)):
                raise _Refusal("competence", "outside_scope", f"it does not cover `{ascii(scope)[1:-1]}`")


def _day(at: int) -> str:
    """Return the day of a time; beyond the calendar, one that no credential reaches."""
    try:
        return datetime.fromtimestamp(at, UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return "9999-99-99" if at > 0 else ""


def _last_second(day: str) -> int:
    midnight = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
    return int(midnight.timestamp()) + 86_399
