"""What the gate is meant to cost at most: ratios to plain training by CPU time, and peak memory.

None of these numbers is measured here; they are promises, and a run says whether each is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

TIMES: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "transformer": {"open": 1.01, "scale": 1.03, "scale-50": 0.90, "scale-90": 0.90, "clip": 1.12, "sketch": 1.17},
        "lora": {"open": 1.01, "scale": 1.02, "scale-50": 1.0, "scale-90": 1.0, "clip": 1.02, "sketch": 1.10},
        "mlp": {"open": 1.03, "scale": 1.07, "scale-50": 0.97, "scale-90": 0.97, "clip": 1.18, "sketch": 1.35},
        "convnet": {"open": 1.03, "scale": 1.06, "scale-50": 1.0, "scale-90": 1.0, "clip": 1.40, "sketch": 1.42},
    }
)
"""By family of model and mode."""

WHOLE_STEP: Final = 0.03
"""What bundle, manifest, ledger, optimizer checks and log may add to these."""

MEMORY: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "transformer": {"scale": 1.02, "clip": 1.10},
        "lora": {"scale": 1.05, "clip": 1.05},
        "convnet": {"scale": 1.1, "clip": 2.5},
    }
)
"""Peak above the loaded model, as a ratio to plain training's."""

MLP_MEGABYTES: Final = 4.0
"""The same for the MLP, whose own peak is small, as a difference."""

GRADIENTS, NORMS = 5e-6, 1e-6
"""Relative errors against a loop in float64: the worst group's gradient, the worst norm."""

PEERS: Final[Mapping[tuple[str, str], float]] = MappingProxyType(
    {
        ("transformer", "opacus-hooks"): 1.6,
        ("transformer", "opacus-ghost"): 1.6,
        ("convnet", "opacus-hooks"): 1.6,
        ("convnet", "opacus-ghost"): 1.6,
        ("lora", "opacus-hooks"): 1.1,
        ("lora", "opacus-ghost"): 1.8,
        ("mlp", "opacus-hooks"): 15.0,
        ("mlp", "vmap"): 15.0,
    }
)
"""How many times as long as the gate's `clip` a peer takes, by family and peer."""

PEER_MEMORY: Final[Mapping[tuple[str, str], float]] = MappingProxyType({("transformer", "opacus-hooks"): 5.5})
"""How many times the gate's peak memory a peer takes."""


def memory_target(family: str, mode: str, plain: float | None) -> float | None:
    """Return the most megabytes that a mode may take where plain training takes so many."""
    if plain is None:
        return None
    if family == "mlp" and mode in {"scale", "clip"}:
        return plain + MLP_MEGABYTES
    ratio = MEMORY.get(family, {}).get(mode)
    return None if ratio is None else plain * ratio
