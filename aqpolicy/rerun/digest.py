"""What a training has become, as one digest: parameters, buffers, and all that the optimizer remembers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aqpolicy.trust import digest_text


def training_digest(model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """Return a digest that two trainings share where every bit of model and optimizer is the same."""
    found = hashlib.sha256()
    for name, value in _leaves("", {"model": model.state_dict(), "optimizer": optimizer.state_dict()}):
        for part in (name.encode(), _bytes(value)):
            found.update(len(part).to_bytes(8, "little") + part)
    return digest_text(found.digest())


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield all that a nested state holds, each with its place, in an order that does not depend on how it was made."""
    if isinstance(value, Mapping):
        for key in sorted(value, key=lambda key: (type(key).__name__, key)):
            yield from _leaves(f"{name}/{key!r}", value[key])
    elif isinstance(value, (list, tuple)):
        for number, each in enumerate(value):
            yield from _leaves(f"{name}/{number}", each)
    else:
        yield name, value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, Tensor):
        return repr(value).encode()
    held = value.detach().to("cpu").contiguous()
    kind = f"{held.dtype} {tuple(held.shape)} ".encode()
    return kind + held.reshape(-1).view(torch.uint8).numpy().tobytes()
