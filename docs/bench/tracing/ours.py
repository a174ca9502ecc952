"""What the product's own trace says of a run, for many behaviours."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aqpolicy.trace.attribution import DEFAULT_DAMP, score_all
from aqpolicy.trace.behaviour import Behaviour, Named, build_model, measure
from aqpolicy.trace.rollup import sources_of
from aqpolicy.trace.visits import balanced

from .setups import Trained, margins


@dataclass(frozen=True)
class Traced:
    """Scores of every behaviour.

    Shapes:
        examples (q, n, g), prices (q, v, g) or None; gradients: per behaviour and group.
    """

    examples: Tensor
    prices: list[Tensor]
    behaviours: list[Behaviour]
    seconds: float
    """Per behaviour, all of them being asked about at once and the run being open."""


class Reader:
    """A recorded run, opened and closed as `aqpolicy trace` does."""

    def __init__(self, trained: Trained) -> None:
        """Verify, read, and close the books."""
        self.trained = trained
        self.visits, self.ending, _ = balanced(trained.run)
        names = sources_of(self.visits).names
        numbers = torch.tensor([int(name.rpartition("-")[2]) for name in names])
        self.example = numbers[self.visits.example]
        """Per visit, the number of its example."""

    def behaviour(self, x: Tensor, label: Tensor) -> Behaviour:
        """Return the margin of one picture with its gradient."""

        def margin(model: nn.Module) -> Tensor:
            return margins(model(x.unsqueeze(0)), label.unsqueeze(0)).squeeze(0)

        model = build_model(Named("model", self.trained.setup.model, None), self.ending.state)
        return measure(self.visits, model, Named("margin", margin, None))

    def trace(self, x: Tensor, labels: Tensor, level: int, damp: float = DEFAULT_DAMP) -> Traced:
        """Score all examples for the margins of pictures."""
        count, start = len(self.trained.setup.data.x), time.perf_counter()
        asked = [self.behaviour(picture, label) for picture, label in zip(x, labels, strict=True)]
        gradients = [one.gradient for one in asked]
        found, prices = [], []
        for scores in score_all(self.visits, gradients, self.ending, level=level, damp=damp):
            total = torch.zeros(count, scores.chosen.shape[1], dtype=torch.float64)
            found.append(total.index_add_(0, self.example, scores.chosen))
            prices += [] if scores.prices is None else [scores.prices]
        return Traced(torch.stack(found), prices, asked, (time.perf_counter() - start) / len(x))

    @property
    def bytes_per_visit(self) -> float:
        """Mean length of what is recorded of a visit, in bytes."""
        lengths = [len(row.sketch) for _, row in self.trained.run.rows]
        return sum(lengths) / len(lengths)
