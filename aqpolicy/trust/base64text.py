"""Base64 with one spelling: standard alphabet, padded, no spare bits."""

from __future__ import annotations

import base64

from aqpolicy.errors import CanonicalError


def encode_base64(data: bytes) -> str:
    """Return the padded standard encoding."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes:
    """Return the bytes of the only spelling that `encode_base64` gives them.

    Raises:
        CanonicalError: Another alphabet, white space, missing padding, or set spare bits.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise CanonicalError("a base64 text cannot be read") from error
    if encode_base64(data) != text:
        raise CanonicalError("a base64 text is not in its canonical spelling")
    return data
