"""Which keys are trusted for which purpose, until when, and how many must agree.

A keyring without root keys (version 0) is the operator's own word: it is given
and not signed. One with root keys is signed by them, and each version vouches
for the next (`succession`). A key counts only for the roles it is listed under.
An empty keyring is an error, never "trust anyone".

Layout: docs/formats/keys.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from aqpolicy.errors import KeyFormatError, SignatureError
from aqpolicy.trust.canonical import canonical_json
from aqpolicy.trust.digest import sha256
from aqpolicy.trust.durable import replace_file
from aqpolicy.trust.envelope import Opened, open_signed
from aqpolicy.trust.keys import Retired, VerifyKey
from aqpolicy.trust.roles import ALONE, APART

_ROLE: Final = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)

NOTICE: Final = timedelta(days=30)
"""How long before its end a keyring is said to end."""

Roles = Mapping[str, tuple[VerifyKey, ...]]


@dataclass(frozen=True, slots=True)
class Keyring:
    """Trusted keys by role.

    Raises:
        KeyFormatError: There is no key at all, a role is misspelt, a key is listed twice under one role, or a keyring
            with root keys breaks one of the rules for these.
    """

    roles: Roles
    """All keys, retired ones included; `keys` says which count."""
    version: int = 0
    """0 where nobody signs the keyring."""
    expires: str = ""
    """Last day, `YYYY-MM-DD`; empty in version 0, which does not expire."""
    thresholds: Mapping[str, int] = field(default_factory=dict)
    """How many keys of a role must sign; 1 where a role is not named."""
    signed: bytes = field(default=b"", repr=False)
    """The envelope; empty in version 0, and while a version waits for its signatures."""

    def __post_init__(self) -> None:
        """Refuse a keyring that trusts nobody, says one thing twice, or could never be replaced."""
        if not any(key.retired is None for keys in self.roles.values() for key in keys):
            raise KeyFormatError("the keyring is empty; add a key for each role that is needed")
        for role, keys in self.roles.items():
            if _ROLE.fullmatch(role) is None:
                raise KeyFormatError("a role of the keyring is not a lower-case word")
            if len({key.public for key in keys}) != len(keys):
                raise KeyFormatError(f"the keyring lists one key twice for the role `{role}`")
        if self.version:
            _check_signed_form(self)
        elif "root" in self.roles or self.expires or self.thresholds or self.signed:
            raise KeyFormatError("a keyring with root keys, an end or thresholds has a version and is signed")

    @classmethod
    def of(cls, entries: Iterable[tuple[str, VerifyKey]]) -> Keyring:
        """Collect (role, key) pairs, in order."""
        return cls(by_role(entries))

    def keys(self, role: str) -> tuple[VerifyKey, ...]:
        """Return the keys of a role that count; none where the role is not listed, which every verifier refuses.

        Retired keys are among them for the role `log` only: `open_checkpoint` looks at their bounds itself. For other
        roles ask `within` or `on` first.
        """
        return tuple(key for key in self.roles.get(role, ()) if role == "log" or key.retired is None)

    def threshold(self, role: str) -> int:
        """Return how many different keys of a role must sign."""
        return self.thresholds.get(role, 1)

    def open(self, data: bytes, payload_type: str, role: str, at_least: int = 1) -> Opened:
        """Open an envelope that keys of a role must have signed, as many as the keyring asks for.

        Args:
            data: The envelope.
            payload_type: What it must hold.
            role: Whose signatures count.
            at_least: How many the caller asks for; the keyring may ask for more.

        Raises:
            SignatureError: Too few keys of the role signed, or a signature of one fails.
            CanonicalError: The bytes are no canonical envelope of this payload type.
        """
        return open_signed(data, payload_type, self.keys(role), max(at_least, self.threshold(role)))

    def within(self, origin: str, size: int = 1) -> Keyring:
        """Return the keyring as it is for what a log names in its first entries: keys retired since then count.

        Args:
            origin: The log; its head must have been verified.
            size: Up to which entry, exclusive; 1 for what the first entry names.
        """
        return self._restoring(lambda bound: bound.covers(origin, size))

    def on(self, day: str) -> Keyring:
        """Return the keyring as it is for a statement that bears a date, `YYYY-MM-DD`: keys retired later count."""
        return self._restoring(lambda bound: day <= bound.until)

    def _restoring(self, counts: Callable[[Retired], bool]) -> Keyring:
        restored = {
            role: tuple(key.restored if key.retired is not None and counts(key.retired) else key for key in keys)
            for role, keys in self.roles.items()
        }
        return self if restored == dict(self.roles) else replace(self, roles=restored)

    def refuse_expired(self, today: date) -> None:
        """Return if the keyring may still be used for something new; what is old is verified regardless.

        Raises:
            SignatureError: Its last day is over.
        """
        if self.expires and today.isoformat() > self.expires:
            raise SignatureError(f"the keyring ended on {self.expires}; let its root keys sign another version")

    def notice(self, today: date) -> str:
        """Return a warning where the keyring has ended or will soon; nothing otherwise."""
        if not self.expires or today + NOTICE < date.fromisoformat(self.expires):
            return ""
        word = "ended" if today.isoformat() > self.expires else "ends"
        return f"the keyring {word} on {self.expires}; let its root keys sign another version"

    def with_key(self, role: str, key: VerifyKey) -> Keyring:
        """Return a keyring that also trusts this key for this role; unsigned where it is one to be signed."""
        return self.revised(roles={**self.roles, role: (*self.roles.get(role, ()), key)})

    def revised(
        self, roles: Roles | None = None, expires: str | None = None, thresholds: Mapping[str, int] | None = None
    ) -> Keyring:
        """Return the keyring with something changed: the next version, unsigned, where it is one to be signed."""
        next_version = self.version + 1 if self.signed else self.version
        return Keyring(
            roles=self.roles if roles is None else roles,
            version=next_version,
            expires=self.expires if expires is None else expires,
            thresholds=self.thresholds if thresholds is None else thresholds,
        )

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file."""
        return sha256(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the file's bytes: canonical JSON and a line end.

        Raises:
            KeyFormatError: Its root keys have not signed this version yet.
        """
        if self.version and not self.signed:
            raise KeyFormatError(f"version {self.version} of the keyring is not signed by its root keys yet")
        return (self.signed or canonical_json({"keys": entries_of(self.roles)})) + b"\n"

    def save(self, path: Path | str) -> None:
        """Write the keyring, in the place of an older one.

        Raises:
            InputError: The file cannot be written.
            KeyFormatError: Its root keys have not signed this version yet.
        """
        replace_file(Path(path), self.to_bytes())


def by_role(entries: Iterable[tuple[str, VerifyKey]]) -> dict[str, tuple[VerifyKey, ...]]:
    """Return the keys of each role, in order."""
    roles: dict[str, tuple[VerifyKey, ...]] = {}
    for role, key in entries:
        roles[role] = (*roles.get(role, ()), key)
    return roles


def entries_of(roles: Roles) -> list[dict[str, object]]:
    """Return the keys of a keyring as its file lists them."""
    return [_entry_of(role, key) for role, keys in sorted(roles.items()) for key in keys]


def is_date(text: str) -> bool:
    """Return whether a text is a date of the form `YYYY-MM-DD`."""
    if _DATE.fullmatch(text) is None:
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _entry_of(role: str, key: VerifyKey) -> dict[str, object]:
    entry: dict[str, object] = {"key": key.text, "role": role}
    if key.retired is not None:
        logs = [{"log": origin, "size": size} for origin, size in key.retired.logs]
        entry["retired"] = {"logs": logs, "until": key.retired.until}
    return entry


def _check_signed_form(keyring: Keyring) -> None:
    """Check what holds for a keyring with root keys."""
    if not is_date(keyring.expires):
        raise KeyFormatError("a signed keyring says until when it counts, `YYYY-MM-DD`")
    roots = keyring.roles.get("root", ())
    if not roots or any(key.retired is not None for key in roots):
        raise KeyFormatError("a signed keyring has root keys, none of them retired: a root key is taken out")
    for role, count in keyring.thresholds.items():
        if count < 1 or (role in ALONE and count > 1) or count > sum(k.retired is None for k in keyring.keys(role)):
            raise KeyFormatError(f"the threshold of the role `{role}` cannot be met, or makes no sense for it")
    _refuse_shared(keyring.roles)


def _refuse_shared(roles: Roles) -> None:
    """Refuse a key in two roles of which one must be apart; a name does not make another key of it."""
    held: dict[bytes, list[str]] = {}
    for role, keys in roles.items():
        for key in keys:
            held.setdefault(key.public, []).append(role)
    for shared in held.values():
        alone = sorted(APART & set(shared))
        if alone and len(shared) > 1:
            raise KeyFormatError(
                f"one key is listed as {' and as '.join(map(repr, sorted(shared)))}; `{alone[0]}` "
                "shares its keys with no other role"
            )
