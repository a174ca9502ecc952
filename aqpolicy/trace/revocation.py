"""Revocations of a log, in the order of the log, and what each of them reaches.

Order is the log's index, not a clock. A revocation because the holder left or has
another credential reaches what comes after its entry; one because the credential
was stolen or wrong reaches everything, or everything from a given entry on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from aqpolicy.errors import TraceError
from aqpolicy.lineage import NO_INDEX, LineageReader
from aqpolicy.lineage.entry import MANIFEST, STATUS
from aqpolicy.provenance import Manifest
from aqpolicy.provenance.status import KINDS, RETROACTIVE, Kind, Refused

EVENT: Final = "revoked"


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revocation as the log has it."""

    credential: str
    kind: Kind
    reason: str
    entry: int
    """Its place in the log."""
    since: int
    """First entry of the log that it reaches."""
    time_s: int
    superseded_by: str = ""

    def reaches(self, entry: int) -> bool:
        """Return whether a use in an entry of the log is one that should not have been."""
        return entry >= self.since


@dataclass(frozen=True, slots=True)
class Misuse:
    """A step that used a credential within the reach of its revocation."""

    credential: str
    entry: int
    step: int
    revoked_at: int
    """Entry of the revocation."""
    is_retroactive: bool
    """Whether the revocation came after the step."""
    rows: int


def revocations(log: LineageReader) -> tuple[Revocation, ...]:
    """Return all revocations of a log, in its order.

    Trust:
        The log is verified; an entry that says less than it must is read as the strictest that it could be.
    """
    return tuple(_revocation(index, facts) for index, facts in log.facts(STATUS) if _is_revocation(facts))


def first_step_from(log: LineageReader, entry: int) -> int | None:
    """Return the first step whose entry is at or behind a place in the log; None where there is none."""
    return next((found.step for index, found in log.step_entries() if index >= entry), None)


def entry_of_step(log: LineageReader, step: int) -> int:
    """Return the place of a step in the log.

    Raises:
        TraceError: The log has no such step.
    """
    for index, found in log.step_entries():
        if found.step == step:
            return index
    raise TraceError(f"the log has no step {step}")


def misuses(log: LineageReader, manifest: Manifest) -> Iterator[Misuse]:
    """Yield every step that used a revoked credential within the revocation's reach, in order of the log.

    Args:
        log: The log, verified.
        manifest: The run's manifest, verified.
    """
    known = revocations(log)
    signed = {revocation.credential: _signed_by(manifest, revocation.credential) for revocation in known}
    for index, entry in log.step_entries():
        reaching = [revocation for revocation in known if revocation.reaches(index)]
        if not reaching:
            continue
        used = [row.manifest_index for row in log.block(entry).rows if row.manifest_index != NO_INDEX]
        for revocation in reaching:
            rows = sum(number in signed[revocation.credential] for number in used)
            if rows:
                late = revocation.entry > index
                yield Misuse(revocation.credential, index, entry.step, revocation.entry, late, rows)


def refusal(log: LineageReader, revocation: Revocation) -> Refused:
    """Return what a status list says of a revocation."""
    is_retroactive = revocation.kind in RETROACTIVE
    before = revocation.since if is_retroactive else 0
    roots = [str(facts.get("root", "")) for index, facts in log.facts(MANIFEST) if index < before]
    return Refused.of(
        credential=revocation.credential,
        kind=revocation.kind,
        reason=revocation.reason,
        from_s=0 if is_retroactive else revocation.time_s,
        known_roots=tuple(sorted({root.removeprefix("sha256:") for root in roots})),
        log=str(log.genesis["origin"]),
        entry=revocation.entry,
    )


def _is_revocation(facts: Mapping[str, Any]) -> bool:
    return facts.get("event") == EVENT and isinstance(facts.get("credential"), str)


def _revocation(index: int, facts: Mapping[str, Any]) -> Revocation:
    kind = facts.get("kind")
    kind = cast("Kind", kind) if kind in KINDS else "compromised"
    since = _count(facts.get("since_entry")) if kind in RETROACTIVE else index + 1
    return Revocation(
        credential=facts["credential"],
        kind=kind,
        reason=str(facts.get("reason", ""))[:1000],
        entry=index,
        since=since,
        time_s=_count(facts.get("time_s")),
        superseded_by=str(facts.get("superseded_by", "")),
    )


def _count(value: object) -> int:
    """Return a number of a signed entry; 0, the strictest, for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _signed_by(manifest: Manifest, credential: str) -> frozenset[int]:
    if credential not in manifest.credentials:
        return frozenset()
    return frozenset(index for index in range(manifest.size) if manifest.observation(index).credential == credential)
