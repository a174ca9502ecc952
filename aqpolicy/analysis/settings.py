"""What the checker may be told beside the policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from aqpolicy.analysis.prover import EFFORT, Deciders


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """How hard to try, and what is known about the run and the model."""

    effort: int = EFFORT
    """Bounds the solver's steps per question."""
    solver: Deciders = "bits first"
    """Who answers questions."""
    optimizer: Literal["adaptive", "plain"] = "adaptive"
    """Whether training divides gradients by their own size, as Adam does, so that a share alone bounds little."""
    starved_below: int = 0
    """A group is starved where nothing can write it above this share, in millionths."""
    parameter_counts: Mapping[str, int] | None = field(default=None, hash=False)
    """How many parameters each group has, where a model is known."""
