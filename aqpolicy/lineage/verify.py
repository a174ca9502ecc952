"""Check a whole log: every byte that was signed, and where the first changed one lies.

What it does not do: judge whether the gate obeyed the policy; `trace.audit`
derives every decision again. What it relies on: the keyring given by the caller.

The steps:
1. the pages of the store hang together (`store`, in plain Python, before LMDB opens it);
2. `head.note` is signed by a trusted log key, and the store is not older than it, nor than a remembered head;
3. every head that the store kept is signed, and is the root of the entries below it;
4. entries beyond the last head are refused: nobody signed them;
5. every entry says what the entries before it make it say (`verify_entries`);
6. every step's rows have the roots that its entry commits to, and every seal's index is that of its steps
   (`verify_blocks`, in as many processes as wished); what the rows charge adds up to what the entries say;
7. nothing is left over: no block, no body, no run of an index, and the state that the writer goes on from is the
   one that all this gives.
"""

from __future__ import annotations

import os
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aqpolicy.errors import CorruptLogError, TrustError
from aqpolicy.lineage.entry import END, MANIFEST, POLICY, SEAL, STEP
from aqpolicy.lineage.reader import LineageReader
from aqpolicy.lineage.runs import RunBuilder
from aqpolicy.lineage.state import STATE_KEY, State
from aqpolicy.lineage.store import META, RUN, model_key
from aqpolicy.lineage.tally import Tally
from aqpolicy.lineage.verify_blocks import (
    Blocks,
    Charges,
    MakeBuilder,
    Place,
    SegmentFound,
    SegmentTask,
    StepTask,
    begin,
)
from aqpolicy.lineage.verify_entries import Entries, Mark, Segment
from aqpolicy.lineage.verify_heads import Heads, RememberedHead, signed_heads
from aqpolicy.lineage.verify_pool import in_order
from aqpolicy.lineage.verify_state import Reached, StateFile, Subject
from aqpolicy.trust import Checkpoint, Frontier, Keyring, leaf_hash

Progress = Callable[[int, int], None]
"""Called with the steps checked and the steps there are."""

_COMPARED: Final = frozenset({STEP, POLICY, MANIFEST, SEAL, END})
"""Kinds of entries of which all is compared with something else; of a model, nothing else tells the digest."""

_USUAL_WORKERS: Final = 8
_BLOCKS_PER_WORKER: Final = 500

_MOST_PROBLEMS: Final = 10_000
"""Places that are looked for; a log with more is not looked at any further."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a clean log holds; `checkpoint` is its newest signed head."""

    checkpoint: Checkpoint
    entries: int
    steps: int
    """Those that count."""
    rows: int
    """Of all steps, superseded ones included."""
    heads: int
    ended: bool
    attempts: int = 1
    superseded: int = 0
    """Steps that count no longer, since training went back behind them."""
    believed: int = 0
    """Steps whose rows an earlier, interrupted run of this verification has checked."""


def verify_log(
    run: Path | str,
    keyring: Keyring,
    progress: Progress | None = None,
    *,
    workers: int = 1,
    remembered: Path | str | None = None,
    state: Path | str | None = None,
    index: MakeBuilder = RunBuilder,
) -> VerifyReport:
    """Check the log of a run and say what it holds.

    Args:
        run: The run's folder.
        keyring: The keys that are trusted.
        progress: Told how far it came.
        workers: Processes that compare rows; 0 for as many as pay.
        remembered: A file of the caller's with the newest head that he saw of this log; it is updated. A log that does
            not extend it was rolled back or forked.
        state: A file of the caller's that says how far an interrupted run of this came; it is removed at the end.
        index: What makes the index again; `scribe.index` has a faster one.

    Trust:
        The folder is untrusted; the keyring and the two files are the caller's.

    Raises:
        CorruptLogError: Something is not what was signed; `where` locates the first place, the message counts others.
        ForkedLogError: The log is shorter than its head or the remembered one, or contradicts it.
        SignatureError: The head is not signed by a trusted log key.
        LineageError: There is no log, or it is being written.
        InputError: One of the caller's files cannot be used.
    """
    with LineageReader(run, keyring) as reader:
        heads = signed_heads(reader, keyring)
        head = None if remembered is None else RememberedHead(remembered, keyring, heads.newest.origin)
        if head is not None:
            head.refuse_rollback(heads)
        file = None if state is None else StateFile(state, Subject.of(reader.run, heads.newest))
        check = _Check(reader, heads, head, file, progress)
        check.all(workers or _paying(reader.blocks), index)
        check.leftovers(keyring)
        check.refuse_problems()
        if head is not None:
            head.remember(heads)
        if file is not None:
            file.remove()
        return check.report()


