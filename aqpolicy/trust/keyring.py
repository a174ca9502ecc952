"""Which keys are trusted for which purpose.

A keyring is the root of trust and is therefore not signed: it is given by the
operator. A key counts only for the roles it is listed under. An empty keyring
is an error, never "trust anyone".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aqpolicy.errors import CanonicalError, InputError, KeyFormatError
from aqpolicy.trust.canonical import canonical_json, parse_canonical
from aqpolicy.trust.durable import replace_file
from aqpolicy.trust.keys import VerifyKey

ROLES: Final = ("annotator", "eraser", "log", "manifest-issuer", "policy-author", "witness")
"""The roles that aqpolicy itself asks for; a keyring may list others."""

_ROLE: Final = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)
_LARGEST_FILE: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Keyring:
    """Trusted keys by role.

    Raises:
        KeyFormatError: There is no key at all, a role is misspelt, or a key is listed twice under one role.
    """

    roles: Mapping[str, tuple[VerifyKey, ...]]

    def __post_init__(self) -> None:
        """Refuse a keyring that trusts nobody or says one thing twice."""
        if not any(self.roles.values()):
            raise KeyFormatError("the keyring is empty; add a key for each role that is needed")
        for role, keys in self.roles.items():
            if _ROLE.fullmatch(role) is None:
                raise KeyFormatError("a role of the keyring is not a lower-case word")
            if len({key.public for key in keys}) != len(keys):
                raise KeyFormatError(f"the keyring lists one key twice for the role `{role}`")

    @classmethod
    def of(cls, entries: Iterable[tuple[str, VerifyKey]]) -> Keyring:
        """Collect (role, key) pairs, in order."""
        roles: dict[str, tuple[VerifyKey, ...]] = {}
        for role, key in entries:
            roles[role] = (*roles.get(role, ()), key)
        return cls(roles)

    def keys(self, role: str) -> tuple[VerifyKey, ...]:
        """Return the keys of a role; none where the role is not listed, which every verifier refuses."""
        return self.roles.get(role, ())

    def with_key(self, role: str, key: VerifyKey) -> Keyring:
        """Return a keyring that also trusts this key for this role."""
        return Keyring({**self.roles, role: (*self.keys(role), key)})

    def to_bytes(self) -> bytes:
        """Return the file's bytes: canonical JSON and a line end."""
        entries = [{"key": key.text, "role": role} for role, keys in sorted(self.roles.items()) for key in keys]
        return canonical_json({"keys": entries}) + b"\n"

    def save(self, path: Path | str) -> None:
        """Write the keyring, in the place of an older one.

        Raises:
            InputError: The file cannot be written.
        """
        replace_file(Path(path), self.to_bytes())


def parse_keyring(data: bytes) -> Keyring:
    """Read a keyring from the bytes of its file.

    Raises:
        KeyFormatError: The bytes are no keyring, or it is empty.
    """
    if len(data) > _LARGEST_FILE:
        raise KeyFormatError("the keyring is too large")
    try:
        value = parse_canonical(data.removesuffix(b"\n"))
    except CanonicalError as error:
        raise KeyFormatError(f"the keyring is not canonical JSON: {error}") from error
    if not isinstance(value, dict) or set(value) != {"keys"} or not isinstance(value["keys"], list):
        raise KeyFormatError('a keyring has the form `{"keys":[...]}`')
    return Keyring.of(_entry(item) for item in value["keys"])


def load_keyring(path: Path | str) -> Keyring:
    """Read a keyring file.

    Raises:
        InputError: The file cannot be read.
        KeyFormatError: It holds no keyring, or an empty one.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"cannot read the keyring `{path}`: {error.strerror}") from error
    return parse_keyring(data)


def _entry(item: object) -> tuple[str, VerifyKey]:
    if not isinstance(item, dict) or set(item) != {"key", "role"}:
        raise KeyFormatError("an entry of the keyring has `key` and `role`, nothing else")
    role, text = item["role"], item["key"]
    if not isinstance(role, str) or not isinstance(text, str):
        raise KeyFormatError("`key` and `role` of a keyring entry are texts")
    return role, VerifyKey.parse(text)
