"""Sign bundles and open them: nothing of a bundle is used before its signature is verified.

Only whoever is about to sign one (`add_signatures`) reads it on nobody's word.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aqpolicy.bundle.bundle import Bundle
from aqpolicy.bundle.codec import decode_bundle
from aqpolicy.errors import BundleSignatureError, CanonicalError, InputError, MalformedBundleError, SignatureError
from aqpolicy.trust import Keyring, Opened, SigningKey, envelope, open_signed, seal

PAYLOAD_TYPE: Final = "application/vnd.aqpolicy.bundle+json;version=2"
ROLE: Final = "policy-author"
"""The role under which a keyring lists the keys that may sign bundles."""

LARGEST_FILE: Final = 64 * 1024 * 1024


def seal_bundle(payload: bytes, signers: Sequence[SigningKey]) -> bytes:
    """Return the bytes of a bundle file; the same payload and keys always give the same bytes."""
    return seal(PAYLOAD_TYPE, payload, signers)


def open_bundle(data: bytes, keyring: Keyring) -> Bundle:
    """Verify and read the bytes of a bundle file.

    Trust:
        data is untrusted; keyring comes from the operator.

    Raises:
        BundleSignatureError: No trusted policy author signed these bytes.
        MalformedBundleError: They are not a bundle that this version reads.
    """
    return open_signed_bundle(data, keyring)[0]


def open_signed_bundle(data: bytes, keyring: Keyring, threshold: int = 1) -> tuple[Bundle, Opened]:
    """Open a bundle as `open_bundle` does, and say whose signatures it carries.

    Args:
        data: The bytes of the file.
        keyring: Who is trusted.
        threshold: How many trusted policy authors must have signed; the keyring may ask for more.

    Trust:
        data is untrusted; keyring and threshold come from the operator.

    Raises:
        BundleSignatureError: Too few trusted policy authors signed these bytes.
        MalformedBundleError: They are not a bundle that this version reads.
    """
    _check_size(data)
    try:
        opened = keyring.open(data, PAYLOAD_TYPE, ROLE, threshold)
    except SignatureError as error:
        raise BundleSignatureError(f"the bundle is not to be trusted: {error}") from error
    except CanonicalError as error:
        raise MalformedBundleError(f"this is no bundle: {error}") from error
    return decode_bundle(opened.payload), opened


def add_signatures(data: bytes, signers: Sequence[SigningKey]) -> tuple[bytes, Bundle]:
    """Return the bytes of a bundle file with further signatures, and what they vouch for.

    Signatures that are there already are kept and not verified.

    Trust:
        data is untrusted: whoever signs should know where it comes from.

    Raises:
        SignatureError: A signer has signed it already, or there would be too many.
        MalformedBundleError: The bytes are not a bundle that this version reads.
    """
    _check_size(data)
    try:
        signed = envelope.add_signatures(data, PAYLOAD_TYPE, signers)
    except CanonicalError as error:
        raise MalformedBundleError(f"this is no bundle: {error}") from error
    own = tuple(key.verify_key for key in signers)
    return signed, decode_bundle(open_signed(signed, PAYLOAD_TYPE, own).payload)


def _check_size(data: bytes) -> None:
    if len(data) > LARGEST_FILE:
        raise MalformedBundleError(f"a bundle has at most {LARGEST_FILE} bytes")


def load_bundle(path: Path | str, keyring: Keyring) -> Bundle:
    """Verify and read a bundle file.

    Raises:
        InputError: The file cannot be read.
        BundleSignatureError: No trusted policy author signed it.
        MalformedBundleError: It is not a bundle that this version reads.
    """
    return open_bundle(read_bundle(path), keyring)


def read_bundle(path: Path | str) -> bytes:
    """Return the bytes of a bundle file, unverified; of one that is too large, enough to be refused.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"cannot read the bundle `{path}`: {error.strerror}") from error
