"""Read keyrings, and let each version vouch for the next.

Root keys sign a new version as The Update Framework wants it: its number is one
more, as many root keys of the old version as that asks for have signed it, and
as many of its own. Whoever knows one version can so come to know the newest,
from whomever the files are.

Source:
    The Update Framework, specification 1.0.34, 5.3 "Update the root role".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Final

from aqpolicy.errors import CanonicalError, InputError, KeyFormatError, SignatureError
from aqpolicy.trust.canonical import canonical_json, parse_canonical
from aqpolicy.trust.envelope import open_signed, peek, seal
from aqpolicy.trust.keyring import Keyring, by_role, entries_of, is_date
from aqpolicy.trust.keys import Retired, SigningKey, VerifyKey

KEYRING_TYPE: Final = "application/vnd.aqpolicy.keyring+json;version=1"
_FORMAT: Final = "aqpolicy keyring 1"
_LARGEST_FILE: Final = 256 * 1024
_MOST_KEYS: Final = 512
_MOST_VERSIONS: Final = 1024
_LARGEST_SIZE: Final = 2**53 - 1


def sign_keyring(draft: Keyring, signers: Sequence[SigningKey]) -> bytes:
    """Return the envelope of a version that is not signed yet; others may have to sign it too (`add_signatures`).

    Raises:
        KeyFormatError: The keyring has no version, or is signed already.
        SignatureError: There is no signer, there are too many, or one is named twice.
    """
    if not draft.version or draft.signed:
        raise KeyFormatError("only a new version of a keyring with root keys is signed")
    facts = {
        "expires": draft.expires,
        "format": _FORMAT,
        "keys": entries_of(draft.roles),
        "thresholds": dict(draft.thresholds),
        "version": draft.version,
    }
    return seal(KEYRING_TYPE, canonical_json(facts), signers)


def parse_keyring(data: bytes) -> Keyring:
    """Read a keyring from the bytes of its file.

    That a signed keyring is signed by its own root keys says that it is whole, not that these are to be trusted: the
    caller has it from the operator, or asks `succeed`.

    Raises:
        KeyFormatError: The bytes are no keyring, or it is empty.
        SignatureError: Too few of its own root keys signed it.
    """
    value, plain = _read(data)
    if set(value) == {"keys"}:
        return Keyring.of(_entries(value["keys"]))
    keyring = _parse_signed(plain)
    open_signed(plain, KEYRING_TYPE, keyring.keys("root"), keyring.threshold("root"))
    return keyring


def load_keyring(path: Path | str) -> Keyring:
    """Read a keyring file.

    Raises:
        InputError: The file cannot be read.
        KeyFormatError: It holds no keyring, or an empty one.
        SignatureError: Too few of its own root keys signed it.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"cannot read the keyring `{path}`: {error.strerror}") from error
    return parse_keyring(data)


def succeed(old: Keyring, data: bytes, today: date) -> Keyring:
    """Return the version that follows on one that is trusted.

    Trust:
        data is untrusted.

    Raises:
        KeyFormatError: The bytes are no keyring.
        SignatureError: Too few root keys of the old or of the new version signed it, its number is not one more, or
            its last day is over.
    """
    new = _succeed(old, data)
    new.refuse_expired(today)
    return new


def follow(old: Keyring, versions: Sequence[bytes], today: date) -> Keyring:
    """Return the newest of several versions, each of which follows on the one before; only its end counts.

    Raises:
        KeyFormatError: One is no keyring, or there are too many.
        SignatureError: One does not follow on the one before, or the last day of the newest is over.
    """
    if len(versions) > _MOST_VERSIONS:
        raise KeyFormatError(f"at most {_MOST_VERSIONS} versions of a keyring are followed at once")
    newest = old
    for data in versions:
        newest = _succeed(newest, data)
    newest.refuse_expired(today)
    return newest


