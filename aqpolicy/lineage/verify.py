"""Check a whole log: every byte that was signed, and where the first changed one lies.

What it does not do: judge whether the gate obeyed the policy; `trace.audit`
derives every decision again. What it relies on: the keyring given by the caller.

The steps:
1. the pages of the store hang together (`store`, in plain Python, before LMDB opens it);
2. `head.note` is signed by a trusted log key, and the store is not older than it;
3. every head that the store kept is signed, and is the root of the entries below it;
4. entries beyond the last head are refused: nobody signed them;
5. every entry says what the entries before it, the rows and the first entry make it say;
6. every step's rows have the root that its entry commits to; steps have no gap; no block is left over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aqpolicy.errors import CorruptLogError, ForkedLogError, LineageError, TrustError
from aqpolicy.lineage.block import RawBlock, StepBlock, decode_block
from aqpolicy.lineage.entry import (
    CKPT,
    END,
    GENESIS,
    KINDS,
    MANIFEST,
    POLICY,
    STATUS,
    STEP,
    StepEntry,
    decode_entry,
    decode_facts,
    decode_step,
)
from aqpolicy.lineage.reader import LineageReader, digest_of
from aqpolicy.lineage.tally import Tally
from aqpolicy.trust import Checkpoint, Frontier, Keyring, leaf_hash, open_checkpoint, root_of

Progress = Callable[[int, int], None]
"""Called with the steps checked and the steps there are."""

_OPENING = (GENESIS, POLICY, MANIFEST)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a clean log holds; `checkpoint` is its newest signed head."""

    checkpoint: Checkpoint
    entries: int
    steps: int
    rows: int
    heads: int
    ended: bool


def verify_log(run: Path | str, keyring: Keyring, progress: Progress | None = None) -> VerifyReport:
    """Check the log of a run and say what it holds.

    Trust:
        The folder is untrusted; the keyring is the caller's.

    Raises:
        CorruptLogError: Something is not what was signed; `where` locates the first place, the message counts others.
        ForkedLogError: The log is shorter than its head, or contradicts it.
        SignatureError: The head is not signed by a trusted log key.
        LineageError: There is no log, or it is being written.
    """
    with LineageReader(run, keyring) as reader:
        check = _Check(reader, _signed_heads(reader, keyring), progress)
        problems = check.problems()
        first = next(problems, None)
        if first is not None:
            where, message = first
            others = sum(1 for _ in problems)
            raise CorruptLogError(f"{message}; {others} more places are damaged" if others else message, where)
        newest = check.heads[max(check.heads)]
        return VerifyReport(newest, check.frontier.size, check.steps, check.rows, len(check.heads), check.ended)


def signed_frontier(reader: LineageReader, keyring: Keyring) -> Frontier:
    """Return the frontier of all entries, after comparing it with every signed head.

    Raises:
        ForkedLogError, CorruptLogError: As `verify_log`, without looking at the rows.
    """
    heads, frontier = _signed_heads(reader, keyring), Frontier()
    for index, data in reader.raw_entries():
        frontier.append(leaf_hash(data))
        head = heads.get(frontier.size)
        if head is not None and head.root != frontier.root():
            raise CorruptLogError("this or an earlier entry is not what was signed", f"entry {index}")
    return frontier


def _signed_heads(reader: LineageReader, keyring: Keyring) -> dict[int, Checkpoint]:
    """Return every signed head by its size; steps 2 to 4 as far as sizes tell."""
    count, published = reader.size, reader.checkpoint
    if count < published.size:
        raise ForkedLogError(
            f"the log holds {count} entries, its signed head {published.size}: it was cut or rolled back"
        )
    heads: dict[int, Checkpoint] = {}
    for size, note in reader.heads():
        try:
            head = open_checkpoint(note, keyring.keys("log"))
        except TrustError as error:
            raise CorruptLogError(f"a signed head is damaged: {error}", f"head of size {size}") from error
        if (head.size, head.origin) != (size, reader.genesis["origin"]):
            raise CorruptLogError("a signed head is not the one that belongs here", f"head of size {size}")
        heads[size] = head
    if heads.get(published.size) != published:
        raise ForkedLogError(
            f"the signed head of size {published.size} and the log contradict each other: there are two logs"
        )
    newest = max(heads)
    if newest > count:
        raise ForkedLogError(f"the log holds {count} entries, its newest signed head {newest}: it was cut")
    if newest < count:
        raise CorruptLogError("the entry lies beyond the newest signed head", f"entry {newest}")
    return heads


