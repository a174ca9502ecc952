"""Probes: inputs that never change, by which representations of different times are compared.

They are copied when they are given, and named by a digest of their names, types,
shapes and bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.trust import canonical_json


class Probes:
    """Inputs of a model: one entry of every tensor's first axis for each probe."""

    def __init__(self, given: Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]) -> None:
        """Copy them.

        Args:
            given: A tensor, a tuple of positional arguments, or a mapping of keyword arguments.

        Raises:
            IllegalTrainingSetupError: They are not tensors of one number of probes, or fewer than two.
        """
        named: dict[str, Any] = {}
        if isinstance(given, Mapping):
            named = dict(given)
        else:
            named = {
                str(number): value for number, value in enumerate((given,) if isinstance(given, Tensor) else given)
            }
        if not named or not all(isinstance(value, Tensor) and value.ndim for value in named.values()):
            raise IllegalTrainingSetupError(
                "probes are a tensor, a tuple of tensors or a dict of tensors, one probe per entry of the first axis"
            )
        counts = {value.shape[0] for value in named.values()}
        if len(counts) != 1 or min(counts) < 2:
            raise IllegalTrainingSetupError("probes are at least two, and as many in every tensor")
        self.count: int = min(counts)
        self._by_name = isinstance(given, Mapping)
        self._tensors: dict[str, Tensor] = {name: value.detach().clone() for name, value in named.items()}
        self.digest = self._digest()
        """SHA-256 over names, types, shapes and bytes."""

    def cut(self, start: int, stop: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Return some probes as positional and keyword arguments."""
        parts = {name: value[start:stop] for name, value in self._tensors.items()}
        return ((), parts) if self._by_name else (tuple(parts.values()), {})

    def _digest(self) -> bytes:
        described = [[name, str(value.dtype), list(value.shape)] for name, value in self._tensors.items()]
        state = hashlib.sha256(b"aqpolicy probes\x00")
        state.update(canonical_json({"by_name": self._by_name, "tensors": described}))
        for value in self._tensors.values():
            state.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return state.digest()
