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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from aqpolicy.lineage import Book
from aqpolicy.trace.visits import Visits

DEFAULT_DAMP: Final = 2.0
"""Weight of the Fisher transport; rankings change little between 1 and 4 (docs/trace.md)."""


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

    @property
    def chosen(self) -> Tensor:
        """The estimate where there is one, else the contribution."""
        return self.contribution if self.estimate is None else self.estimate


def contributions(visits: Visits, gradient: Sequence[Tensor]) -> Tensor:
    """Return <q, rho * g> for every visit and group, shape (v, g)."""
    columns = [sketch.double() @ part for sketch, part in zip(visits.sketches, gradient, strict=True)]
    return torch.stack(columns, dim=1) * visits.rho


def estimates(visits: Visits, gradient: Sequence[Tensor], damp: float = DEFAULT_DAMP) -> Tensor:
    """Return the effect of having admitted every visit into every group, shape (v, g), by one pass backwards.

    Shapes:
        In each step: rows (b, k) of all groups side by side, kernel (b, b); `q` and `m` are (k,), the adjoints of
        weights and momentum.
    """
    widths = visits.plan.widths
    joined = torch.cat(visits.sketches, dim=1)
    q = torch.cat([part.double() for part in gradient])
    m = torch.zeros_like(q)
    used = _first_open(visits)
    scores = torch.zeros(visits.count, len(widths), dtype=torch.float64)
    end = visits.count
    for block in reversed(visits.run.blocks):
        start = end - len(block.rows)
        book = block.book
        is_open = _spread([not closed for closed in book.closed], widths)
        if end > start and bool(is_open.any()):
            rows = joined[start:end].double()
            first = _spread([used[group] == block.step for group in range(len(widths))], widths)
            factor, clip = _spread(book.factors, widths), _spread(book.clip, widths)
            d, m_before = _backwards(book, q, m, first, factor)
            d = torch.where(is_open, d, 0.0)
            # The optimizer saw the recorded gradients clipped.
            rows = rows * clip
            scores[start:end] = torch.stack([part.sum(1) for part in torch.split(rows * d, list(widths), 1)], dim=1)
            pull = _transport(rows, scores[start:end].sum(1), book.lr / max(1e-12, 1.0 - book.momentum), damp)
            q = q + book.weight_decay * d + pull
            m = torch.where(is_open, m_before, m)
        end = start
    return scores


def _backwards(book: Book, q: Tensor, m: Tensor, first: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Return the adjoints of the step's gradient and of the momentum before the step."""
    moved = -book.lr * factor * q
    if not book.momentum:
        return moved, torch.zeros_like(m)
    buffer = m + (book.momentum if book.nesterov else 1.0) * moved
    entering = torch.where(first, buffer, (1.0 - book.dampening) * buffer)
    return entering + (moved if book.nesterov else 0.0), book.momentum * buffer


def _transport(rows: Tensor, scores: Tensor, rate: float, damp: float) -> Tensor:
    """Return what the step's own curvature takes from the adjoint: (I + c B gamma K)^-1, solved in the batch."""
    if not damp:
        return torch.zeros(rows.shape[1], dtype=rows.dtype)
    weight = damp * rows.shape[0]
    kernel = rows @ rows.T
    system = torch.eye(rows.shape[0], dtype=rows.dtype) + abs(rate) * weight * kernel
    solved: Tensor = torch.linalg.solve(system, scores)
    return weight * (rows.T @ solved)


def _first_open(visits: Visits) -> list[int]:
    """Return each group's first open step, in which its momentum buffer begins."""
    opened = [[block.step for block in visits.run.blocks if not block.book.closed[at]] for at in _groups(visits)]
    return [steps[0] if steps else -1 for steps in opened]


def _groups(visits: Visits) -> range:
    return range(len(visits.plan.widths))


def _spread(values: Sequence[bool] | Sequence[float], widths: Sequence[int]) -> Tensor:
    """Return one number per column from one per group, numbers in double precision."""
    column = torch.tensor(values)
    column = column if column.dtype == torch.bool else column.double()
    return column.repeat_interleave(torch.tensor(widths))


def score(visits: Visits, gradient: Sequence[Tensor], opening: Sequence[Tensor], *, level: int, damp: float) -> Scores:
    """Return the scores of every visit for a behaviour's gradient."""
    start = [part.dot(way).reshape(()) for part, way in zip(gradient, opening, strict=True)]
    estimate = estimates(visits, gradient, damp) if level else None
    return Scores(contributions(visits, gradient), estimate, torch.stack(start))
