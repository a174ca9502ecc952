"""The weights that a run began with, beside its log: what a book in full begins with."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from aqpolicy.errors import TraceError
from aqpolicy.trust import replace_file

FILE: Final = "start.pt"


def start_digest(weights: Mapping[str, Tensor]) -> str:
    """Return the digest of named weights: of names, types, shapes and numbers, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().to("cpu").contiguous()
        found.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        found.update(value.view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return f"sha256:{found.hexdigest()}"


def write_start(run: Path, weights: Mapping[str, Tensor]) -> None:
    """Write the weights into the run's folder; durable on return."""
    file = io.BytesIO()
    torch.save({name: value.detach().to("cpu").clone() for name, value in weights.items()}, file)
    replace_file(run / FILE, file.getvalue())


def read_start(run: Path, digest: Any) -> dict[str, Tensor]:
    """Return the weights that a run began with.

    Trust:
        The file is untrusted; `digest` is what the log's first entry says.

    Raises:
        TraceError: The file is missing, or not what the log says.
    """
    path = run / FILE
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TraceError(f"`{path}`, the weights that the run began with, cannot be read: {error}") from error
    plain = isinstance(found, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items())
    if not plain or start_digest(found) != digest:
        raise TraceError(f"`{path}` does not hold the weights that the log says the run began with; restore it")
    return dict(found)
