"""Modules whose output for one example depends on the others, refused by type; what else mixes, the probe finds."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from aqpolicy.bundle import MIXING_MODULES
from aqpolicy.errors import UnsupportedLayerError


def mixing_modules(model: nn.Module) -> tuple[nn.Module, ...]:
    """Return the modules that mix examples while they are in training mode.

    Raises:
        UnsupportedLayerError: One is in training mode; it is named.
    """
    found = []
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) or type(module).__name__ in MIXING_MODULES:
            found.append(module)
            if module.training or not getattr(module, "track_running_stats", True):
                raise UnsupportedLayerError(
                    f"module `{name}` of type `{type(module).__name__}` mixes examples, so no example has a gradient "
                    "of its own; freeze it with .eval(), which keeps its running statistics, or use GroupNorm"
                )
    return tuple(found)


def refuse_mixing(modules: Sequence[nn.Module]) -> None:
    """Refuse mixing modules that have been put back into training mode.

    Raises:
        UnsupportedLayerError: One has.
    """
    if any(module.training for module in modules):
        raise UnsupportedLayerError(
            "a batch normalisation was put into training mode after attaching (model.train() does that); "
            "call .eval() on it again before the step"
        )
