"""Compare the rows of steps with their entries, and the runs of a seal with what the rows give.

Each step is judged alone: what it needs of those before it (the data cursor) is
what *their* entries say, which is judged there. So steps can be looked at anywhere
and in any order, and damage is found where it is and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage.block import RawBlock, cut_block, visits_of
from aqpolicy.lineage.book import decode_book
from aqpolicy.lineage.entry import RankEntry, StepEntry
from aqpolicy.lineage.leaf import KEY
from aqpolicy.lineage.record import KEY_BYTES, Layout
from aqpolicy.lineage.runs import RunBuilder
from aqpolicy.lineage.scan import scan_rows
from aqpolicy.lineage.store import BLOCK, RUN, Store, block_key, run_key
from aqpolicy.lineage.visits import Visits, in_order, visits_bytes
from aqpolicy.trust import digest_text, root_of, sha256

Place = tuple[str, str]
"""Where something is wrong, and what."""

Get = Callable[[bytes, bytes], bytes | None]
"""Returns the value of a table and a key."""

MakeBuilder = Callable[[], RunBuilder]


@dataclass(frozen=True, slots=True)
class StepTask:
    """A step to be compared with its rows."""

    index: int
    """Of its entry."""
    entry: StepEntry
    before: bytes
    """The data cursor before it."""


@dataclass(frozen=True, slots=True)
class SegmentTask:
    """Steps up to a seal; without one, those that no seal covers."""

    steps: tuple[StepTask, ...]
    seal: int = -1
    """Index of the seal's entry, -1 without one."""
    runs: Mapping[str, str] = field(default_factory=dict)
    """The digests that it names."""


@dataclass(frozen=True, slots=True)
class Charges:
    """What a step charges every budget: by its rows, for movement, for drift."""

    charged: tuple[int, ...]
    movement_charges: tuple[int, ...]
    drift_charges: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StepFound:
    """What is wrong with a step's rows, and what they charge; None where that is not known."""

    problems: tuple[Place, ...]
    charges: Charges | None


@dataclass(frozen=True, slots=True)
class SegmentFound:
    """What came of a task: per step, and what is wrong with the runs of its seal."""

    steps: tuple[StepFound, ...]
    seal: tuple[Place, ...]


def begin(folder: str, layout: Layout, builder: MakeBuilder) -> Callable[[SegmentTask], SegmentFound]:
    """Open a store whose pages were checked, in a process of its own, and return what looks at its segments."""
    return Blocks(Store(Path(folder), None, write=False).get, layout, builder).segment


class Blocks:
    """Looks at the blocks of a store."""

    def __init__(self, get: Get, layout: Layout, builder: MakeBuilder) -> None:
        """Take a store, the layout of its run, and what makes the runs of an index."""
        self._get, self._layout, self._builder = get, layout, builder

    def segment(self, task: SegmentTask) -> SegmentFound:
        """Compare steps with their rows, and the runs of a seal with what the rows give."""
        runs = self._builder() if task.seal >= 0 else None
        found = []
        for step in task.steps:
            one, blocks = self._step(step)
            found.append(one)
            if one.problems:
                runs = None  # what a damaged step gives is no index; that it is damaged is said
            if runs is not None:
                runs.add(step.index, step.entry, [block.leaves for block in blocks], self._layout)
        return SegmentFound(tuple(found), () if runs is None else tuple(self._seal(task, runs.finish())))

    def _seal(self, task: SegmentTask, made: Mapping[str, bytes]) -> Iterator[Place]:
        """Compare the runs of a seal, stored and as its entry names them, with those that its steps give."""
        if task.runs != {name: digest_text(sha256(data)) for name, data in made.items()}:
            yield f"entry {task.seal}", "the index that the seal commits to is not that of its steps"
            return
        for name, data in made.items():
            if self._get(RUN, run_key(task.seal, name)) != data:
                yield f"entry {task.seal}, run `{name}`", "the index is not the one that the seal commits to"

    def _step(self, task: StepTask) -> tuple[StepFound, list[RawBlock]]:
        """Return what is wrong with a step's rows, and its blocks."""
        entry = task.entry
        problems: list[Place] = []
        blocks: list[RawBlock] = []
        for rank in entry.ranks:
            try:
                block = self._block(entry, rank)
                found, is_signed = _damage(block, rank)
            except CorruptLogError as error:
                found, is_signed = [(error.where, error.problem)], False
            problems += ((_place(entry, rank.rank, where), said) for where, said in found)
            blocks += [block] if is_signed else []
        if len(blocks) < len(entry.ranks):
            return StepFound(tuple(problems), None), blocks
        try:
            found, charges = _compared(task, blocks, self._layout)
        except CorruptLogError as error:
            return StepFound((*problems, (error.where or _place(entry, 0), error.problem)), None), blocks
        return StepFound((*problems, *found), charges), blocks

    def _block(self, entry: StepEntry, rank: RankEntry) -> RawBlock:
        data = self._get(BLOCK, block_key(entry.attempt, entry.step, rank.rank))
        if data is None:
            raise CorruptLogError("the block is missing")
        return cut_block(data, self._layout)


