"""Ed25519 keys with names, in the text forms of signed notes; the only module that imports nacl.

It does not decide which key may sign what; `keyring` does. Signatures are
accepted exactly where libsodium accepts them, and public keys that libsodium
would refuse at verification are refused when they are read. Nothing secret is in
a `repr`, in a message, or in a local variable of a frame that raises: tracebacks
travel further than key files.

Source:
    C2SP signed-note, "Ed25519 signatures"; golang.org/x/mod/sumdb/note for the private form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nacl.bindings import crypto_core_ed25519_add, crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import CryptoError
from nacl.utils import random

from aqpolicy.errors import CanonicalError, InputError, KeyFormatError, SignatureError
from aqpolicy.trust.base64text import decode_base64, encode_base64
from aqpolicy.trust.canonical import canonical_json
from aqpolicy.trust.digest import sha256
from aqpolicy.trust.durable import write_new

SIGNATURE_BYTES: Final = 64
_ED25519: Final = b"\x01"
_NAME: Final = re.compile(r"[!-*,-~]{1,128}", re.ASCII)
_PUBLIC: Final = re.compile(r"([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)", re.ASCII)
PRIVATE_PREFIX: Final = "PRIVATE+KEY+"
"""How the text of a private key begins."""
_SEED_LENGTH: Final = "the seed of a private key has 32 bytes"
_IDENTITY: Final = b"\x01" + bytes(31)


@dataclass(frozen=True, slots=True)
class Retired:
    """Up to where the signatures of a key that was rotated still count; without a bound, nowhere."""

    until: str = ""
    """Last date, `YYYY-MM-DD`, of the dated statements that count; empty for none."""
    logs: tuple[tuple[str, int], ...] = ()
    """Origin of a log, and how many of its entries the key's signatures reach."""

    def covers(self, origin: str, size: int) -> bool:
        """Return whether a head of a log is within the bound."""
        return any(known == origin and 0 <= size <= bound for known, bound in self.logs)


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A named public key.

    Raises:
        KeyFormatError: The name is not ASCII without spaces and `+`, or the
            bytes are no point that a signature could be trusted under.
    """

    name: str
    public: bytes = field(repr=False)
    retired: Retired | None = None
    """Set in a keyring where the key was rotated; such a key verifies nothing until its bound was looked at."""

    def __post_init__(self) -> None:
        """Refuse what could never verify anything."""
        _check_name(self.name)
        _check_point(self.public)

    @classmethod
    def parse(cls, text: str) -> VerifyKey:
        """Read the form `name+hash+base64`.

        Trust:
            text is untrusted.

        Raises:
            KeyFormatError: The text is no such key.
        """
        name, hash_text, public = _parse_parts(text, "public key")
        key = cls(name, public)
        _check_hash(key, hash_text)
        return key

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that tell keys of one name apart."""
        return sha256(self.name.encode("ascii") + b"\n" + _ED25519 + self.public)[:4]

    @property
    def label(self) -> str:
        """Name and key id, `name+hash`: how signatures refer to this key."""
        return f"{self.name}+{self.key_id.hex()}"

    @property
    def text(self) -> str:
        """The form that `parse` reads."""
        return f"{self.label}+{encode_base64(_ED25519 + self.public)}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical key without its name, in hex: the key id of The Update Framework."""
        key = {"keytype": "ed25519", "keyval": {"public": self.public.hex()}, "scheme": "ed25519"}
        return sha256(canonical_json(key)).hex()

    @property
    def restored(self) -> VerifyKey:
        """The same key without its bound, for whoever has looked at the bound."""
        return self if self.retired is None else VerifyKey(self.name, self.public)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if the signature is this key's over the message.

        Raises:
            SignatureError: It is not, or the key is retired.
        """
        if self.retired is not None:
            raise SignatureError(f"the key `{self.label}` is retired and counts only within its bound")
        if len(signature) != SIGNATURE_BYTES:
            raise SignatureError(f"a signature said to be by `{self.label}` has the wrong length")
        try:
            crypto_sign_open(signature + message, self.public)
        except CryptoError as error:
            raise SignatureError(f"a signature said to be by `{self.label}` is not; the bytes were altered") from error


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A named private key. Its text never appears in `repr`, messages or logs."""

    name: str
    _secret: bytes = field(repr=False)
    """Seed and public key, as libsodium wants them."""

    @classmethod
    def generate(cls, name: str) -> SigningKey:
        """Make a new key from the system's randomness.

        Raises:
            KeyFormatError: The name is not ASCII without spaces and `+`.
        """
        _check_name(name)
        return cls.from_seed(name, random(32))

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> SigningKey:
        """Make the key of a 32-byte seed.

        Raises:
            KeyFormatError: The name or the seed's length is wrong.
        """
        key = _try_seed(name, seed)
        del seed
        return _or_raise(key)

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Read the form `PRIVATE+KEY+name+hash+base64`; errors never quote the text.

        Raises:
            KeyFormatError: The text is no such key.
        """
        key = _try_parse(text)
        del text
        return _or_raise(key)

    @property
    def verify_key(self) -> VerifyKey:
        """The public half."""
        return VerifyKey(self.name, self._secret[32:])

    @property
    def private_text(self) -> str:
        """The secret form that `parse` reads."""
        return f"{PRIVATE_PREFIX}{self.verify_key.label}+{encode_base64(_ED25519 + self._secret[:32])}"

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over a message."""
        return crypto_sign(message, self._secret)[:SIGNATURE_BYTES]

    def save(self, path: Path | str) -> None:
        """Write the key to a new file that only its owner can read.

        Raises:
            InputError: A file is there already, or it cannot be written.
        """
        problem = ""
        try:
            write_new(Path(path), f"{self.private_text}\n".encode("ascii"), mode=0o600)
        except InputError as error:
            problem = str(error)  # the frames behind the error hold the text
        if problem:
            raise InputError(problem)


