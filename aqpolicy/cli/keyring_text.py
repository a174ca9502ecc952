"""A key, or a keyring, as lines for a terminal: who is trusted for what, until when, by which fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from aqpolicy.trust import APART, PURPOSES, Keyring, VerifyKey


def key_lines(key: VerifyKey) -> Iterator[str]:
    """Yield a public key and the two ways to name it."""
    yield key.text
    yield f"key id {key.key_id.hex()}"
    yield f"sha256 {key.fingerprint}"


def keyring_lines(keyring: Keyring, today: date) -> Iterator[str]:
    """Yield a keyring, role by role."""
    if keyring.version:
        yield f"version {keyring.version}, signed by its root keys, until {keyring.expires}"
    else:
        yield "not signed: the word of whoever gave it to you"
    if notice := keyring.notice(today):
        yield f"warning: {notice}"
    for role, keys in sorted(keyring.roles.items()):
        count = sum(key.retired is None for key in keys)
        must = f", {keyring.threshold(role)} of {count} must sign" if keyring.threshold(role) > 1 else ""
        yield f"{role}: {PURPOSES.get(role, 'nothing that aqpolicy asks for')}{must}"
        for key in keys:
            yield f"  {key.label}"
            yield f"    sha256 {key.fingerprint}"
            yield from _bound_lines(key)
    yield from _shared_lines(keyring)


def _bound_lines(key: VerifyKey) -> Iterator[str]:
    if key.retired is None:
        return
    until = f"; what is dated up to {key.retired.until} counts" if key.retired.until else "; no date counts"
    yield f"    retired{until}"
    for origin, size in key.retired.logs:
        yield f"    counts for the first {size} entries of {ascii(origin)[1:-1]}"


def _shared_lines(keyring: Keyring) -> Iterator[str]:
    """Yield a warning for every key of an unsigned keyring whose roles would be apart in a signed one."""
    held: dict[bytes, list[str]] = {}
    for role, keys in sorted(keyring.roles.items()):
        for key in keys:
            held.setdefault(key.public, []).append(role)
    for roles in held.values():
        if len(roles) > 1 and APART & set(roles):
            yield f"warning: one key is {' and '.join(roles)}; a signed keyring keeps these apart"
