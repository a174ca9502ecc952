"""Signed envelopes (DSSE v1): a payload, its type, and signatures over both.

The type is part of what is signed, so a signature made for one purpose is worth
nothing for another. Callers use the bytes that `open_envelope` returns and
nothing else of the file.

Source:
    github.com/secure-systems-lab/dsse, protocol.md and envelope.md, v1.0.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aqpolicy.errors import CanonicalError, SignatureError
from aqpolicy.trust.base64text import decode_base64, encode_base64
from aqpolicy.trust.canonical import canonical_json, parse_canonical
from aqpolicy.trust.keys import SIGNATURE_BYTES, SigningKey, VerifyKey

LARGEST_SIGNATURES: Final = 16
"""How many signatures one envelope may carry."""


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed: the DSSE pre-authentication encoding of type and payload.

    Raises:
        CanonicalError: The type holds a lone surrogate.
    """
    try:
        kind = payload_type.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CanonicalError("a payload type holds a lone surrogate") from error
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload_type: str, payload: bytes, signers: Sequence[SigningKey]) -> bytes:
    """Return the envelope of a payload, signed by all signers, as canonical JSON.

    Raises:
        SignatureError: There is no signer, there are too many, or one is named twice.
    """
    if not 1 <= len(signers) <= LARGEST_SIGNATURES:
        raise SignatureError(f"an envelope needs 1 to {LARGEST_SIGNATURES} signers")
    message = pre_authentication(payload_type, payload)
    signatures = {key.verify_key.label: key.sign(message) for key in signers}
    if len(signatures) != len(signers):
        raise SignatureError("one key signs an envelope twice")
    return _encode(payload_type, payload, signatures)


@dataclass(frozen=True, slots=True)
class Opened:
    """What an envelope holds, and whose signatures it carries."""

    payload: bytes
    signers: tuple[VerifyKey, ...]
    """Trusted keys whose signatures were verified, in the order of the envelope."""
    strangers: tuple[str, ...]
    """Labels of all other signatures; nobody looked at those."""


@dataclass(frozen=True, slots=True)
class Peeked:
    """What an envelope claims; nothing of it is verified."""

    payload: bytes
    labels: tuple[str, ...]
    """Who is said to have signed; text that a stranger chose."""


def open_envelope(data: bytes, payload_type: str, trusted: Sequence[VerifyKey]) -> bytes:
    """Return the payload of an envelope that a trusted key signed.

    Signatures by keys that are not trusted are passed over; a signature that
    claims a trusted key and fails condemns the envelope.

    Trust:
        data is untrusted; trusted comes from the operator's keyring.

    Raises:
        SignatureError: No trusted key is given, none signed, or a signature of one fails.
        CanonicalError: The bytes are no canonical envelope of this payload type.
    """
    return open_signed(data, payload_type, trusted).payload


def open_signed(data: bytes, payload_type: str, trusted: Sequence[VerifyKey], threshold: int = 1) -> Opened:
    """Open an envelope as `open_envelope` does, and say who signed it.

    Args:
        data: The envelope.
        payload_type: What it must hold.
        trusted: Keys that count; retired ones among them do not.
        threshold: How many different ones of them must have signed.

    Trust:
        data is untrusted; trusted and threshold come from the operator.

    Raises:
        SignatureError: No trusted key is given, too few signed, or a signature of one fails.
        CanonicalError: The bytes are no canonical envelope of this payload type.
    """
    known = {key.label: key for key in trusted if key.retired is None}
    if not known:
        raise SignatureError(f"the keyring lists no key that may sign `{payload_type}`")
    payload, signatures = _parse(data, payload_type)
    message = pre_authentication(payload_type, payload)
    signers = tuple(known[label] for label in signatures if label in known)
    for key in signers:
        key.verify(signatures[key.label], message)
    if not signers:
        names = ", ".join(f"`{_shown(label)}`" for label in signatures)
        raise SignatureError(f"no trusted key signed this `{payload_type}`; it is signed by {names}")
    # One key under two names is one signer.
    if len({key.public for key in signers}) < threshold:
        names = ", ".join(f"`{key.label}`" for key in signers)
        raise SignatureError(f"{threshold} trusted keys must sign this `{payload_type}`; it is signed by {names}")
    return Opened(payload, signers, tuple(_shown(label) for label in signatures if label not in known))


