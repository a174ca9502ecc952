"""Read what a device has computed: every question waits until the device is done, so all are asked at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def read(scalars: Sequence[Tensor]) -> list[float]:
    """Return numbers of one device, with one wait for all of them.

    Shapes:
        scalars: ().
    """
    if not scalars or not scalars[0].is_cuda:
        return [scalar.item() for scalar in scalars]
    numbers: list[float] = torch.stack(list(scalars)).tolist()
    return numbers


def all_equal(ones: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Return whether tensors of finite numbers are equal in pairs, with one wait for all of them.

    Shapes:
        ones, others: any, the same in a pair.
    """
    if not ones or not ones[0].is_cuda:
        return all(map(torch.equal, ones, others))
    return not any(read(largest(list(torch._foreach_sub(list(ones), list(others))))))  # noqa: SLF001 - one launch for all


def largest(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the largest absolute value of every tensor; no number where one is none.

    Shapes:
        tensors: any -> ().
    """
    # One without numbers has no largest.
    some = [tensor if tensor.numel() else tensor.new_zeros(1) for tensor in tensors]
    return torch._foreach_norm(some, float("inf")) if some else ()  # noqa: SLF001 - one launch for all
