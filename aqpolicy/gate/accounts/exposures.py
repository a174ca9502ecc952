"""How often one budget has charged each example."""

from __future__ import annotations

import torch
from torch import Tensor


class Exposures:
    """Counts of one budget, by index of the manifest; one more place counts what does not count."""

    def __init__(self, limit: int, examples: int) -> None:
        """Start with nothing shown."""
        self._limit, self._nowhere = limit, examples
        self._booked = torch.zeros(examples + 1, dtype=torch.int64, device="cpu")
        self._open = torch.zeros(examples + 1, dtype=torch.int64, device="cpu")
        """Drafts of this step in its parts so far."""
        self._touched: list[Tensor] = []

    @property
    def shown(self) -> Tensor:
        """How often each example was charged."""
        return self._booked[: self._nowhere]

    def begin_step(self) -> None:
        """Forget what an uncompleted step drafted."""
        for index in self._touched:
            self._open.index_fill_(0, index, 0)
        self._touched.clear()

    def used_up(self, index: Tensor, reached: Tensor) -> Tensor:
        """Return which of the visits that the budget reaches are one too many, and note them all as drafted.

        Shapes:
            index (b,), reached (b,).
        """
        who = index.masked_fill(~reached, self._nowhere)
        count = self._booked.index_select(0, who) + self._open.index_select(0, who)
        if len(set(index.tolist())) < len(index):
            count += _earlier(who)
        self._open.index_add_(0, who, torch.ones_like(who))
        self._touched.append(who)
        return (count >= self._limit) & reached

    def book(self, index: Tensor, reached: Tensor) -> None:
        """Count visits that were charged."""
        self._booked.index_add_(0, index.masked_fill(~reached, self._nowhere), torch.ones_like(index))

    def restore(self, shown: Tensor) -> None:
        """Go on from what `shown` was.

        Raises:
            ValueError: It counts other examples.
        """
        if shown.dtype != torch.int64 or shown.shape != self.shown.shape or bool((shown < 0).any()):
            raise ValueError("not one count per example")
        self.shown.copy_(shown)


def _earlier(who: Tensor) -> Tensor:
    """Return how many earlier visits in this list are of the same example."""
    order = who.argsort(stable=True)
    ranked, place = who.index_select(0, order), torch.arange(len(who), device="cpu")
    first = torch.searchsorted(ranked, ranked)
    return torch.empty_like(who).index_copy_(0, order, place - first)
