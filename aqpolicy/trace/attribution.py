"""Scores of every visit and group for a behaviour: what it contributed, and what its absence would change.

Two levels of answer, never mixed. The *contribution* carries each admitted
gradient to the final weights by the run's own impulse response and meets the
behaviour's gradient there: it adds up exactly, and it is not counterfactual. The
*estimate* passes the behaviour's gradient backwards through the run, losing in
every step what later training would have corrected; it is what to compare with
a retraining, and it is no retraining.

Source: reverse pass with an implicit damped Fisher transport, in the spirit of
data value embeddings (arXiv 2412.09538) and unrolled differentiation; the
recursion is written out in docs/trace.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

import torch
from torch import Tensor

from aqpolicy.lineage import Book
from aqpolicy.trace.forward import Forward, backwards
from aqpolicy.trace.visits import Ending, FactorSpace, Visits
from aqpolicy.trace.writing import FactorWriting, Writing, split

DEFAULT_DAMP: Final = 2.0
"""Weight of the Fisher transport; rankings change little between 1 and 4 (docs/trace.md)."""


CEILING: Final = 10.0
"""Largest factor of an adaptive step that an estimate counts with, in medians; 3 to 30 make no difference to it."""


@dataclass(frozen=True, slots=True)
class Places:
    """Scores of all visits together, number by number of the parameters: what each place of the model received.

    Shapes:
        contribution (n,), chosen (n,).
    """

    contribution: Tensor
    chosen: Tensor


@dataclass(frozen=True, slots=True)
class Scores:
    """Positive: the visit raised the behaviour.

    Shapes:
        contribution (v, g), estimate (v, g) or None, opening (g,).
    """

    contribution: Tensor
    estimate: Tensor | None
    opening: Tensor
    """What weight decay did to the behaviour through the initial weights; nobody's."""
    prices: Tensor | None = None
    """What every visit would score if all of it were admitted, (v, g); None where that is not recorded."""
    places: Places | None = None
    """The same by place in the parameters; None where only sketches are recorded."""

    @property
    def chosen(self) -> Tensor:
        """The estimate where there is one, else the contribution."""
        return self.contribution if self.estimate is None else self.estimate


def contributions(visits: Visits, gradient: Sequence[Tensor]) -> Tensor:
    """Return <q, rho * g> for every visit and group of a run with scalar responses, shape (v, g)."""
    columns = [sketch.double() @ part for sketch, part in zip(visits.sketches, gradient, strict=True)]
    return torch.stack(columns, dim=1) * visits.rho


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one pass backwards found.

    Shapes:
        scores (v, g); prices (v, g), what every visit would score if all of it were admitted, None where only what was
        admitted is recorded; first: per group (width), the adjoint of the initial weights; places (n,), the scores of
        all visits together by place in the space of the record.
    """

    scores: Tensor
    prices: Tensor | None
    first: tuple[Tensor, ...]
    places: Tensor


def sweep(visits: Visits, gradient: Sequence[Tensor], damp: float, grounds: Grounds | None = None) -> Sweep:
    """Carry a behaviour's gradient backwards through the run; as `sweep_all`."""
    return sweep_all(visits, [gradient], damp, grounds)[0]


