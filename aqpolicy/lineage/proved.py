"""Check the proof of a row with public keys alone, and say what it proves.

No run, no network. What a proof leaves open is named too (`ProvedRow`): a head
says nothing of what was logged behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from aqpolicy.errors import CorruptLogError, ProofError, SignatureError
from aqpolicy.lineage.attempts import Resumption
from aqpolicy.lineage.entry import GENESIS, RESUME, STEP, StepEntry, decode_entry, decode_step
from aqpolicy.lineage.genesis import layout_of, origin_of, parse_genesis
from aqpolicy.lineage.leaf import decode_row
from aqpolicy.lineage.proof import WITNESSES, LoggedEntry, RowProof, attempt_of, decode_row_proof
from aqpolicy.lineage.record import NORMS, Layout, Row
from aqpolicy.trust import (
    Checkpoint,
    VerifyKey,
    example_key,
    leaf_hash,
    open_checkpoint,
    verify_inclusion,
)

_HEADS_REMEMBERED: Final = 16
_STEPS_REMEMBERED: Final = 64


@dataclass(frozen=True, slots=True)
class Names:
    """What the numbers in rows stand for: positions in these."""

    groups: tuple[str, ...]
    budgets: tuple[str, ...]
    phases: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProvedRow:
    """One row, and the signed head under which it was logged."""

    head: Checkpoint
    signers: tuple[VerifyKey, ...]
    """Trusted keys that signed the head."""
    names: Names
    index: int
    """Of the step's entry in the log."""
    entry: StepEntry
    rank: int
    position: int
    row: Row
    example: str = ""
    """Id of the example, compared with the row's key; empty where the proof does not name it."""
    stands_until: int | None = None
    """Index of a later step before which no attempt took this one's place; None where that is not shown."""
    superseded_by: int | None = None
    """Number of the attempt that took the step's place; None where none is shown to have done so."""


@dataclass(frozen=True, slots=True)
class _ProvedStep:
    """What all rows of one step have in common."""

    head: Checkpoint
    signers: tuple[VerifyKey, ...]
    names: Names
    layouts: tuple[Layout, ...]
    index: int
    entry: StepEntry
    stands_until: int | None
    superseded_by: int | None


