"""`nn.Embedding`: each row of the table collects the gradients of the positions that looked it up."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aqpolicy.errors import InternalError
from aqpolicy.gate.routing.images import Product
from aqpolicy.gate.routing.layers.rule import Gradients, Images, Rule, Use, Weights, vector_norm, widened


class EmbeddingRule(Rule):
    """A table, and one index per position."""

    type_name = "Embedding"
    parameters = ("weight",)
    positionwise = True

    def refusal(self, module: Any) -> str | None:
        """Refuse the options that change the table in forward or couple examples."""
        return table_refusal(module)

    def forward(self, module: Any, x: Tensor, weights: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Look up."""
        (table,) = weights
        return torch.embedding(table, x, padding_index(module)), ()  # type: ignore[arg-type]  # always there

    def grad_input(self, use: Use) -> Tensor:
        """Raise: indices have no gradient, and autograd never asks."""
        raise InternalError(f"autograd asked a `{type(use.module).__name__}` for the gradient of its indices")

    def gradients(self, use: Use) -> Gradients:
        """Run the native backward kernel."""
        table: Any = use.weights[0]
        return (collect(use.e, use.x, table.shape[0], padding_index(use.module)),)

    def per_sample(self, use: Use) -> Gradients:
        """Sum into a table per example."""
        table: Any = use.weights[0]
        index = use.x.reshape(use.x.shape[0], -1)
        e = use.e.reshape(*index.shape, -1)
        return (tables_by_example(widened(e), index, table.shape[0], use.module.padding_idx),)

    def squared_norms(self, use: Use) -> Tensor:
        """Sum into the rows that were looked up only, then square."""
        index = use.x.reshape(use.x.shape[0], -1)
        return sparse_norms(widened(use.e.reshape(*index.shape, -1)), index, use.module.padding_idx)

    def sketches_apart(self, use: Use) -> bool:  # noqa: ARG002 - part of the interface
        """Return that few rows of a table are looked up."""
        return True

    def sketched(self, use: Use, images: Images) -> Tensor:
        """Turn the image of each position's gradient by the bucket of its row."""
        (table,) = images
        index = use.x.reshape(use.x.shape[0], -1)
        if not isinstance(table, Product) or index.numel() == 0:
            return super().sketched(use, images)
        return rows_sketched(table, widened(use.e.reshape(*index.shape, -1)), index, use.module.padding_idx)


def table_refusal(module: Any) -> str | None:
    """Return why a table with these options has no gradient of its own per example, or None."""
    if module.max_norm is not None:
        return "`max_norm` edits the table outside the optimizer; remove it"
    if module.scale_grad_by_freq:
        return "`scale_grad_by_freq` makes one example's gradient depend on the others; remove it"
    return "`sparse` gradients are not supported; remove it" if module.sparse else None


def padding_index(module: Any) -> int:
    """Return the padding row as the kernels want it."""
    return -1 if module.padding_idx is None else int(module.padding_idx)


def collect(e: Tensor, index: Tensor, rows: int, padding: int = -1) -> Tensor:
    """Return a table (rows, d) in which each row is the sum of the gradients of its positions."""
    table: Tensor = torch.ops.aten.embedding_dense_backward(e, index, rows, padding, False)
    return table


def tables_by_example(e: Tensor, index: Tensor, rows: int, padding: int | None) -> Tensor:
    """Return a table per example, (b, t, d) and (b, t) -> (b, rows, d)."""
    count = index.shape[0]
    offset = torch.arange(count, device=index.device).unsqueeze(1) * rows
    tables = collect(e, index + offset, count * rows).view(count, rows, -1)
    if padding is not None:
        tables[:, padding] = 0
    return tables


def rows_sketched(table: Product, e: Tensor, index: Tensor, padding: int | None) -> Tensor:
    """Return the images of tables whose rows are sums of the gradients of their positions, (b, t, d) and (b, t)."""
    held = e if padding is None else e.masked_fill((index == padding).unsqueeze(2), 0)
    return table.of_products(index, held)


def sparse_norms(e: Tensor, index: Tensor, padding: int | None) -> Tensor:
    """Return the squared norm of each example's table without making it, (b, t, d) and (b, t) -> (b,).

    Sorting brings the equal indices of an example together, so memory follows the
    batch and not the table.
    """
    ordered, order = index.sort(dim=1)
    first = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[:, 1:], ordered[:, :-1], out=first[:, 1:])
    run = first.flatten().cumsum(0).view_as(index) - 1
    place = torch.empty_like(run).scatter_(1, order, run)
    if padding is not None:
        first &= ordered != padding
    squares = vector_norm(_collect_runs(e, place, run), 1).square()
    return torch.where(first, squares.take(run), squares.new_zeros(())).sum(1)


def _collect_runs(e: Tensor, place: Tensor, run: Tensor) -> Tensor:
    """Return the sum of the gradients of each run of equal indices, (runs, d)."""
    if e.device.type != "cpu":
        # One row per position suffices: asking for the number of runs would stop the device.
        return collect(e, place, run.numel())
    count = int(run[-1, -1]) + 1 if run.numel() else 0
    return e.new_zeros(count, e.shape[2]).index_add_(0, place.flatten(), e.flatten(0, 1))