def _succeed(old: Keyring, data: bytes) -> Keyring:
    if not old.version:
        raise SignatureError("the keyring in force has no root keys that could vouch for another; give the new one")
    _, plain = _read(data)
    try:
        open_signed(plain, KEYRING_TYPE, old.keys("root"), old.threshold("root"))
    except CanonicalError as error:
        raise KeyFormatError(f"this is no signed keyring: {error}") from error
    except SignatureError as error:
        raise SignatureError(f"the keyring in force does not vouch for this one: {error}") from error
    new = parse_keyring(data)
    if new.version != old.version + 1:
        raise SignatureError(f"version {new.version} of the keyring does not follow on version {old.version}")
    return new


def _read(data: bytes) -> tuple[dict[str, object], bytes]:
    """Return the object in a file, and the file without its line end."""
    if len(data) > _LARGEST_FILE:
        raise KeyFormatError("the keyring is too large")
    plain = data.removesuffix(b"\n")
    try:
        value = parse_canonical(plain)
    except CanonicalError as error:
        raise KeyFormatError(f"the keyring is not canonical JSON: {error}") from error
    if not isinstance(value, dict):
        raise KeyFormatError('a keyring has the form `{"keys":[...]}`, or is an envelope of one')
    return value, plain


def _parse_signed(envelope: bytes) -> Keyring:
    """Return what a signed keyring says, on nobody's word yet."""
    try:
        facts = parse_canonical(peek(envelope, KEYRING_TYPE).payload)
    except CanonicalError as error:
        raise KeyFormatError(f'a keyring has the form `{{"keys":[...]}}`, or is an envelope of one: {error}') from error
    if not isinstance(facts, dict) or set(facts) != {"expires", "format", "keys", "thresholds", "version"}:
        raise KeyFormatError("a signed keyring has `expires`, `format`, `keys`, `thresholds` and `version`")
    version, expires, thresholds = facts["version"], facts["expires"], facts["thresholds"]
    if facts["format"] != _FORMAT or not _is_count(version) or not isinstance(expires, str):
        raise KeyFormatError("the signed keyring is not one of this version")
    if not isinstance(thresholds, dict) or not all(map(_is_count, thresholds.values())):
        raise KeyFormatError("the thresholds of a keyring are numbers by role")
    return Keyring(by_role(_entries(facts["keys"])), version, expires, thresholds, envelope)


def _entries(items: object) -> list[tuple[str, VerifyKey]]:
    if not isinstance(items, list):
        raise KeyFormatError("the `keys` of a keyring are a list")
    if len(items) > _MOST_KEYS:
        raise KeyFormatError(f"a keyring lists at most {_MOST_KEYS} keys")
    return [_entry(item) for item in items]


def _entry(item: object) -> tuple[str, VerifyKey]:
    if not isinstance(item, dict) or set(item) - {"retired"} != {"key", "role"}:
        raise KeyFormatError("an entry of the keyring has `key`, `role` and perhaps `retired`, nothing else")
    role, text = item["role"], item["key"]
    if not isinstance(role, str) or not isinstance(text, str):
        raise KeyFormatError("`key` and `role` of a keyring entry are texts")
    key = VerifyKey.parse(text)
    return role, replace(key, retired=_retired(item["retired"])) if "retired" in item else key


def _retired(value: object) -> Retired:
    if not isinstance(value, dict) or set(value) != {"logs", "until"}:
        raise KeyFormatError("`retired` of a keyring entry has `logs` and `until`, nothing else")
    until, logs = value["until"], value["logs"]
    if not isinstance(until, str) or not (until == "" or is_date(until)) or not isinstance(logs, list):
        raise KeyFormatError("`until` of a retired key is a date, `logs` a list")
    return Retired(until, tuple(map(_bound, logs)))


def _bound(value: object) -> tuple[str, int]:
    if not isinstance(value, dict) or set(value) != {"log", "size"}:
        raise KeyFormatError("a bound of a retired key has `log` and `size`, nothing else")
    origin, size = value["log"], value["size"]
    if not isinstance(origin, str) or not 0 < len(origin) <= 256 or not _is_count(size):
        raise KeyFormatError("a bound of a retired key names a log and a number of entries")
    return origin, size


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST_SIZE
