"""Attempts: which steps, models and events of a log count, where training went back and took steps again.

A RESUME entry says from which model entry training goes on, and from which step. All
steps from there on that were logged before it are superseded, with the models that
they made and the events among them. An event about a credential is the operator's,
not the training's, and always counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage.block import entry_of_block
from aqpolicy.lineage.entry import CKPT, RESUME, STATUS, STEP, decode_entry, decode_facts
from aqpolicy.lineage.store import BLOCK, ENTRY, Store, block_key, block_place, entry_key

_NO_STEP: Final = 1 << 64
_LARGEST: Final = 1 << 63
"""No log has so many entries."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a RESUME entry says."""

    attempt: int
    from_step: int
    entry: int
    """Index of the model entry that training goes on from, -1 for the beginning."""
    supersedes: int
    """Steps that count no longer."""
    reason: str
    time_s: int

    @classmethod
    def of(cls, payload: bytes) -> Self:
        """Read the payload of a RESUME entry.

        Raises:
            CorruptLogError: It says something else.
        """
        facts = decode_facts(payload)
        kinds = {name: type(value) for name, value in facts.items()}
        if kinds != {name: str if name == "reason" else int for name in cls.__slots__}:
            raise CorruptLogError("the entry does not say what training goes on from")
        if facts["attempt"] < 1 or facts["entry"] < -1 or min(facts["from_step"], facts["supersedes"]) < 0:
            raise CorruptLogError("the entry says something that no resumption is")
        return cls(**facts)

    @property
    def facts(self) -> dict[str, Any]:
        """The content of the entry."""
        return {name: getattr(self, name) for name in self.__slots__}


class Attempts:
    """Where every attempt began; from that follows which steps count."""

    def __init__(self, starts: dict[int, int]) -> None:
        """Take the first step of every attempt."""
        self._ends: dict[int, int] = {}
        end = _NO_STEP
        for attempt in sorted(starts, reverse=True):
            self._ends[attempt] = end
            end = min(end, starts[attempt])
        self._starts = starts

    @classmethod
    def of(cls, store: Store, first_step: int) -> Self:
        """Read where attempts began: from their blocks and, behind the last step, from their entries.

        An attempt without any step, after which there is another, is not seen: the later one began no later.
        """
        starts, key, behind = {0: first_step}, b"", 0
        while (found := next(store.keys(BLOCK, key), None)) is not None:
            attempt, step, _ = block_place(found)
            starts[attempt] = step
            key = block_key(attempt + 1, 0) if attempt + 1 < 1 << 32 else b"\xff" * 17
        last = store.last(BLOCK)
        if last is not None:
            behind = min(entry_of_block(last[1]), _LARGEST) + 1
        for index, (_, data) in enumerate(store.items(ENTRY, entry_key(behind)), behind):
            try:
                kind, payload = decode_entry(data)
                if kind == RESUME:
                    resumption = Resumption.of(payload)
                    starts[resumption.attempt] = resumption.from_step
            except CorruptLogError as error:
                raise CorruptLogError(error.problem, f"entry {index}") from error
        return cls(starts)

    def counts(self, step: int, attempt: int) -> bool:
        """Return whether a logged step is one that no later attempt superseded."""
        return step < self._ends.get(attempt, 0)

    def of_step(self, step: int) -> int | None:
        """Return the attempt in which a step counts, if the log has it; None where none can."""
        found = (attempt for attempt, start in self._starts.items() if start <= step < self._ends[attempt])
        return next(found, None)

    def superseded_after(self, attempt: int, steps: int) -> bool:
        """Return whether a later attempt went back behind so many steps of this one."""
        return self._ends.get(attempt, 0) < steps


def told(entries: Iterable[tuple[int, int, bytes]], first_step: int) -> Iterator[tuple[int, int, int, dict[str, Any]]]:
    """Return all models and events of a log that count: index, kind, steps taken before it, and content.

    Raises:
        CorruptLogError: An entry does not say what it must.
    """
    steps, kept = first_step, list[tuple[int, int, int, dict[str, Any]]]()
    for index, kind, payload in entries:
        try:
            if kind == STEP:
                steps += 1
            elif kind in {CKPT, STATUS}:
                kept.append((index, kind, steps, decode_facts(payload)))
            elif kind == RESUME:
                resumption = Resumption.of(payload)
                steps = resumption.from_step
                kept = [_after(resumption, item) for item in kept if _lasts(resumption, *item)]
        except CorruptLogError as error:
            raise CorruptLogError(error.problem, f"entry {index}") from error
    yield from kept


def _lasts(resumption: Resumption, index: int, kind: int, steps: int, facts: dict[str, Any]) -> bool:
    """Say whether something still counts: a model whose steps all do, an event before the model gone back to."""
    if kind == CKPT:
        return steps <= resumption.from_step
    return index <= resumption.entry or "credential" in facts


def _after(resumption: Resumption, item: tuple[int, int, int, dict[str, Any]]) -> tuple[int, int, int, dict[str, Any]]:
    index, kind, steps, facts = item
    return index, kind, min(steps, resumption.from_step), facts