def sweep_all(
    visits: Visits, gradients: Sequence[Sequence[Tensor]], damp: float, grounds: Grounds | None = None
) -> list[Sweep]:
    """Carry behaviours' gradients backwards through the run, all in one pass: what a step costs, it costs once.

    Args:
        visits: The visits.
        gradients: Per behaviour, those of every group.
        damp: Weight of the curvature that is taken out of them; 0 for none.
        grounds: What adaptive steps fell on; needed where the optimizer was one.

    Shapes:
        In each step: kernel (b, b); `q` and `m` are (k, n), the adjoints of weights and momentum.
    """
    widths, count = visits.space.widths, len(gradients)
    q = torch.stack([torch.cat([part.double() for part in gradient]) for gradient in gradients])
    m = torch.zeros_like(q)
    used, opened, places = _first_open(visits), _opened(visits), torch.zeros_like(q)
    scores = torch.zeros(count, visits.count, len(widths), dtype=torch.float64)
    prices = torch.zeros_like(scores) if isinstance(visits.space, FactorSpace) else None
    states = _states(grounds)
    for number in reversed(range(len(visits.run.blocks))):
        block, (start, stop) = visits.run.blocks[number], visits.spans[number]
        ground = next(states)
        book = block.book
        is_open = _spread([not closed for closed in book.closed], widths)
        if stop == start or not bool(is_open.any()):
            continue
        writing = visits.space.writing(start, stop)
        clip, factor = torch.tensor(book.clip, dtype=torch.float64), _spread(book.factors, widths)
        if ground is None:
            first = _spread([used[group] == block.step for group in range(len(widths))], widths)
            d, m_before = _backwards(book, q, m, first, factor)
            rate, kept = book.lr / max(1e-12, 1.0 - book.momentum), torch.ones(())
        else:
            ground = ground if not damp else _known(ground)
            counts = _spread([float(each) for each in opened[number]], widths)
            d, m_before = _adaptive(book, q, m, ground * factor, counts)
            rate = book.lr
            kept = torch.where(is_open, 1.0 - book.lr * book.weight_decay * book.decoupled * factor, 1.0)
        d = torch.where(is_open, d, 0.0)
        # The optimizer saw the recorded gradients clipped.
        if prices is not None and isinstance(writing, FactorWriting):
            prices[:, start:stop] = whole = writing.prices(d) * clip
            scores[:, start:stop] = whole * writing.factors
        else:
            scores[:, start:stop] = writing.scores(d) * clip
        everything = clip.expand(1, writing.count, -1)
        places += d * writing.pull(everything)
        pull = _transport(writing, clip, scores[:, start:stop].sum(2), rate, damp, ground)
        q = kept * q + (0.0 if book.decoupled else book.weight_decay) * d + pull
        m = torch.where(is_open, m_before, m)
    return [
        Sweep(scores[at], None if prices is None else prices[at], tuple(split(q[at], widths)), places[at])
        for at in range(count)
    ]


def _states(grounds: Grounds | None) -> Iterator[Tensor | None]:
    """Yield what each step fell on, the last first; None for each where the optimizer is not adaptive."""
    if grounds is None:
        return repeat(None)
    return grounds.backwards()


@dataclass(frozen=True)
class Grounds:
    """What the gradients of adaptive steps were multiplied by: found by taking the steps again."""

    visits: Visits
    start: tuple[Tensor, ...]

    def backwards(self) -> Iterator[Tensor]:
        """Yield 1 / (sqrt(v) + epsilon) of every step, the last first."""
        blocks = self.visits.run.blocks
        for number, state in backwards(Forward(list(self.start)), len(blocks), self.visits.take):
            yield state.ground(blocks[number].book)


def _known(ground: Tensor) -> Tensor:
    """Return what gradients were multiplied by, no more than a few times the usual.

    Where squares are below what rounding can tell, the factor is one over next to nothing, and a handful of weights
    that the run all but left alone would outweigh all others.
    """
    reached = ground[ground > 0]
    return ground.clamp(max=CEILING * reached.median().item()) if len(reached) else ground


