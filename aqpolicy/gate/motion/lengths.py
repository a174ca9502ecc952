"""l2 norms of many tensors: good to seven digits at least, in a few launches."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

_SHORT: Final = 4096
_RUN: Final = 64
_SINGLE: Final = 4
"""Bytes of a number in single precision."""


def lengths(tensors: list[Tensor]) -> list[float]:
    """Return the l2 norm of every tensor, good to seven digits at least.

    Short ones are converted to double precision. For a long one that takes fifty times as long, and a single sum over
    it in single precision is off in the fifth digit; so it is measured in runs of a few numbers.
    """
    if not tensors:
        return []
    if tensors[0].is_cuda:
        found: list[float] = torch.stack(list(torch._foreach_norm(tensors, 2, torch.float64))).tolist()  # noqa: SLF001 - one launch for all
        return found
    flat = [tensor.reshape(-1) for tensor in tensors]
    short = iter(_short([one for one in flat if one.numel() <= _SHORT]))
    return [next(short) if one.numel() <= _SHORT else _long(one) for one in flat]


def _short(flat: list[Tensor]) -> list[float]:
    if not flat:
        return []
    parts = torch.cat(flat).double().split_with_sizes([one.numel() for one in flat])
    return [norm.item() for norm in torch._foreach_norm(list(parts))]  # noqa: SLF001 - one launch for all


def _long(flat: Tensor) -> float:
    flat = flat if flat.itemsize >= _SINGLE else flat.float()
    whole = flat.numel() - flat.numel() % _RUN
    runs, rest = torch.linalg.vector_norm(flat[:whole].view(-1, _RUN), dim=1), flat[whole:]
    return math.hypot(runs.double().norm().item(), rest.double().norm().item())
