"""Sign bundles and open them: nothing of a bundle is read before its signature is verified."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aqpolicy.bundle.bundle import Bundle
from aqpolicy.bundle.codec import decode_bundle
from aqpolicy.errors import BundleSignatureError, CanonicalError, InputError, MalformedBundleError, SignatureError
from aqpolicy.trust import Keyring, SigningKey, open_envelope, seal

PAYLOAD_TYPE: Final = "application/vnd.aqpolicy.bundle+json;version=1"
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
    if len(data) > LARGEST_FILE:
        raise MalformedBundleError(f"a bundle has at most {LARGEST_FILE} bytes")
    try:
        payload = open_envelope(data, PAYLOAD_TYPE, keyring.keys(ROLE))
    except SignatureError as error:
        raise BundleSignatureError(f"the bundle is not to be trusted: {error}") from error
    except CanonicalError as error:
        raise MalformedBundleError(f"this is no bundle: {error}") from error
    return decode_bundle(payload)


def load_bundle(path: Path | str, keyring: Keyring) -> Bundle:
    """Verify and read a bundle file.

    Raises:
        InputError: The file cannot be read.
        BundleSignatureError: No trusted policy author signed it.
        MalformedBundleError: It is not a bundle that this version reads.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"cannot read the bundle `{path}`: {error.strerror}") from error
    return open_bundle(data, keyring)