class Checker:
    """Checks proofs with the keys of the log.

    It remembers the heads, first entries and steps that it saw last, so many rows of one step cost little each.
    """

    def __init__(
        self,
        trusted: Sequence[VerifyKey],
        head: Checkpoint | None = None,
        policies: Mapping[bytes, Names] | None = None,
    ) -> None:
        """Trust these keys.

        Args:
            trusted: Keys that may sign the head of a log.
            head: A head that is known from elsewhere; proofs under another one are refused.
            policies: What bundles say of the names, by their digests; short proofs are read with it.
        """
        self._trusted, self._known, self._policies = tuple(trusted), head, policies or {}
        self._head = lru_cache(_HEADS_REMEMBERED)(self._open_head)
        self._log = lru_cache(_HEADS_REMEMBERED)(self._open_log)
        self._step = lru_cache(_STEPS_REMEMBERED)(self._open_step)
        self._entry = lru_cache(_STEPS_REMEMBERED)(_opened)

    def check_file(self, data: bytes) -> ProvedRow:
        """Check the bytes of a proof's file; see `check`.

        Raises:
            CanonicalError: The bytes are not the one encoding of a proof.
        """
        return self.check(decode_row_proof(data))

    def check(self, proof: RowProof) -> ProvedRow:
        """Return what the proof proves; its label is not looked at.

        Trust:
            proof is untrusted.

        Raises:
            SignatureError: No trusted key signed the head.
            CanonicalError: The head is not a checkpoint.
            ProofError: A hash does not lead to the signed root, or the head is another one than expected.
            CorruptLogError: What was signed is no row of this version.
            LineageError: It is of a log of another version.
        """
        step = self._step(proof.note, proof.genesis, proof.step, proof.later)
        return ProvedRow(
            head=step.head,
            signers=step.signers,
            names=step.names,
            index=step.index,
            entry=step.entry,
            rank=proof.rank,
            position=proof.position,
            row=_row(proof, step.entry, step.layouts),
            example=proof.example,
            stands_until=step.stands_until,
            superseded_by=step.superseded_by,
        )

    def _open_step(
        self, note: bytes, genesis: LoggedEntry | None, logged: LoggedEntry, later: tuple[LoggedEntry, ...]
    ) -> _ProvedStep:
        head, signers = self._head(note)
        _, payload = self._entry(logged, head, STEP)
        entry = decode_step(payload)
        if head.origin != origin_of(entry.run_id.hex()):
            raise ProofError("the head is that of another log than the step")
        names, layouts = self._short(entry) if genesis is None else self._log(head, genesis)
        standing = self._standing(logged, entry, later, head)
        return _ProvedStep(head, signers, names, layouts, logged.index, entry, *standing)

    def _open_head(self, note: bytes) -> tuple[Checkpoint, tuple[VerifyKey, ...]]:
        head = open_checkpoint(note, self._trusted)
        if self._known is not None and head != self._known:
            raise ProofError(
                f"the proof is under the head of size {head.size}, not under the one that was given, of size "
                f"{self._known.size}; make it with `aqpolicy log prove --head`"
            )
        return head, tuple(key for key in self._trusted if _signed(note, key))

    def _open_log(self, head: Checkpoint, logged: LoggedEntry) -> tuple[Names, tuple[Layout, ...]]:
        if logged.index:
            raise ProofError("the first entry of the proof is not the first one of a log")
        self._entry(logged, head, GENESIS)
        genesis = parse_genesis(logged.data)
        if genesis["origin"] != head.origin:
            raise ProofError("the head is that of another log than the first entry")
        names = Names(*(tuple(genesis[what]) for what in ("groups", "budgets", "phases", "stages")))
        return names, (layout_of(genesis),)

    def _short(self, entry: StepEntry) -> tuple[Names, tuple[Layout, ...]]:
        """Return what the bundle of a step says; the length of a row tells how long its norms are."""
        names = self._policies.get(entry.bundle)
        if names is None:
            raise ProofError(
                f"a short proof is read with the bundle that decided its step, sha256:{entry.bundle.hex()}: give that "
                "one (--bundle), or have the proof made without --short"
            )
        return names, tuple(Layout(len(names.groups), len(names.budgets), norms=norms) for norms in NORMS)

    def _standing(
        self, logged: LoggedEntry, entry: StepEntry, later: Sequence[LoggedEntry], head: Checkpoint
    ) -> tuple[int | None, int | None]:
        """Return until where a step is shown to stand, and the attempt that is shown to have superseded it."""
        attempt, last = entry.attempt, logged.index
        for number, found in enumerate(later, start=1):
            if found.index <= last:
                raise ProofError("the later entries of the proof are not in order")
            last, is_last = found.index, number == len(later)
            kind, payload = self._entry(found, head, RESUME, *WITNESSES)
            if kind != RESUME:
                if is_last and attempt_of(kind, payload) == attempt:
                    return last, None
                break
            resumption = Resumption.of(payload)
            if resumption.from_step <= entry.step:
                if len(later) == 1 and resumption.attempt > attempt:
                    return None, resumption.attempt
                break
            if resumption.attempt != attempt + 1:
                break
            attempt += 1
        if later:
            raise ProofError("the later entries of the proof do not show whether the step counts")
        return None, None


def _signed(note: bytes, key: VerifyKey) -> bool:
    """Return whether the key is one of those that signed a note, of which no trusted signature fails."""
    try:
        open_checkpoint(note, (key,))
    except SignatureError:
        return False
    return True


def _opened(logged: LoggedEntry, head: Checkpoint, *kinds: int) -> tuple[int, bytes]:
    """Return kind and payload of an entry that lies under the head and is of one of the kinds."""
    verify_inclusion(logged.index, head.size, leaf_hash(logged.data), logged.path, head.root)
    kind, payload = decode_entry(logged.data)
    if kind not in kinds:
        raise ProofError(f"entry {logged.index} of the log is not of the kind that the proof needs")
    return kind, payload


def _row(proof: RowProof, entry: StepEntry, layouts: Sequence[Layout]) -> Row:
    if proof.rank >= len(entry.ranks):
        raise ProofError(f"step {entry.step} has no rank {proof.rank}")
    rank = entry.ranks[proof.rank]
    if proof.position >= rank.rows:
        raise ProofError(f"rank {proof.rank} of step {entry.step} has no row {proof.position}")
    leaves = rank.rows + (proof.rank == 0)  # the book is the last leaf of rank 0
    verify_inclusion(proof.position, leaves, leaf_hash(proof.leaf), proof.inner_path, rank.inner_root)
    row = _decoded(proof.leaf, layouts)
    if rank.cells != rank.rows * len(row.norms):
        raise ProofError("the row has other depth groups than the step")
    if proof.example and example_key(proof.example) != row.example_key:
        raise ProofError("the row is that of another example than the proof names")
    return row


def _decoded(leaf: bytes, layouts: Sequence[Layout]) -> Row:
    """Return the row of a leaf by the one layout that it can be read with."""
    rows, problem = [], CorruptLogError("the row has no layout")
    for layout in layouts:
        try:
            rows.append(decode_row(leaf, layout))
        except CorruptLogError as error:
            problem = error
    if not rows:
        raise problem
    if len(rows) > 1:
        raise ProofError("the row can be read in two ways; only a proof that is not short tells which one holds")
    return rows[0]
