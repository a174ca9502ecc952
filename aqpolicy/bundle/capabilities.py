"""Which modules the gate can route exactly, by the names of their types.

The compiler refuses the rest when a policy is bound to a model (AQ321); the
gate refuses them again when it is attached.
"""

from __future__ import annotations

from typing import Final

SUPPORTED_MODULES: Final = frozenset({"Linear", "Conv1d", "Conv2d", "Embedding", "LayerNorm", "GroupNorm"})
"""Types with parameters of their own whose gradient the gate can weigh per example and per group."""

MIXING_MODULES: Final = frozenset(
    {
        "BatchNorm1d",
        "BatchNorm2d",
        "BatchNorm3d",
        "LazyBatchNorm1d",
        "LazyBatchNorm2d",
        "LazyBatchNorm3d",
        "SyncBatchNorm",
    }
)
"""Types that mix the examples of a batch, so that no example has a gradient of its own, with parameters or without."""
