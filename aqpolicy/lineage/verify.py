"""Check a whole log: every byte that was signed, and where the first changed one lies.

What it does not do: judge whether the gate obeyed the policy; `trace.audit`
derives every decision again. What it relies on: the keyring given by the caller.

The steps:
1. the store is walked in a process of its own, since a damaged one can crash its reader;
2. the head is signed by a trusted log key;
3. every head that the log kept is signed, and is the root of the entries below it;
4. entries beyond the last head are refused: nobody signed them;
5. every step's rows have the root that its entry commits to; step numbers have no gap.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aqpolicy.errors import CorruptLogError, ForkedLogError, TrustError
from aqpolicy.lineage.entry import END, STEP, StepEntry, decode_entry, decode_step
from aqpolicy.lineage.reader import LineageReader
from aqpolicy.lineage.record import RawBlock, decode_block
from aqpolicy.trust import Checkpoint, Frontier, Keyring, leaf_hash, open_checkpoint

Progress = Callable[[int, int], None]
"""Called with the steps checked and the steps there are."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a clean log holds."""

    checkpoint: Checkpoint
    entries: int
    steps: int
    rows: int
    heads: int
    ended: bool


def verify_log(run: Path | str, keyring: Keyring, progress: Progress | None = None) -> VerifyReport:
    """Check the log of a run and say what it holds.

    Raises:
        CorruptLogError: Something is not what was signed; `where` locates it.
        ForkedLogError: The log is shorter than its head, or contradicts it.
        SignatureError: The head is not signed by a trusted log key.
        LineageError: There is no log.
    """
    run = Path(run)
    if (run / "lineage" / "data.mdb").is_file():
        _walk_apart(run / "lineage")
    with LineageReader(run, keyring) as reader:
        entries = [data for _, data in reader.raw_entries()]
        heads = _check_heads(reader, entries, keyring)
        steps = [decode_step(payload) for kind, payload in map(_decoded, enumerate(entries)) if kind == STEP]
        for number, entry in enumerate(steps):
            if entry.step != number:
                raise CorruptLogError(f"step {number} is missing", f"step {number}")
            _check_step(reader, entry)
            if progress is not None:
                progress(number + 1, len(steps))
        ended = bool(entries) and any(_decoded((0, data))[0] == END for data in entries)
        return VerifyReport(
            reader.checkpoint, len(entries), len(steps), sum(entry.rows for entry in steps), heads, ended
        )


def _walk_apart(folder: Path) -> None:
    # Step 1.
    command = [sys.executable, "-m", "aqpolicy.lineage.walk", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    if done.returncode:
        said = done.stderr.strip().splitlines()
        detail = said[-1] if done.returncode == 1 and said else "its pages do not hang together"
        raise CorruptLogError(f"the store is damaged: {detail}", "data.mdb")


def _decoded(numbered: tuple[int, bytes]) -> tuple[int, bytes]:
    index, data = numbered
    try:
        return decode_entry(data)
    except CorruptLogError as error:
        raise CorruptLogError(error.problem, f"entry {index}") from error


def _check_heads(reader: LineageReader, entries: list[bytes], keyring: Keyring) -> int:
    """Compare every signed head with the entries; steps 2 to 4."""
    if len(entries) < reader.checkpoint.size:
        raise ForkedLogError(
            f"the log holds {len(entries)} entries, its signed head {reader.checkpoint.size}: it was cut or rolled back"
        )
    kept: dict[int, Checkpoint] = {}
    for note in (*reader.heads(), reader.note):
        try:
            head = open_checkpoint(note, keyring.keys("log"))
        except TrustError as error:
            raise CorruptLogError(f"a signed head is damaged: {error}", f"head {len(kept)}") from error
        if kept.setdefault(head.size, head) != head:
            raise ForkedLogError(f"two signed heads of size {head.size} contradict each other")
    frontier, before = Frontier(), 0
    for size, data in enumerate(entries, start=1):
        frontier.append(leaf_hash(data))
        if size in kept:
            if frontier.root() != kept[size].root:
                raise CorruptLogError(*_blame(reader, entries, before, size))
            before = size
    if before < len(entries) or max(kept) > len(entries):
        raise CorruptLogError("entries lie outside the last signed head", f"entry {before}")
    return len(kept)


def _blame(reader: LineageReader, entries: list[bytes], before: int, size: int) -> tuple[str, str]:
    """Say which entry between two heads changed, where the blocks can tell."""
    for index in range(before, size):
        try:
            kind, payload = decode_entry(entries[index])
            if kind == STEP:
                entry = decode_step(payload)
                if reader.raw_block(entry).root != entry.inner_root:
                    return "the entry or its rows are not what was signed", f"entry {index}, step {entry.step}"
        except CorruptLogError as error:
            return error.problem, f"entry {index}"
    return "an entry is not what was signed", f"entries {before} to {size - 1}"


def _check_step(reader: LineageReader, entry: StepEntry) -> None:
    """Compare the rows of a step with its entry; step 5."""
    raw = reader.raw_block(entry)
    where = f"step {entry.step}"
    if raw.root != entry.inner_root:
        raise CorruptLogError("the record is not what was signed", f"{where}, {_leaf_name(raw, raw.damaged)}")
    if raw.damaged is not None:
        raise CorruptLogError(
            "the stored hash of a record was changed", f"{where}, hash of {_leaf_name(raw, raw.damaged)}"
        )
    if (raw.step, raw.attempt, raw.epoch, raw.time_ns, len(raw.leaves) - 1) != (
        entry.step,
        entry.attempt,
        entry.epoch,
        entry.time_ns,
        entry.rows,
    ):
        raise CorruptLogError("the head of the block is not that of its entry", where)
    decode_block(raw, reader.layout)


def _leaf_name(raw: RawBlock, number: int | None) -> str:
    if number is None:
        return "stored hashes"
    if number == len(raw.leaves) - 1:
        return "book"
    return f"row {number} (example key {raw.leaves[number][4:20].hex()})"