@dataclass(slots=True)
class _Check:
    """One verification."""

    reader: LineageReader
    heads: Heads
    head: RememberedHead | None
    file: StateFile | None
    progress: Progress | None
    entries: Entries = field(init=False)
    frontier: Frontier = field(default_factory=Frontier)
    tally: Tally | None = field(init=False)
    """What the steps so far charge; None behind a damaged step: what follows can no longer be added up."""
    sums: dict[int, bytes] = field(default_factory=dict)
    """What the steps before a model add up to, by its entry."""
    problems: list[tuple[int, Place]] = field(default_factory=list)
    """Index of the entry that it belongs to, and what is wrong; in the order of the log."""
    changed: tuple[int, int, list[int]] | None = None
    """The first group whose entries are not those that were signed, and its entries that are compared with nothing."""
    checked: int = 0
    believed: int = 0
    plan: deque[Segment] = field(default_factory=deque)
    reached: Reached | None = field(init=False)

    def __post_init__(self) -> None:
        """Start before the first entry."""
        self.entries = Entries(self.reader)
        self.tally = Tally(self.reader.layout.budgets)
        self.reached = None if self.file is None else self.file.read()

    def all(self, workers: int, index: MakeBuilder) -> None:
        """Compare all entries, and all rows with them."""
        for task, found in self._compared(workers, index):
            self._fold(self.plan.popleft(), found)
            if task.seal >= 0:
                self._put_down(task.seal + 1)

    def _compared(self, workers: int, index: MakeBuilder) -> Iterator[tuple[SegmentTask, SegmentFound]]:
        layout = self.reader.layout
        if workers > 1:
            return in_order(begin, (str(self.reader.run / "lineage"), layout, index), self._tasks(), workers)
        work = Blocks(self.reader.store.get, layout, index).segment  # no process may open a store twice
        return ((task, work(task)) for task in self._tasks())

    def _tasks(self) -> Iterator[SegmentTask]:
        """Pass over the entries and hand out what is to be compared with the rows."""
        start, loose = 0, list[int]()
        for index, data in self.reader.raw_entries():
            kind, found, segment = self.entries.take(index, data)
            for place in found:
                self._wrong(index, place)
            if kind not in _COMPARED:
                loose.append(index)
            self.frontier.append(leaf_hash(data))
            if self._is_head(start, index, loose):
                start, loose = index + 1, []
            if segment is not None:
                yield from self._handed_out(segment)
        if (rest := self.entries.rest()) is not None:
            yield from self._handed_out(rest)

    def _handed_out(self, segment: Segment) -> Iterator[SegmentTask]:
        if self.reached is not None and 0 <= segment.task.seal < self.reached.entries:
            self._believe(segment, self.reached)
            return
        self.plan.append(segment)
        yield segment.task

    def _is_head(self, start: int, index: int, loose: list[int]) -> bool:
        """Compare the entries so far with the heads of this size; return whether there is one of the log's own."""
        size = self.frontier.size
        if self.head is not None and self.head.head is not None and self.head.head.size == size:
            self.head.refuse_fork(self.frontier.root())
        signed = self.heads.by_size.get(size)
        if signed is None:
            return False
        if self.changed is None and signed.root != self.frontier.root():
            self.changed = (start, index, loose)  # roots of later heads cannot agree either
        return True

    def _wrong(self, index: int, place: Place) -> None:
        insort(self.problems, (index, place), key=lambda problem: problem[0])
        if len(self.problems) >= _MOST_PROBLEMS:
            self.refuse_problems()

    def _believe(self, segment: Segment, reached: Reached) -> None:
        """Pass over a segment that an earlier run has checked."""
        steps = segment.task.steps
        self.believed += len(steps)
        self.checked += len(steps)
        self._tell()
        for model in segment.order:
            if isinstance(model, Mark) and model.model is None and model.index in reached.models:
                self.sums[model.index] = reached.models[model.index]
        if segment.task.seal + 1 == reached.entries:
            self.tally = self._added_up(reached.tally, steps[-1].entry.budget_state, segment)

    def _added_up(self, data: bytes, signed: bytes, segment: Segment) -> Tally | None:
        """Return the sums that an earlier run put down, if they are those that the signed entries name."""
        try:
            tally = Tally.from_bytes(data, self.reader.layout.budgets)
        except CorruptLogError:
            tally = None
        is_last = not isinstance(segment.order[-1], Mark) or segment.order[-1].model is None
        if tally is None or (is_last and tally.budget_state != signed):
            said = "an earlier run of this verification put down other sums; remove its file to begin anew"
            self._wrong(segment.task.seal, (f"entry {segment.task.seal}", said))
        return tally

    def _fold(self, segment: Segment, found: SegmentFound) -> None:
        """Add up the steps of a segment, and take what is wrong with them."""
        results = iter(found.steps)
        for item in segment.order:
            if isinstance(item, Mark):
                self._mark(item)
                continue
            result = next(results)
            for place in result.problems:
                self._wrong(item.index, place)
            self._charge(item, result.charges)
            self.checked += 1
        for place in found.seal:
            self._wrong(segment.task.seal, place)
        self._tell()

    def _charge(self, step: StepTask, charges: Charges | None) -> None:
        if charges is None:
            self.tally = None
        if self.tally is None or charges is None:
            return
        entry, wrong = step.entry, ""
        try:
            self.tally.charge(entry.epoch, charges.charged, charges.movement_charges, charges.drift_charges)
            self.tally.data_cursor = entry.data_cursor
        except CorruptLogError as error:
            wrong = error.problem
        if not wrong and self.tally.budget_state != entry.budget_state:
            wrong = "budgets so far are not what the rows add up to"
        if wrong:  # said once: every later sum differs, too
            self._wrong(step.index, (f"entry {step.index}, step {entry.step}", wrong))
            self.tally = None

    def _mark(self, mark: Mark) -> None:
        if mark.model is None:
            if self.tally is not None:
                self.sums[mark.index] = self.tally.to_bytes()
        elif mark.model == -1:
            self.tally = Tally(self.reader.layout.budgets)
        else:
            sums = self.sums.get(mark.model)
            self.tally = None if sums is None else Tally.from_bytes(sums, self.reader.layout.budgets)

    def _tell(self) -> None:
        if self.progress is not None:
            total = max(self.reader.blocks * max(self.entries.steps, 1) // max(self.entries.blocks, 1), self.checked)
            self.progress(self.checked, total)

    def _put_down(self, entries: int) -> None:
        if self.file is not None and self.tally is not None and not self.problems and self.changed is None:
            self.file.write(Reached(entries, self.tally.to_bytes(), self.sums))

    def leftovers(self, keyring: Keyring) -> None:
        """Compare what the store holds beside entries with what they call for."""
        end, log, reader = self.reader.size, self.entries, self.reader
        held = {
            "blocks": (reader.blocks, log.blocks),
            "bodies": (reader.bodies, log.bodies),
            "runs of an index": (reader.store.count(RUN), log.runs),
        }
        for what, (count, due) in held.items():
            if count != due:
                self._wrong(end, ("lineage", f"the store holds {count} {what}, the log names {due}"))
        for index, sums in self.sums.items():
            if reader.store.get(META, model_key(index)) != sums:
                message = "the sums kept for going on from this model are not those of the steps before it"
                self._wrong(index, (f"entry {index}", message))
        if reader.store.count(META) != 1 + log.models:
            self._wrong(end, ("meta", "the store holds other notes of its writer than the log calls for"))
        trusted = keyring.within(self.heads.newest.origin, self.heads.newest.size)
        try:
            state = State.opened(reader.store.get(META, STATE_KEY), trusted)
        except (CorruptLogError, TrustError) as error:
            self._wrong(end, ("meta", str(error)))
            return
        said = (state.size, state.step, state.attempt, state.last_step, state.steps, state.rows, state.ended)
        grounds, tally = (state.bundle, state.manifest_root, state.keyring), self.tally
        if (
            said != (end, log.next_step, log.attempt, log.last_step, log.steps, log.rows, log.ended)
            or grounds != (log.bundle, log.manifest_root, log.keyring)
            or (tally is not None and state.tally != tally.to_bytes())
        ):
            self._wrong(end, ("meta", "the state that the writer goes on from is not that of the log"))

    def refuse_problems(self) -> None:
        """Return if nothing is wrong.

        Raises:
            CorruptLogError: Something is.
        """
        if self.changed is not None:
            start, end, loose = self.changed
            if not any(start <= index <= end for index, _ in self.problems):
                self.problems.append((start, (_blame(loose, start, end), "the entry is not what was signed")))
                self.problems.sort(key=lambda problem: problem[0])
        if self.problems:
            (_, (where, message)), *others = self.problems
            raise CorruptLogError(f"{message}; {len(others)} more places are damaged" if others else message, where)

    def report(self) -> VerifyReport:
        """Say what the log holds."""
        log = self.entries
        steps = log.next_step - int(self.reader.genesis["first_step"])
        return VerifyReport(
            self.heads.newest,
            self.frontier.size,
            steps,
            log.rows,
            len(self.heads.by_size),
            log.ended,
            log.attempt + 1,
            log.steps - steps,
            self.believed,
        )


def _paying(blocks: int) -> int:
    """Return how many processes pay for so many blocks: starting one takes as long as looking at a hundred."""
    return max(1, min(os.cpu_count() or 1, _USUAL_WORKERS, blocks // _BLOCKS_PER_WORKER))


def _blame(loose: list[int], start: int, end: int) -> str:
    """Say which entries of start to end can be the changed one: those of which nothing else tells."""
    suspects = loose or list(range(start, end + 1))
    if len(suspects) == 1:
        return f"entry {suspects[0]}"
    return f"entries {suspects[0]} to {suspects[-1]}"
