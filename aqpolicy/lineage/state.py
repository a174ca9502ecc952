"""What the writer needs to go on with a log, signed and written with every group, so that no opening reads the log.

It says nothing that the entries do not say; whoever verifies the whole log does
without it (`verify`). Its signature is of a type of its own, so it can pass for no
head, and it names the size of the log that it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

from aqpolicy.errors import CanonicalError, CorruptLogError, SignatureError
from aqpolicy.trust import Keyring, SigningKey, canonical_json, open_envelope, parse_canonical, seal

STATE_KEY: Final = b"state"
STATE_TYPE: Final = "application/vnd.aqpolicy.log-state+json;version=3"

_MOST: Final = 1 << 53


@dataclass(frozen=True, slots=True)
class State:
    """A log after its last group."""

    size: int
    """Entries."""
    group: bytes
    """The frontier of the entries before the last group (`trust.Frontier.to_bytes`)."""
    tally: bytes
    """What the steps that count add up to (`Tally.to_bytes`)."""
    step: int
    """Number of the next step."""
    attempt: int
    last_step: int
    """Index of the last STEP entry, -1 where there is none."""
    bundle: bytes
    """Digest of the bundle in force."""
    manifest_root: bytes
    """Root of the manifest in force."""
    keyring: int
    """Version of the keyring that was logged last, -1 where none was."""
    sealed: int
    """Index of the first entry behind the last seal."""
    unsealed: int
    """STEP entries from there on."""
    steps: int
    """STEP entries of all attempts."""
    rows: int
    """Rows of all attempts."""
    ended: bool

    def signed(self, signer: SigningKey) -> bytes:
        """Return the state as it is written."""
        facts = {name: getattr(self, name) for name in self.__slots__}
        return seal(STATE_TYPE, canonical_json({name: _plain(value) for name, value in facts.items()}), [signer])

    @classmethod
    def opened(cls, data: bytes | None, keyring: Keyring) -> Self:
        """Read what `signed` wrote.

        Trust:
            data is untrusted.

        Raises:
            CorruptLogError: There is none, or it says something else.
            SignatureError: No trusted log key signed it.
        """
        try:
            facts = parse_canonical(open_envelope(data or b"", STATE_TYPE, keyring.keys("log")))
            return cls(**_read(facts, cls.__slots__))
        except SignatureError:
            raise
        except (CanonicalError, ValueError, TypeError) as error:
            raise CorruptLogError(f"the log does not say how it is to be gone on with: {error}", "meta") from error


_BYTES: Final = frozenset({"group", "tally", "bundle", "manifest_root"})


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _read(facts: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(facts, dict) or set(facts) != set(names):
        raise ValueError("it has other fields")
    for name in names:
        kind = str if name in _BYTES else bool if name == "ended" else int
        if type(facts[name]) is not kind or (kind is int and not -1 <= facts[name] < _MOST):
            raise ValueError(f"`{name}` is no value that it can have")
    return {name: bytes.fromhex(value) if name in _BYTES else value for name, value in facts.items()}