def _try_parse(text: str) -> SigningKey | str:
    """Return the key, or what is wrong: an error from here would carry frames that hold the text."""
    if not text.startswith(PRIVATE_PREFIX):
        return "this is not a private key; it would start with `PRIVATE+KEY+`"
    try:
        name, hash_text, seed = _parse_parts(text.removeprefix(PRIVATE_PREFIX), "private key")
        key = SigningKey.from_seed(name, seed)
        _check_hash(key.verify_key, hash_text)
    except KeyFormatError as error:
        return str(error)
    return key


def _try_seed(name: str, seed: bytes) -> SigningKey | str:
    try:
        _check_name(name)
    except KeyFormatError as error:
        return str(error)
    return SigningKey(name, crypto_sign_seed_keypair(seed)[1]) if len(seed) == 32 else _SEED_LENGTH


def _or_raise(key: SigningKey | str) -> SigningKey:
    if isinstance(key, str):
        raise KeyFormatError(key)
    return key


def _parse_parts(text: str, what: str) -> tuple[str, str, bytes]:
    match = _PUBLIC.fullmatch(text)
    if match is None:
        raise KeyFormatError(f"a {what} has the form `name+hash+base64`; this text does not")
    try:
        data = decode_base64(match[3])
    except CanonicalError as error:
        raise KeyFormatError(f"the base64 part of a {what} cannot be read") from error
    if data[:1] != _ED25519 or len(data) != 33:
        raise KeyFormatError(f"a {what} is of a kind other than Ed25519")
    return match[1], match[2], data[1:]


def _check_hash(key: VerifyKey, hash_text: str) -> None:
    if key.key_id.hex() != hash_text:
        raise KeyFormatError(f"the hash of the key named `{key.name}` does not match its bytes")


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise KeyFormatError("a key's name is 1 to 128 ASCII characters without spaces and `+`")


def _check_point(public: bytes) -> None:
    """Refuse encodings that are not canonical, not on the curve, or of small order."""
    if len(public) != 32:
        raise KeyFormatError("a public key has 32 bytes")
    try:
        # Adding the identity writes the point back in its canonical encoding.
        canonical = crypto_core_ed25519_add(public, _IDENTITY)
        doubled = crypto_core_ed25519_add(public, public)
        eightfold = doubled
        for _ in range(2):
            eightfold = crypto_core_ed25519_add(eightfold, eightfold)
    except CryptoError as error:
        raise KeyFormatError("a public key is not a point of the curve") from error
    if canonical != public or eightfold == _IDENTITY:
        raise KeyFormatError("a public key is of small order or not canonical; anyone could sign for it")
