"""Witnesses: carry a tentative candidate of a finished run to its execution, or abort it.

The candidate's digest stands in the run's signed log. Witnesses (keyring role
`witness`) sign a statement that names the log, the model and that digest; the
signatures lie beside the candidate. Whoever holds the log's key executes the
promotion: the signatures go into the log, then the candidate takes its name.

Nothing in the folder is trusted: the log is verified against the operator's
keyring, and the candidate against the log, before anything is signed or moved.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from aqpolicy.errors import CorruptLogError, InputError, LineageError, SignatureError
from aqpolicy.gate.records.promotion import EVENT, Stage, candidate_file, model_file, witness_file
from aqpolicy.lineage import LineageReader, LineageWriter, verify_log
from aqpolicy.trust import (
    Keyring,
    SigningKey,
    VerifyKey,
    add_signatures,
    canonical_json,
    digest_text,
    open_signed,
    replace_file,
    seal,
    sha256,
)

ROLE: Final = "witness"
"""The role under which a keyring lists the keys of witnesses."""

PAYLOAD_TYPE: Final = "application/vnd.aqpolicy.promotion+json;version=1"

_BEGINNINGS: Final = frozenset({"tentative", "refused", "executed"})
"""Stages that the training itself records."""

_ENDS: Final = frozenset({"refused", "executed", "aborted"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that waits for its promotion, as the log knows it."""

    run: Path
    origin: str
    """By what name the signed heads call the run's log."""
    name: str
    digest: str
    """As `sha256:` and hex."""
    stage: Stage
    witnesses: int
    """How many must sign."""
    entries: int
    """How many entries the log had when it was read."""

    @property
    def is_open(self) -> bool:
        """Whether it may still be executed or aborted."""
        return self.stage not in _ENDS

    @property
    def statement(self) -> bytes:
        """What a witness signs."""
        return canonical_json({"candidate": self.digest, "log": self.origin, "name": self.name})

    def data(self) -> bytes:
        """Return the candidate's bytes.

        Raises:
            CorruptLogError: They are not those whose digest is in the log.
            InputError: The file cannot be read.
        """
        path = self.run / candidate_file(self.name)
        data = _read(path)
        if digest_text(sha256(data)) != self.digest:
            raise CorruptLogError("the candidate is not the one whose digest is in the log", str(path))
        return data

    def signers(self, keyring: Keyring) -> tuple[VerifyKey, ...]:
        """Return the trusted witnesses who have signed this candidate.

        Raises:
            SignatureError: No trusted witness signed what lies there, a signature fails, or is of another candidate.
            CanonicalError: The file holds no such envelope.
        """
        return self._signers(self._signatures(), keyring)

    def sign(self, key: SigningKey, keyring: Keyring) -> None:
        """Sign the candidate and put the signature beside it.

        Raises:
            InputError: The key is no trusted witness's, or has signed already.
            LineageError: The promotion has ended.
            CorruptLogError: The candidate's bytes are not those in the log.
            SignatureError, CanonicalError: The signatures that lie there are not what they say; remove them.
        """
        self._refuse_ended()
        label = key.verify_key.label
        if key.verify_key not in keyring.keys(ROLE):
            raise InputError(f"`{label}` is not trusted as `{ROLE}`; list it in the keyring, or use another key")
        self.data()
        there, path = self._signatures(), self.run / witness_file(self.name)
        opened = open_signed(there, PAYLOAD_TYPE, keyring.keys(ROLE)) if there else None
        if opened is None or opened.payload != self.statement:  # none yet, or those of an earlier candidate
            replace_file(path, seal(PAYLOAD_TYPE, self.statement, [key]))
        elif key.verify_key in opened.signers:
            raise InputError(f"`{label}` has witnessed this candidate already")
        else:
            replace_file(path, add_signatures(there, PAYLOAD_TYPE, [key]))

    def execute(self, key: SigningKey, keyring: Keyring) -> Path:
        """Give the candidate its name, once enough witnesses have signed; return the path.

        Durability: the witnesses' signatures and the execution are in the signed log before the file has its name.

        Raises:
            SignatureError: Too few witnesses have signed, or a signature is not what it says.
            CanonicalError: The file with the signatures holds no such envelope.
            CorruptLogError: The candidate's bytes are not those in the log.
            LineageError: The promotion has ended, the key is not the log's, or the log has grown meanwhile.
        """
        self._refuse_ended()
        data, envelope = self.data(), self._signatures()
        signers = self._signers(envelope, keyring)
        needed = max(self.witnesses, keyring.threshold(ROLE))
        if len(signers) < needed:
            raise SignatureError(f"{len(signers)} of {needed} witnesses have signed; let others sign first")
        names = [signer.label for signer in signers]
        witnessed = self._event("witnessed", signed_by=names, envelope=envelope.decode("utf-8"))
        with _writing(self, key, keyring) as log:
            # A log that has grown since it was read may have aborted this candidate.
            if log.append_status(witnessed) != self.entries:
                raise LineageError("the log has grown since it was read; look at the candidate and try again")
            log.append_status(self._event("executed"))
        return self._take_name(data)

    def finish(self) -> Path | None:
        """Give an executed candidate its name where that was interrupted; return the path, or None where it has it."""
        if self.stage != "executed" or not (self.run / candidate_file(self.name)).exists():
            return None
        return self._take_name(self.data())

    def abort(self, key: SigningKey, keyring: Keyring) -> None:
        """Record that the candidate will never be executed; its file stays.

        Raises:
            LineageError: The promotion has ended, or the key is not the log's.
        """
        self._refuse_ended()
        with _writing(self, key, keyring) as log:
            log.append_status(self._event("aborted"))

    def _signatures(self) -> bytes:
        """Return the file with the signatures, read once; empty where there is none."""
        path = self.run / witness_file(self.name)
        return _read(path) if path.exists() else b""

    def _signers(self, envelope: bytes, keyring: Keyring) -> tuple[VerifyKey, ...]:
        if not envelope:
            return ()
        opened = open_signed(envelope, PAYLOAD_TYPE, keyring.keys(ROLE))
        if opened.payload != self.statement:
            raise SignatureError(
                f"`{witness_file(self.name)}` speaks of another candidate; let the witnesses sign again"
            )
        return opened.signers

    def _event(self, state: Stage, **more: Any) -> dict[str, Any]:
        told = {"event": EVENT, "state": state, "name": self.name, "candidate": self.digest}
        return {**told, **more, "time_s": int(time.time())}

    def _take_name(self, data: bytes) -> Path:
        # The bytes that were verified, not the file once more.
        path = self.run / model_file(self.name)
        replace_file(path, data)
        (self.run / candidate_file(self.name)).unlink(missing_ok=True)
        return path

    def _refuse_ended(self) -> None:
        if not self.is_open:
            raise LineageError(f"the promotion of `{self.name}` was {self.stage}; train again for another candidate")


