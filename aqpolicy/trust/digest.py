"""SHA-256, the project's one digest, and the names derived from it.

It hashes nothing that is a node or leaf of a tree; `merkle` does, with its own prefixes.
"""

from __future__ import annotations

import hashlib

from aqpolicy.errors import CanonicalError


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 digest, 32 bytes."""
    return hashlib.sha256(data).digest()


def digest_text(digest: bytes) -> str:
    """Return a digest as `sha256:<hex>`."""
    return f"sha256:{digest.hex()}"


def example_key(example_id: str) -> bytes:
    """Return the 16 bytes by which the log knows an example.

    Raises:
        CanonicalError: The id holds a lone surrogate.
    """
    try:
        name = example_id.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CanonicalError("an example id holds a lone surrogate") from error
    return sha256(b"aqpolicy example\x00" + name)[:16]
