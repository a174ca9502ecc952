"""Uses of one group that share parameters: their gradients add up before a norm is taken.

Uses of one layer by another road (the same module twice, the steps of a
recurrence) become one use with more positions. An embedding tied to a linear
head has its cross term in closed form. Everything else that shares is made dense:
every example's own gradient is formed and added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from aqpolicy.gate.routing.arrival import Arrival, Total
from aqpolicy.gate.routing.layers import Use
from aqpolicy.gate.routing.layers.embedding import EmbeddingRule
from aqpolicy.gate.routing.layers.linear import LinearRule
from aqpolicy.gate.routing.layers.rule import sum_of_squares


class Sharing:
    """How the uses of a group are measured: `dense` need every example's own gradient, the rest do not."""

    def __init__(self, major: Sequence[Arrival]) -> None:
        """Sort example-major arrivals."""
        used = [id(parameter) for arrival in major for parameter in arrival.held if parameter is not None]
        merged: list[Arrival] = list(major)
        shared: list[Arrival] = []
        if len(set(used)) < len(used):
            merged = _merged(major)
            counts = Counter(id(parameter) for arrival in merged for parameter in arrival.held if parameter is not None)
            shared = [a for a in merged if any(p is not None and counts[id(p)] > 1 for p in a.held)]
        pair = _tied_embedding(shared)
        self.uses = merged
        self.dense = [
            a
            for a in merged
            if (pair is None and any(a is other for other in shared)) or a.use.rule.materialises(a.use)
        ]
        if pair is not None:  # the closed form needs both, measured apart
            self.dense = [a for a in self.dense if not any(a is one for one in pair)]
        self._rest: Tensor | None = None
        rest = [a for a in merged if not any(a is other for other in self.dense)]
        if rest:
            squares = [a.use.rule.squared_norms(a.use) for a in rest]
            self._rest = squares[0] if len(squares) == 1 else torch.stack(squares).sum(0)
        if pair is not None and self._rest is not None:
            self._rest = (self._rest + 2 * _cross(pair[0].use, pair[1].use)).clamp_min(0)

    def squares(self, start: int, stop: int, own: Total) -> Tensor:
        """Return the squared norms of a run of examples, whose own gradients of the dense uses are given."""
        rest = self._rest
        if rest is not None and stop - start < len(rest):
            rest = rest[start:stop]
        if not own:
            if rest is None:
                raise AssertionError("a group without uses was measured")
            return rest
        squares = sum_of_squares(tuple(own.values()))
        return squares if rest is None else squares + rest.to(squares.dtype)


def _merged(major: Sequence[Arrival]) -> list[Arrival]:
    """Return the arrivals with positionwise uses of the very same parameters put together along their positions."""
    merged: dict[object, Arrival] = {}
    for number, arrival in enumerate(major):
        use = arrival.use
        whole = type(use) is Use and use.rule.positionwise
        key: object = (use.rule, *(id(p) for p in arrival.held), use.wanted) if whole else number
        before = merged.get(key)
        merged[key] = arrival if before is None else Arrival(arrival.held, _joined(before.use, use))
    return list(merged.values())


def _joined(one: Use, other: Use) -> Use:
    """Return one use with the positions of both."""
    trailing = one.rule.trailing(one.module)
    saved = tuple(_along(*pair, keep=trailing) for pair in zip(one.saved, other.saved, strict=True))
    if one.x.is_floating_point():
        return replace(
            one, x=_along(one.x, other.x, keep=trailing), saved=saved, e=_along(one.e, other.e, keep=trailing)
        )
    return replace(one, x=_along(one.x, other.x, keep=0), saved=saved, e=_along(one.e, other.e, keep=1))


def _along(one: Tensor, other: Tensor, *, keep: int) -> Tensor:
    """Join (b, ..., d) tensors along one axis of positions; `keep` trailing axes are no positions."""
    parts = [t.reshape(t.shape[0], -1, *t.shape[t.dim() - keep :]) for t in (one, other)]
    return torch.cat(parts, dim=1)


def _tied_embedding(shared: Sequence[Arrival]) -> tuple[Arrival, Arrival] | None:
    """Return an embedding and a linear head that share a table, where nothing else is shared."""
    if len(shared) != 2:
        return None
    by_rule = {type(arrival.use.rule): arrival for arrival in shared}
    table, head = by_rule.get(EmbeddingRule), by_rule.get(LinearRule)
    if table is None or head is None or table.held[0] is not head.held[0]:
        return None
    return (table, head) if type(table.use) is Use and type(head.use) is Use else None


def _cross(table: Use, head: Use) -> Tensor:
    """Return the inner product of each example's two gradients of a shared table, without forming either.

    Row v of the head's gradient is the sum over its positions s of e[s, v] x[s]; the
    embedding's is the sum over positions t that looked v up of its own e[t].
    """
    examples = table.e.shape[0]
    ids, e = table.x.reshape(examples, -1), table.e.reshape(examples, -1, table.e.shape[-1])
    wide, x = (t.reshape(examples, -1, t.shape[-1]) for t in (head.e, head.x))
    looked_up = wide.gather(2, ids.unsqueeze(1).expand(-1, wide.shape[1], -1))
    inner = torch.bmm(x, e.transpose(1, 2))
    padding = table.module.padding_idx
    if padding is not None:
        inner = inner.masked_fill((ids == padding).unsqueeze(1), 0)
    return (looked_up * inner).sum((1, 2))
