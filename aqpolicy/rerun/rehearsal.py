"""A rehearsal: some steps of a run are taken again as they were, and compared with its log, bit for bit.

Without it a recipe that reads other data, or a machine that adds in another order,
would be found out only after the log had gone back. It writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Any, Final

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.lineage import Layout, StepBlock
from aqpolicy.lineage.book import decode_book, encode_book
from aqpolicy.lineage.genesis import layout_of
from aqpolicy.rerun.origin import Origin
from aqpolicy.rerun.recipe import train_again
from aqpolicy.scribe.columns import StepColumns
from aqpolicy.trace.behaviour import Named

REHEARSED: Final = 3
"""Steps that are compared at least, where the run has so many."""


class _Enough(BaseException):
    """The steps that were to be compared are; no handler of errors in a recipe may catch it."""


class Rehearsal:
    """A log that keeps nothing: it compares every step with that of the run, and ends the training after some."""

    def __init__(self, blocks: tuple[StepBlock, ...], layout: Layout) -> None:
        """Take the steps to compare with, in order."""
        self._blocks, self._layout = blocks, layout
        self.compared = 0

    def append_step(self, block: StepColumns) -> None:
        """Compare a step with that of the run.

        Raises:
            IllegalTrainingSetupError: It is another one.
        """
        expected = self._blocks[self.compared]
        if difference := _difference(block, expected, self._layout):
            raise IllegalTrainingSetupError(
                f"the recipe does not make the run again: in step {expected.step} {difference} differs from the log; "
                "let it read the same data in the same order, on the same machine, versions and threads"
            )
        self.compared += 1
        if self.compared == len(self._blocks):
            raise _Enough

    def append_event(self, facts: Mapping[str, Any]) -> None:
        """Take what happened between two steps."""

    def append_model(self, *facts: Any) -> None:
        """Take a model."""

    def close(self) -> None:
        """End."""


def rehearse(origin: Origin, recipe: Named, name: str, steps: int = REHEARSED) -> int:
    """Take steps of a run again, as they were, from a checkpoint on; return how many were compared.

    Args:
        origin: The run.
        recipe: Its recipe.
        name: The checkpoint, or `beginning`.
        steps: How many are compared.

    Raises:
        IllegalTrainingSetupError: A step is not that of the log, or the recipe took too few.
        AqpolicyError: The recipe failed.
    """
    checkpoint = origin.checkpoint(name)
    blocks = _blocks_from(origin, 0 if checkpoint is None else checkpoint.step - origin.run.first_step, steps)
    if not blocks:
        return 0
    log = Rehearsal(blocks, layout_of(origin.run.genesis))
    try:
        train_again(recipe, origin.unrecorded(refused=origin.refused_in(blocks), checkpoint=checkpoint, log=log))
    except _Enough:
        return log.compared
    raise IllegalTrainingSetupError(
        f"the recipe ended after {log.compared} of {len(blocks)} steps that the run took from there on"
    )


def _blocks_from(origin: Origin, start: int, steps: int) -> tuple[StepBlock, ...]:
    """Return some steps that count, of one attempt: the next may have refused more."""
    blocks = origin.run.blocks[start : start + steps]
    return tuple(takewhile(lambda block: block.attempt == blocks[0].attempt, blocks))


def _difference(step: StepColumns, block: StepBlock, layout: Layout) -> str:
    """Return what of a step is not as in the log, in a word or two; empty where everything is."""
    if (step.step, step.epoch, step.phase, step.stage) != (block.step, block.epoch, block.phase, block.stage):
        return "the place in the run"
    rows = step.rows
    if [row.example_key for row in rows] != [row.example_key for row in block.rows]:
        return "the order of the examples"
    for name in ("surprisal", "entropy", "route", "effect", "charges", "exceptions", "norms", "sketch"):
        if [getattr(row, name) for row in rows] != [getattr(row, name) for row in block.rows]:
            return f"the {name} of an example"
    # Without a folder, nobody keeps which rows of embedding tables were touched.
    book = decode_book(encode_book(replace(step.book, touched=block.book.touched), layout), layout)
    return "what the optimizer did" if book != block.book else ""
