"""Read key files: a private one only where nobody but its owner can have read it.

The checks are made on the very file that is read, so that nothing can be put in
its place between the two. Nothing secret is in a frame that raises.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import Final

from aqpolicy.errors import InputError, KeyFormatError
from aqpolicy.trust.keys import PRIVATE_PREFIX, SigningKey, VerifyKey

_LARGEST: Final = 4096
# Without O_NONBLOCK a pipe put in the key's place would stop us.
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


def load_signing_key(path: Path | str) -> SigningKey:
    """Read a private key from a file that nobody but its owner may read.

    Raises:
        InputError: The file cannot be read.
        KeyFormatError: It is a link, others may read it, or it holds no private key.
    """
    handle = _open(path, os.O_NOFOLLOW)
    try:
        problem = _exposure(path, os.fstat(handle))
        key = problem or _private(path, os.read(handle, _LARGEST))
    finally:
        os.close(handle)
    if isinstance(key, str):
        raise KeyFormatError(key)
    return key


def load_verify_key(path: Path | str) -> VerifyKey:
    """Read a public key from a file that holds it, or the private key it belongs to.

    Raises:
        InputError: The file cannot be read.
        KeyFormatError: It holds no key, or a private one that others may read.
    """
    handle = _open(path, 0)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise KeyFormatError(f"the key file `{path}` is not a regular file")
        key = _public(path, os.read(handle, _LARGEST))
    finally:
        os.close(handle)
    if isinstance(key, str):
        raise KeyFormatError(key)
    return load_signing_key(path).verify_key if key is None else key


def _open(path: Path | str, more: int) -> int:
    if str(path).startswith(PRIVATE_PREFIX):  # never quoted: messages are logged
        raise KeyFormatError(
            "a private key was given where the name of its file belongs; others may have seen it: rotate it"
        )
    try:
        return os.open(path, _FLAGS | more)
    except OSError as error:
        if more and Path(path).is_symlink():
            raise KeyFormatError(f"the key file `{path}` is a link; name the file that it points to") from error
        raise InputError(f"cannot read the key file `{path}`: {error.strerror}") from error
    except ValueError as error:  # a name that no file can have
        raise InputError(f"cannot read the key file: {error}") from error


def _exposure(path: Path | str, status: os.stat_result) -> str:
    """Return why the file must not be used as a private key; nothing where it may."""
    if not stat.S_ISREG(status.st_mode):
        return f"the key file `{path}` is not a regular file"
    if status.st_mode & 0o077:
        command = f"chmod 600 {shlex.quote(str(path))}"
        return f"others may read the key file `{path}`; run `{command}`, and rotate the key if somebody did"
    return ""


def _private(path: Path | str, data: bytes) -> SigningKey | str:
    try:
        return SigningKey.parse(data.decode("ascii").removesuffix("\n"))
    except UnicodeDecodeError:
        return f"the key file `{path}` holds no private key"
    except KeyFormatError as error:
        return str(error)


def _public(path: Path | str, data: bytes) -> VerifyKey | str | None:
    """Return the key, what is wrong, or None where the file holds a private one."""
    try:
        text = data.decode("ascii").removesuffix("\n")
        return None if text.startswith(PRIVATE_PREFIX) else VerifyKey.parse(text)
    except UnicodeDecodeError:
        return f"the key file `{path}` holds no key"
    except KeyFormatError as error:
        return str(error)