def peek(data: bytes, payload_type: str) -> Peeked:
    """Return what an envelope claims to hold, on nobody's word.

    For whoever must read the payload to know by which keys it has to be verified;
    the payload is used only after `open_signed` has returned the same bytes.

    Trust:
        data is untrusted, and so is what is returned.

    Raises:
        CanonicalError: The bytes are no canonical envelope of this payload type.
    """
    payload, signatures = _parse(data, payload_type)
    return Peeked(payload, tuple(signatures))


def add_signatures(data: bytes, payload_type: str, signers: Sequence[SigningKey]) -> bytes:
    """Return an envelope with further signatures over the same payload.

    The signatures that it carries are kept as they are, and are not verified: to
    sign is to vouch for the payload, not for other signers.

    Trust:
        data is untrusted.

    Raises:
        SignatureError: A signer has signed it already, is named twice, or there would be too many.
        CanonicalError: The bytes are no canonical envelope of this payload type.
    """
    payload, signatures = _parse(data, payload_type)
    message = pre_authentication(payload_type, payload)
    for key in signers:
        label = key.verify_key.label
        if label in signatures:
            raise SignatureError(f"`{label}` has signed this `{payload_type}` already")
        signatures[label] = key.sign(message)
    if len(signatures) > LARGEST_SIGNATURES:
        raise SignatureError(f"an envelope carries at most {LARGEST_SIGNATURES} signatures")
    return _encode(payload_type, payload, signatures)


def _shown(label: str) -> str:
    """Return a stranger's label so that it cannot act on a terminal."""
    return f"{ascii(label)[1:-1]:.80}"


def _encode(payload_type: str, payload: bytes, signatures: Mapping[str, bytes]) -> bytes:
    items = [{"keyid": label, "sig": encode_base64(signature)} for label, signature in signatures.items()]
    return canonical_json({"payload": encode_base64(payload), "payloadType": payload_type, "signatures": items})


def _parse(data: bytes, payload_type: str) -> tuple[bytes, dict[str, bytes]]:
    value = parse_canonical(data)
    if not isinstance(value, dict) or set(value) != {"payload", "payloadType", "signatures"}:
        raise CanonicalError("an envelope has `payload`, `payloadType` and `signatures`, nothing else")
    if value["payloadType"] != payload_type:
        raise CanonicalError(f"the envelope is not of the type `{payload_type}`")
    if not isinstance(value["payload"], str):
        raise CanonicalError("the payload of an envelope is not a text")
    return decode_base64(value["payload"]), _parse_signatures(value["signatures"])


def _parse_signatures(items: object) -> dict[str, bytes]:
    if not isinstance(items, list) or not 1 <= len(items) <= LARGEST_SIGNATURES:
        raise CanonicalError(f"an envelope carries 1 to {LARGEST_SIGNATURES} signatures")
    signatures: dict[str, bytes] = {}
    for item in items:
        if not isinstance(item, dict) or set(item) != {"keyid", "sig"}:
            raise CanonicalError("a signature of an envelope has `keyid` and `sig`, nothing else")
        label, text = item["keyid"], item["sig"]
        if not isinstance(label, str) or not isinstance(text, str) or label in signatures:
            raise CanonicalError("a signature of an envelope is ill-formed or there twice")
        signatures[label] = decode_base64(text)
        if len(signatures[label]) != SIGNATURE_BYTES:
            raise CanonicalError("a signature of an envelope has the wrong length")
    return signatures