def _place(entry: StepEntry, rank: int, where: str = "") -> str:
    names = (f"step {entry.step}", f"rank {rank}" if len(entry.ranks) > 1 else "", where)
    return ", ".join(name for name in names if name)


def _damage(block: RawBlock, rank: RankEntry) -> tuple[list[Place], bool]:
    """Return what of a block was changed, and whether its leaves are those that were signed.

    The block carries the beginning of the hash of every leaf, so two of three tell: leaf, hash, and signed root.
    """
    hashes = block.recomputed()
    names = [_leaf_name(block, number) for number in block.differing(hashes)]
    if root_of(hashes) == rank.inner_root:
        return [(name, "the hash stored for the record was changed; the record is as signed") for name in names], True
    found = [(name, "the record is not what was signed") for name in names]
    return found or [("its entry or all its rows", "the rows are not those that the entry commits to")], False


def _leaf_name(block: RawBlock, number: int) -> str:
    if number == len(block.rows):
        return "book"
    return f"row {number} (example key {block.leaves[number][KEY].hex()})"


def _compared(task: StepTask, blocks: Sequence[RawBlock], layout: Layout) -> tuple[list[Place], Charges]:
    """Return what entry and blocks say differently, and the charges of the rows.

    Raises:
        CorruptLogError: A leaf is not the one encoding of a row or a book, or the blocks do not fit each other.
    """
    entry, visits = task.entry, visits_of(blocks)
    keys, charged = [], [0] * layout.budgets
    for block in blocks:
        try:
            own, charges = scan_rows(block.rows, layout)
        except CorruptLogError as error:
            raise CorruptLogError(error.problem, _place(entry, block.rank, error.where)) from error
        keys.append(own)
        charged = [total + charge for total, charge in zip(charged, charges, strict=True)]
    try:
        book = decode_book(blocks[0].leaves[-1], layout)
    except CorruptLogError as error:
        raise CorruptLogError(error.problem, _place(entry, 0, "book")) from error
    found = list(_contradictions(task, blocks, layout))
    if sha256(task.before + visits_bytes(visits) + _in_order(keys, visits)) != entry.data_cursor:
        found.append((f"entry {task.index}, step {entry.step}", "the examples so far are not those of the rows"))
    return found, Charges(tuple(charged), book.movement_charges, book.drift_charges)


def _contradictions(task: StepTask, blocks: Sequence[RawBlock], layout: Layout) -> Iterator[Place]:
    entry = task.entry
    facts = (entry.attempt, entry.step, task.index, entry.epoch, entry.phase, entry.stage, entry.today, entry.time_ns)
    for block, rank in zip(blocks, entry.ranks, strict=True):
        told = (block.attempt, block.step, block.entry, block.epoch, block.phase, block.stage, block.today)
        if (*told, block.time_ns) != facts:
            yield _place(entry, rank.rank), "the block and its entry say different things of the step"
        if (rank.rows, rank.cells) != (len(block.rows), len(block.rows) * layout.groups):
            yield _place(entry, rank.rank), "the entry counts other rows than the block holds"


def _in_order(keys: Sequence[bytes], visits: Visits) -> bytes:
    """Return the keys of all ranks in the order of the visits."""
    if len(keys) == 1:
        return keys[0]
    apart = [[own[at : at + KEY_BYTES] for at in range(0, len(own), KEY_BYTES)] for own in keys]
    return b"".join(in_order(apart, visits))
