"""`nn.EmbeddingBag` with one bag per example: the rows of a bag are summed, averaged, or the largest taken."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from aqpolicy.errors import InternalError
from aqpolicy.gate.routing.images import Product
from aqpolicy.gate.routing.layers.embedding import padding_index, rows_sketched, table_refusal, tables_by_example
from aqpolicy.gate.routing.layers.native import differentiate
from aqpolicy.gate.routing.layers.rule import Gradients, Images, Rule, Use, Weights, vector_norm, widened

MODES: Final = ("sum", "mean", "max")
"""In the order of the kernel's numbers."""


class EmbeddingBagRule(Rule):
    """A table, and one bag of indices per example."""

    type_name = "EmbeddingBag"
    parameters = ("weight",)

    def refusal(self, module: Any) -> str | None:
        """Refuse the options that change the table in forward, couple examples, or shift the bags."""
        if module.include_last_offset:
            return "`include_last_offset` needs offsets; give it one row of indices per example instead"
        return table_refusal(module)

    def input_refusal(self, module: Any, x: Tensor) -> str | None:  # noqa: ARG002 - part of the interface
        """Refuse bags that are given by offsets."""
        return None if x.dim() == 2 else "bags given by offsets have no example axis; give one row of indices per bag"

    def forward(self, module: Any, x: Tensor, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Look up and gather; keep which rows were the largest, and how many rows counted."""
        out, _, sizes, largest = _look_up(module, x, weights[0])
        return out, (largest, sizes) if module.mode == "max" else ()

    def grad_input(self, use: Use) -> Tensor:
        """Raise: indices have no gradient, and autograd never asks."""
        raise InternalError(f"autograd asked a `{type(use.module).__name__}` for the gradient of its indices")

    def gradients(self, use: Use) -> Gradients:
        """Ask autograd."""
        return differentiate(lambda table: _look_up(use.module, use.x, table)[0], use.weights, (True,), use.e)

    def per_sample(self, use: Use) -> Gradients:
        """Sum into a table per example."""
        table: Any = use.weights[0]
        e, rows = widened(use.e), table.shape[0]
        if use.module.mode == "max":
            largest, sizes = use.saved
            placed = e.new_zeros(e.shape[0], rows, e.shape[1])
            found = torch.where(sizes.unsqueeze(1) > 0, e, torch.zeros_like(e)).unsqueeze(1)
            return (placed.scatter_(1, largest.clamp_min(0).unsqueeze(1), found),)
        return (tables_by_example(self._spread(use, e).contiguous(), use.x, rows, use.module.padding_idx),)

    def squared_norms(self, use: Use) -> Tensor:
        """Count how often an example names each row; of the largest, no entry is named twice."""
        e = widened(use.e)
        if use.module.mode == "max":
            return torch.where(use.saved[1] > 0, vector_norm(e, 1).square(), e.new_zeros(()))
        alike = use.x.unsqueeze(2) == use.x.unsqueeze(1)
        pairs = (alike & self._counted(use).unsqueeze(2)).sum((1, 2))
        return vector_norm(self._each(use, e), 1).square() * pairs

    def sketched(self, use: Use, images: Images) -> Tensor:
        """Turn the image of each bag's gradient by the buckets of its rows; of the largest, make the table."""
        (table,) = images
        if use.module.mode == "max" or not isinstance(table, Product):
            return super().sketched(use, images)
        return rows_sketched(table, self._spread(use, widened(use.e)), use.x, use.module.padding_idx)

    @staticmethod
    def _counted(use: Use) -> Tensor:
        pad = use.module.padding_idx
        return torch.ones_like(use.x, dtype=torch.bool) if pad is None else use.x != pad

    def _spread(self, use: Use, e: Tensor) -> Tensor:
        """Return the same for every place in the bag, (b, n, d)."""
        return self._each(use, e).unsqueeze(1).expand(-1, use.x.shape[1], -1)

    def _each(self, use: Use, e: Tensor) -> Tensor:
        """Return the gradient of every row that a bag names, (b, d)."""
        if use.module.mode == "sum":
            return e
        return e / self._counted(use).sum(1, keepdim=True).clamp_min(1)


def _look_up(module: Any, x: Tensor, table: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    offsets = torch.arange(0, x.numel(), x.shape[1], dtype=x.dtype, device=x.device)
    mode, pad = MODES.index(module.mode), padding_index(module)
    # Not the public function: it takes a shortcut, and rounds otherwise, where no gradient is asked for.
    found: tuple[Tensor, Tensor, Tensor, Tensor] = torch.ops.aten._embedding_bag(  # noqa: SLF001 - see above
        table, x.reshape(-1), offsets, False, mode, False, None, False, pad
    )
    return found