def open_candidate(run: Path, keyring: Keyring, name: str) -> Candidate:
    """Verify the log of a run and return the newest candidate of a name.

    Trust:
        Everything in the folder is untrusted; the keyring is the caller's.

    Raises:
        CorruptLogError, ForkedLogError, SignatureError: The log is not what was signed.
        InputError: The log knows no candidate of that name.
        LineageError: There is no log, or it is being written.
    """
    entries = verify_log(run, keyring).entries
    model_file(name)  # refuses what cannot be a name
    with LineageReader(run, keyring) as reader:
        origin, found = str(reader.genesis["origin"]), _newest(reader.statuses, name)
    if found is None:
        raise InputError(f"the log of `{run}` tells of no candidate `{name}`; nothing waits to be promoted")
    return Candidate(
        run=run,
        origin=origin,
        name=name,
        digest=str(found["candidate"]),
        stage=cast("Stage", found["state"]),
        witnesses=int(found["witnesses"]),
        entries=entries,
    )


def _newest(statuses: Iterable[Mapping[str, Any]], name: str) -> dict[str, Any] | None:
    """Return the event that began the newest candidate of a name, with the stage that it has reached."""
    found: dict[str, Any] | None = None
    for event in statuses:
        if event.get("event") != EVENT or event.get("name") != name:
            continue
        if event.get("state") in _BEGINNINGS and "witnesses" in event:
            found = dict(event)
        elif found is not None and event.get("candidate") == found["candidate"] and found["state"] not in _ENDS:
            found["state"] = event.get("state")
    return found


@contextmanager
def _writing(candidate: Candidate, key: SigningKey, keyring: Keyring) -> Iterator[LineageWriter]:
    writer = LineageWriter.open_for_status(candidate.run, key, keyring)
    try:
        yield writer
    finally:
        writer.close()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error
