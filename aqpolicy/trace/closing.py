"""Close a run's book: is every change of every tensor explained by what the log says made it?

Three checks, none of which takes another's word. *Step by step*: what the gate
found unexplained when it took the step, exact. *In full*: every step is taken
again from the recorded gradients, by the same rules, from the weights that the
run began with; the end is compared tensor by tensor with the published model,
and what each step was made of with what the log says of it. *By account*: how
much of the way was the examples', momentum's, decay's, and lost to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from math import prod
from typing import Any, Final

import torch

from aqpolicy.errors import TraceError
from aqpolicy.lineage.record import ACCOUNTS, NOT_BOOKED
from aqpolicy.trace.forward import Forward
from aqpolicy.trace.run import Run
from aqpolicy.trace.visits import (
    FactorSpace,
    Visits,
    close_books,
    flat_of,
    load_ending,
    load_visits,
    tolerance_of,
)

STEP: Final = 1e-3
"""Part of a step in single precision that the gate may leave unexplained: ten times what it refuses."""


SINGLE: Final = 2.0**-23
"""Distance of 1 from the next number in single precision."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the steps of one group were made of.

    Units:
        Sums over all steps of l2 norms; they add up as lengths of a way do, not as its ends. `haircut` is no part of
        the way: it is what clipping withheld.
    """

    group: str
    low_precision: bool
    steps: int
    way: float
    fresh: float
    haircut: float
    carry: float
    decay: float
    rounding: float
    worst_step: float
    """The largest part of one step that was not explained."""
    beyond: float
    """The same, less what storing weights of this size in single precision rounds away in any step."""

    @property
    def closes(self) -> bool:
        """Whether no step went further than it should; in low precision rounding is an account, not a fault."""
        return self.low_precision or self.beyond <= STEP


@dataclass(frozen=True, slots=True)
class Tensors:
    """How far one tensor went, and how far its records say.

    Units:
        l2 norms; `unexplained` is that of the difference.
    """

    name: str
    group: str
    way: float
    booked: float
    unexplained: float
    tolerance: float

    @property
    def closes(self) -> bool:
        """Whether rounding explains the difference."""
        return self.unexplained <= self.tolerance


@dataclass(frozen=True, slots=True)
class Closing:
    """Whether the book of a run closes."""

    run: str
    record: str
    optimizer: str
    accounts: tuple[Account, ...]
    tensors: tuple[Tensors, ...]
    """Every trained tensor, where factors were recorded; else every group, in the sketches."""
    accounts_apart: float | None
    """Largest difference of an account of a step, recorded and taken again, as a part of the step; None without."""

    @property
    def closes(self) -> bool:
        """Whether all does."""
        return all(one.closes for one in self.accounts) and all(one.closes for one in self.tensors)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {"format": "aqpolicy closing 1", "closes": self.closes, **asdict(self)}

    def lines(self) -> Iterator[str]:
        """Yield it as lines of text."""
        yield f"book of run {self.run}: {self.optimizer}, record `{self.record}`"
        yield ""
        titles = ("way", "fresh", "carry", "decay", "haircut", "rounding", "worst step")
        yield f"{'group':20} {'steps':>6} " + " ".join(f"{title:>10}" for title in titles)
        for one in self.accounts:
            numbers = (one.way, one.fresh, one.carry, one.decay, one.haircut, one.rounding, one.worst_step)
            mark = "" if one.closes else "  DOES NOT CLOSE"
            mark = mark or ("  low precision: rounding is a part of every step" if one.low_precision else "")
            yield f"{one.group:20} {one.steps:6} " + " ".join(f"{number:10.4g}" for number in numbers) + mark
        yield ""
        yield f"{'tensor':32} {'way':>10} {'booked':>10} {'unexplained':>12} {'tolerance':>10}"
        for part in self.tensors:
            mark = "" if part.closes else "  DOES NOT CLOSE"
            ways = f"{part.way:10.4g} {part.booked:10.4g} {part.unexplained:12.4g} {part.tolerance:10.4g}"
            yield f"{part.name:32} {ways}{mark}"
        yield ""
        if self.accounts_apart is not None:
            yield f"accounts  logged and taken again differ by at most {self.accounts_apart:.2g} of a step"
        yield "The book closes." if self.closes else "The book DOES NOT close: something is not in the log, or not so."


def close_run(run: Run, progress: Callable[[int, int], None] | None = None) -> Closing:
    """Close the book of a run.

    Args:
        run: From `open_run`.
        progress: Called with the steps done and the steps there are.

    Raises:
        TraceError: The run kept no accounts, recorded no gradients, or cannot be booked.
        CorruptLogError: A record is malformed.
    """
    visits = load_visits(run)
    ending = load_ending(visits)
    sizes = [float(flat_of(visits, group, ending.state).norm()) for group in range(len(run.tables.groups))]
    accounts = tuple(_account(run, group, size) for group, size in enumerate(sizes))
    if isinstance(visits.space, FactorSpace):
        tensors, apart = _again(visits, visits.space, progress)
    else:
        parts = close_books(visits, ending)
        tensors = tuple(
            Tensors(one.group, one.group, one.travelled, one.booked, one.unexplained, one.tolerance) for one in parts
        )
        apart = None
    names = {block.book.optimizer for block in run.blocks}
    return Closing(run.run_id, str(run.genesis["record"]), ", ".join(sorted(names)), accounts, tensors, apart)


def _account(run: Run, group: int, size: float) -> Account:
    books = [block.book for block in run.blocks if not block.book.closed[group]]
    if any(book.fresh[group] == NOT_BOOKED for book in books):
        raise TraceError(f"the run kept no accounts of group `{run.tables.groups[group]}`; train it with this version")
    sums = {name: sum(getattr(book, name)[group] for book in books) for name in ACCOUNTS}
    steps = [(book.residual[group], book.proposed[group]) for book in books if book.proposed[group]]
    stored = SINGLE * size
    return Account(
        group=run.tables.groups[group],
        low_precision=run.genesis.get("low_precision", [False] * len(run.tables.groups))[group],
        steps=len(books),
        way=sum(book.proposed[group] for book in books),
        rounding=sum(book.residual[group] * book.proposed[group] for book in books),
        worst_step=max((part for part, _ in steps), default=0.0),
        beyond=max((part - stored / length for part, length in steps), default=0.0),
        **sums,
    )


def _again(
    visits: Visits, space: FactorSpace, progress: Callable[[int, int], None] | None
) -> tuple[tuple[Tensors, ...], float]:
    """Take all steps again; return where every tensor got, and how far accounts are from the log's."""
    run, ending, apart = visits.run, load_ending(visits), 0.0
    now = Forward([value.clone() for value in ending.start])
    lengths = [0.0] * len(ending.start)
    for number, block in enumerate(run.blocks):
        for group, made in enumerate(visits.take(now, number)):
            lengths[group] += block.book.movement[group]
            if made is None or not block.book.proposed[group]:
                continue
            for name in ("fresh", "carry", "decay"):
                found, logged = getattr(made, name).norm().item(), getattr(block.book, name)[group]
                apart = max(apart, abs(found - logged) / max(block.book.proposed[group], logged))
        if progress is not None:
            progress(number + 1, len(run.blocks))
    tensors = []
    for group, (value, start, way) in enumerate(zip(now.values, ending.start, ending.travelled, strict=True)):
        ends = list(accumulate((prod(shape) for shape in space.shapes[group]), initial=0))
        most = tolerance_of(run, space, group, way, lengths[group])
        for name, (begin, stop) in zip(_names(run, group), pairwise(ends), strict=True):
            own, booked = way[begin:stop], (value - start)[begin:stop]
            far, said, off = (float(torch.linalg.vector_norm(part)) for part in (own, booked, own - booked))
            tensors.append(Tensors(name, run.tables.groups[group], far, said, off, most))
    return tuple(tensors), apart


def _names(run: Run, group: int) -> list[str]:
    trained = int(run.genesis["trained"][group], 16)
    return [name for number, (name, _) in enumerate(run.bundle.parameters[group]) if trained >> number & 1]
