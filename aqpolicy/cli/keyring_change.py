"""Change a keyring file: at once where nobody signs it, else when enough root keys have signed the next version.

Until then the next version lies beside the keyring as `K.next`; the keyring in
force stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aqpolicy.cli.output import read_bytes
from aqpolicy.errors import InputError, SignatureError, TrustError
from aqpolicy.trust import (
    Keyring,
    Retired,
    SigningKey,
    VerifyKey,
    add_signatures,
    parse_keyring,
    replace_file,
    sign_keyring,
    succeed,
)
from aqpolicy.trust.keyring_file import KEYRING_TYPE


@dataclass(frozen=True, slots=True)
class Change:
    """A keyring file, what it holds (None where it is new), and what it is to hold."""

    path: Path
    old: Keyring | None
    draft: Keyring
    signers: tuple[SigningKey, ...]

    @classmethod
    def of(cls, path: Path, old: Keyring | None, draft: Keyring, signers: Sequence[SigningKey]) -> Change:
        """Check all that can be checked before anything is written.

        Raises:
            InputError: A version waits for signatures already, the keyring would have ended, or the signers are none.
        """
        if draft.version:
            if next_of(path).exists():
                raise InputError(
                    f"`{next_of(path)}` waits for signatures; finish it with `aqpolicy keys sign`, or remove it"
                )
            if not signers:
                raise InputError("a keyring with root keys is changed by these: give --root FILE")
            if draft.expires < datetime.now(UTC).date().isoformat():
                raise InputError(f"the keyring ends on {draft.expires}; give --expires DATE")
            _refuse_others(signers, (*draft.keys("root"), *(() if old is None else old.keys("root"))))
        elif signers:
            raise InputError("nobody signs a keyring without root keys; leave out --root")
        return cls(path, old, draft, tuple(signers))

    def publish(self) -> None:
        """Write the keyring, or what waits for further signatures."""
        if self.draft.version:
            _settle(self.path, self.old, sign_keyring(self.draft, self.signers))
        else:
            self.draft.save(self.path)


def replaced(keyring: Keyring, old: VerifyKey, new: VerifyKey, bound: Retired) -> dict[str, tuple[VerifyKey, ...]]:
    """Return the roles with one key retired and another in its place; a root key is not retired but taken out."""
    roles = {}
    for role, keys in keyring.roles.items():
        others = [key for key in keys if key != old]
        past = [] if role == "root" else [VerifyKey(old.name, old.public, bound)]
        roles[role] = keys if old not in keys else (*others, new, *past)
    return roles


def next_of(path: Path) -> Path:
    """Return where the version waits that has too few signatures."""
    return path.with_name(path.name + ".next")


def cosign(path: Path, old: Keyring, signers: Sequence[SigningKey]) -> None:
    """Add signatures to the version that waits.

    Raises:
        InputError: None waits, or a signer is no root key.
        SignatureError: A signer has signed already.
        KeyFormatError: What waits is no keyring.
    """
    waits = next_of(path)
    if not waits.exists():
        raise InputError(
            f"no version of `{path}` waits for signatures; say what is to change: --threshold or --expires"
        )
    if not signers:
        raise InputError("give --root FILE, a private root key")
    data = add_signatures(read_bytes(str(waits)).removesuffix(b"\n"), KEYRING_TYPE, signers)
    _settle(path, old, data)


def waiting(path: Path, old: Keyring) -> Iterator[str]:
    """Yield what a version that waits still needs."""
    if next_of(path).exists():
        try:
            _accepted(old, read_bytes(str(next_of(path))))
        except TrustError as error:
            yield f"`{next_of(path)}` waits for signatures: {error}"


def _settle(path: Path, old: Keyring | None, data: bytes) -> None:
    try:
        new = _accepted(old, data)
    except SignatureError as error:
        replace_file(next_of(path), data + b"\n")
        print(f"`{next_of(path)}` waits for signatures: {error}")
        print(f"the next holder of a root key: `aqpolicy keys sign {path} --root FILE`")
    else:
        new.save(path)
        next_of(path).unlink(missing_ok=True)
        print(f"`{path}` is version {new.version}, until {new.expires}")


def _accepted(old: Keyring | None, data: bytes) -> Keyring:
    if old is None or not old.version:
        return parse_keyring(data)
    return succeed(old, data, datetime.now(UTC).date())


def _refuse_others(signers: Sequence[SigningKey], roots: Sequence[VerifyKey]) -> None:
    for signer in signers:
        if signer.verify_key not in roots:
            raise InputError(f"`{signer.verify_key.label}` is no root key of this keyring")