_Problem = tuple[str, str]
"""Where, and what is wrong there."""


@dataclass(slots=True)
class _Check:
    """One pass over a log; steps 3, 5 and 6."""

    reader: LineageReader
    heads: dict[int, Checkpoint]
    progress: Progress | None
    frontier: Frontier = field(default_factory=Frontier)
    steps: int = 0
    rows: int = 0
    ended: bool = False
    bodies: int = 0
    epoch: int = 0
    first: int = field(init=False)
    tally: Tally | None = field(init=False)
    """None after a damaged step: what follows can no longer be added up."""

    def __post_init__(self) -> None:
        """Start before the first step."""
        self.tally = Tally(self.reader.layout.budgets)
        self.first = int(self.reader.genesis["first_step"])

    def problems(self) -> Iterator[_Problem]:
        """Return everything that is wrong, in the order of the log."""
        total, start, located, loose = self.reader.blocks, 0, False, []
        trusted = True
        for index, data in self.reader.raw_entries():
            kind, found = self._entry(index, data)
            yield from found
            located = located or bool(found)
            if kind not in (STEP, POLICY, MANIFEST):  # all of these is compared with something else
                loose.append(index)
            if kind == STEP and self.progress is not None:
                self.progress(self.steps, max(total, self.steps))
            self.frontier.append(leaf_hash(data))
            head = self.heads.get(self.frontier.size)
            if head is None:
                continue
            if trusted and head.root != self.frontier.root():
                trusted = False  # roots of later heads cannot agree either
                if not located:
                    yield _blame(loose, start, index), "the entry is not what was signed"
            start, located, loose = index + 1, False, []
        if total != self.steps:
            yield "lineage", f"the store holds {total} blocks, the log {self.steps} steps"
        if self.reader.bodies != self.bodies:
            yield "lineage", f"the store holds {self.reader.bodies} bodies, the log {self.bodies} models"

    def _entry(self, index: int, data: bytes) -> tuple[int, list[_Problem]]:
        where = f"entry {index}"
        try:
            kind, payload = decode_entry(data)
            if (kind in _OPENING or index < len(_OPENING)) and _OPENING[index : index + 1] != (kind,):
                return kind, [(where, f"a {KINDS[kind]} entry has no place here")]
            if self.ended and kind != STATUS:
                return kind, [(where, f"a {KINDS[kind]} entry follows the end")]
            if kind == STEP:
                return kind, self._step(index, decode_step(payload))
            return kind, [(where, said) for said in self._facts(index, kind, payload)]
        except CorruptLogError as error:
            return 0, [(error.where or where, str(error).removeprefix(f"{error.where}: "))]

    def _facts(self, index: int, kind: int, payload: bytes) -> Iterator[str]:
        """Compare an entry of a rare kind with what is known."""
        facts, genesis = decode_facts(payload), self.reader.genesis
        if kind == POLICY and facts != {"bundle": genesis["bundle"]}:
            yield "the policy is not that of the run"
        if kind == MANIFEST and facts != {"root": genesis["manifest_root"]}:
            yield "the manifest is not that of the run"
        if kind == END:
            self.ended = True
        if kind in (CKPT, END) and facts.get("steps" if kind == END else "step") != self.first + self.steps:
            yield f"it counts other steps than the {self.first + self.steps} before it"
        if kind == CKPT:
            self.bodies += 1
            self.reader.body(index, facts)

    def _step(self, index: int, entry: StepEntry) -> list[_Problem]:
        """Compare a step's entry with the run, its rows and all steps before it."""
        where = f"step {self.first + self.steps}"
        found = [(f"entry {index}, {where}", said) for said in self._claims(entry)]
        self.steps, self.rows = self.steps + 1, self.rows + entry.rows
        damage, block = self._block(where, entry)
        if block is None:
            self.tally = None
        elif self.tally is not None:
            self.tally.add(block)
            if (entry.budget_state, entry.data_cursor) != (self.tally.budget_state, self.tally.data_cursor):
                damage.append((f"entry {index}, {where}", "budgets or examples so far are not what the rows add up to"))
        found += damage
        if not found:
            self.epoch = entry.epoch
        return found

    def _claims(self, entry: StepEntry) -> Iterator[str]:
        """Compare what a step says of itself with its place and with the first entry."""
        genesis = self.reader.genesis
        if entry.step != self.first + self.steps or entry.attempt:
            yield f"step {self.first + self.steps} is missing, or not in its place"
        run = (genesis["run"], digest_of(genesis, "bundle"), digest_of(genesis, "manifest_root"))
        if (entry.run_id.hex(), entry.bundle, entry.manifest_root) != run:
            yield "the step belongs to another run, policy or manifest"
        if entry.epoch < self.epoch:
            yield "the epochs go back"

    def _block(self, where: str, entry: StepEntry) -> tuple[list[_Problem], StepBlock | None]:
        """Compare a step's rows with its entry; step 6."""
        try:
            raw = self.reader.raw_block(entry)
            found = [(f"{where}, {place}", said) for place, said in _damage(raw, entry.inner_root)]
            if found:
                return found, None
            block = decode_block(raw, self.reader.layout)
        except CorruptLogError as error:
            place = f", {error.where.removeprefix(f'step {entry.step}, ')}" if "row" in error.where else ""
            return [(where + place, str(error).removeprefix(f"{error.where}: "))], None
        except LineageError as error:
            return [(where, str(error))], None
        told = (raw.step, raw.attempt, raw.epoch, raw.phase, raw.stage, raw.today, raw.time_ns)
        if told != (entry.step, entry.attempt, entry.epoch, entry.phase, entry.stage, entry.today, entry.time_ns):
            return [(where, "the block and its entry say different things of the step")], block
        (rank,) = entry.ranks
        if (rank.rows, rank.cells) != (len(block.rows), len(block.rows) * self.reader.layout.groups):
            return [(where, "the entry counts other rows than the block holds")], block
        return [], block


def _damage(raw: RawBlock, signed: bytes) -> Iterator[_Problem]:
    """Return the leaves that are not what was signed.

    The block carries the hash of every leaf, so two of three tell: leaf, its stored hash, and the signed root.
    """
    hashes = raw.recomputed()
    differing = [number for number, stored in enumerate(raw.hashes) if stored != hashes[number]]
    if root_of(hashes) == signed:
        for number in differing:
            yield _leaf_name(raw, number), "the hash stored for the record was changed; the record is as signed"
        return
    for number in differing:
        yield _leaf_name(raw, number), "the record is not what was signed"
    if not differing:
        yield "its entry or all its rows", "the rows are not those that the entry commits to"


def _leaf_name(raw: RawBlock, number: int) -> str:
    if number == len(raw.leaves) - 1:
        return "book"
    return f"row {number} (example key {raw.leaves[number][4:20].hex()})"


def _blame(loose: list[int], start: int, end: int) -> str:
    """Say which entries of start to end can be the changed one: those of which nothing else tells."""
    suspects = loose or list(range(start, end + 1))
    if len(suspects) == 1:
        return f"entry {suspects[0]}"
    return f"entries {suspects[0]} to {suspects[-1]}"
