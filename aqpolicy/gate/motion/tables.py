"""Embedding tables: which rows a step wrote to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aqpolicy.gate.routing.groups import Group

EmbeddingTables = tuple[tuple[int, int, Tensor], ...]
"""Number of the depth group, position of the parameter among the group's, and the parameter."""

Touched = tuple[tuple[int, int, tuple[int, ...]], ...]


def embedding_tables(model: nn.Module, groups: Sequence[Group]) -> EmbeddingTables:
    """Return the trained tables of `nn.Embedding` and `nn.EmbeddingBag`, in the order of groups and parameters."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, (nn.Embedding, nn.EmbeddingBag))}
    return tuple(
        (group.index, position, parameter)
        for group in groups
        for position, parameter in enumerate(group.parameters)
        if id(parameter) in tables
    )


def touched_rows(tables: EmbeddingTables) -> Touched:
    """Return the rows of every table whose gradient is not 0; tables without any are left out.

    The sum of absolute values, since small squares would vanish.
    """
    found = []
    for group, position, table in tables:
        if table.grad is None:
            continue
        rows = torch.linalg.vector_norm(table.grad, ord=1, dim=1).nonzero().squeeze(1).tolist()
        if rows:
            found.append((group, position, tuple(rows)))
    return tuple(found)