def _adaptive(book: Book, q: Tensor, m: Tensor, ground: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the adjoints of an adaptive step's gradient and of the momentum before it.

    Args:
        book: The step.
        q: Adjoint of the weights after it.
        m: Adjoint of the momentum after it.
        ground: What the gradient was multiplied by, beside the rate.
        counts: Per number, how often it was stepped, this step included.
    """
    moved = m - book.lr / (1.0 - book.momentum**counts) * ground * q
    return (1.0 - book.momentum) * moved, book.momentum * moved


def _backwards(book: Book, q: Tensor, m: Tensor, first: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Return the adjoints of the step's gradient and of the momentum before the step."""
    moved = -book.lr * factor * q
    if not book.momentum:
        return moved, torch.zeros_like(m)
    buffer = m + (book.momentum if book.nesterov else 1.0) * moved
    entering = torch.where(first, buffer, (1.0 - book.dampening) * buffer)
    return entering + (moved if book.nesterov else 0.0), book.momentum * buffer


def _transport(  # noqa: PLR0917 - the terms of the formula
    writing: Writing, clip: Tensor, scores: Tensor, rate: float, damp: float, ground: Tensor | None
) -> Tensor | float:
    """Return what the step's own curvature takes from the adjoints: (I + c B gamma K)^-1, solved in the batch.

    Shapes:
        scores (k, b) -> (k, n).
    """
    if not damp:
        return 0.0
    weight = damp * writing.count
    system = torch.eye(writing.count, dtype=torch.float64) + abs(rate) * weight * writing.kernel(clip, ground)
    solved: Tensor = torch.linalg.solve(system, scores.T).T
    return weight * writing.pull(solved.unsqueeze(2) * clip)


def _opened(visits: Visits) -> list[list[int]]:
    """Return, per step and group, how many of the steps so far were open, this one included."""
    found, now = [], [0] * len(visits.space.widths)
    for block in visits.run.blocks:
        now = [count + (not closed) for count, closed in zip(now, block.book.closed, strict=True)]
        found.append(now)
    return found


def _first_open(visits: Visits) -> list[int]:
    """Return each group's first open step, in which its momentum buffer begins."""
    opened = [[block.step for block in visits.run.blocks if not block.book.closed[at]] for at in _groups(visits)]
    return [steps[0] if steps else -1 for steps in opened]


def _groups(visits: Visits) -> range:
    return range(len(visits.space.widths))


def _spread(values: Sequence[bool] | Sequence[float], widths: Sequence[int]) -> Tensor:
    """Return one number per column from one per group, numbers in double precision."""
    column = torch.tensor(values)
    column = column if column.dtype == torch.bool else column.double()
    return column.repeat_interleave(torch.tensor(widths))


def score(visits: Visits, gradient: Sequence[Tensor], ending: Ending, *, level: int, damp: float) -> Scores:
    """Return the scores of every visit for a behaviour's gradient."""
    return score_all(visits, [gradient], ending, level=level, damp=damp)[0]


def score_all(
    visits: Visits, gradients: Sequence[Sequence[Tensor]], ending: Ending, *, level: int, damp: float
) -> list[Scores]:
    """Return the scores of every visit for the gradients of several behaviours."""
    if isinstance(visits.space, FactorSpace):
        adaptive = any(block.book.second_momentum for block in visits.run.blocks)
        grounds = Grounds(visits, ending.start) if adaptive else None
        plain = sweep_all(visits, gradients, 0.0, grounds)
        estimates = sweep_all(visits, gradients, damp, grounds) if level else [None] * len(plain)
        return [_scores(*each, ending) for each in zip(gradients, plain, estimates, strict=True)]
    estimates = sweep_all(visits, gradients, damp) if level else [None] * len(gradients)
    found = []
    for gradient, estimate in zip(gradients, estimates, strict=True):
        start = [part.dot(way).reshape(()) for part, way in zip(gradient, ending.opening, strict=True)]
        scores = None if estimate is None else estimate.scores
        found.append(Scores(contributions(visits, gradient), scores, torch.stack(start)))
    return found


def _scores(gradient: Sequence[Tensor], plain: Sweep, found: Sweep | None, ending: Ending) -> Scores:
    # What decay did to the behaviour through the initial weights.
    ways = zip(plain.first, gradient, ending.start, strict=True)
    start = torch.stack([(after - before.double()).dot(value) for after, before, value in ways])
    chosen = plain if found is None else found
    places = Places(plain.places, chosen.places)
    return Scores(plain.scores, None if found is None else found.scores, start, chosen.prices, places)
