"""`nn.Embedding`: the only layer whose per-example gradient is sparse."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aqpolicy.errors import InternalError
from aqpolicy.gate.layers.rule import Gradients, Rule, Use


class EmbeddingRule(Rule):
    """Each row of the table collects the gradients of the positions that looked it up."""

    type_name = "Embedding"
    parameters = ("weight",)

    def refusal(self, module: Any) -> str | None:
        """Refuse the options that change the table in forward or couple examples."""
        if module.max_norm is not None:
            return "`max_norm` edits the table outside the optimizer; remove it"
        if module.scale_grad_by_freq:
            return "`scale_grad_by_freq` makes one example's gradient depend on the others; remove it"
        return "`sparse` gradients are not supported; remove it" if module.sparse else None

    def forward(self, module: Any, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Look up."""
        return torch.embedding(module.weight, x, padding_index(module)), ()

    def grad_input(self, use: Use) -> Tensor:
        """Raise: indices have no gradient, and autograd never asks."""
        raise InternalError(f"autograd asked a `{type(use.module).__name__}` for the gradient of its indices")

    def gradients(self, use: Use) -> Gradients:
        """Run the native backward kernel."""
        module: Any = use.module
        count, pad = module.num_embeddings, padding_index(module)
        gradient: Tensor = torch.ops.aten.embedding_dense_backward(use.e, use.x, count, pad, False)
        return (gradient,)

    def per_sample(self, use: Use) -> Gradients:
        """Sum into a table per example."""
        module: Any = use.module
        examples, rows = use.x.shape[0], module.num_embeddings
        e, place = self._places(use)
        table = e.new_zeros(examples * rows, e.shape[1]).index_add_(0, place, e)
        return (table.view(examples, rows, -1),)

    def squared_norms(self, use: Use) -> Tensor:
        """Sum into the rows that were looked up only, then square.

        Sorting brings equal rows of an example together, so memory follows the
        batch and not the table.
        """
        module: Any = use.module
        e, place = self._places(use)
        found, where = torch.unique(place, return_inverse=True)
        sums = e.new_zeros(found.shape[0], e.shape[1]).index_add_(0, where, e)
        squares = torch.linalg.vector_norm(sums, dim=1).square()
        owner = torch.div(found, module.num_embeddings, rounding_mode="floor")
        return e.new_zeros(use.x.shape[0]).index_add_(0, owner, squares)

    @staticmethod
    def _places(use: Use) -> tuple[Tensor, Tensor]:
        """Return the gradients (n, d) and the row of each in a table per example (n,)."""
        module: Any = use.module
        examples = use.x.shape[0]
        index = use.x.reshape(examples, -1)
        offset = torch.arange(examples, device=index.device).unsqueeze(1) * module.num_embeddings
        e, place = use.e.reshape(-1, use.e.shape[-1]), (index + offset).reshape(-1)
        if module.padding_idx is None:
            return e, place
        kept = (index != module.padding_idx).reshape(-1)
        return e[kept], place[kept]


def padding_index(module: Any) -> int:
    """Return the padding row as the kernels want it."""
    return -1 if module.padding_idx is None else int(module.padding_idx)
