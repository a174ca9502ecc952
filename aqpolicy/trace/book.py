"""The double-entry book of a run: how far one gradient of step s moves the final weights.

The run is linear in the gradients given its own learning rates, so every update
has an exact impulse response on the final weights: a scalar per step and group
for SGD, plain, with momentum, Nesterov momentum and weight decay. A group that
was closed in a step neither moves nor ages its momentum there; one that was put
back or scaled after the step ages it all the same. It estimates nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

EXACT: Final = "SGD"
"""The optimizer that has an exact scalar response here, as torch calls its class."""


ADAPTIVE: Final = ("Adam", "AdamW")
"""Optimizers whose response is a number per weight: traced where what was written is recorded in full."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What one step did to one group, beside its gradient."""

    lr: float
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    closed: bool = False
    factor: float = 1.0
    """What was left of the step in the end."""
    clip: float = 1.0
    """What the gradient was multiplied by before the optimizer saw it."""


@dataclass(frozen=True, slots=True)
class Impulse:
    """theta_T = `opening` * theta_0 + sum over steps of `rho[s]` * gradient(s).

    Shapes:
        rho (steps); exactly 0 where the group was closed.
    """

    rho: tuple[float, ...]
    opening: float


def impulse(terms: Sequence[Terms]) -> Impulse:
    """Return the impulse response of one group, by one backward pass over scalars.

    Source: the recursion follows `torch.optim.SGD` step for step, adjoint by
    adjoint: `p` belongs to the weights after the step, `r` to the momentum buffer.
    """
    opened = [number for number, term in enumerate(terms) if not term.closed]
    first = opened[0] if opened else -1
    rho = [0.0] * len(terms)
    p, r = 1.0, 0.0
    for number in reversed(opened):
        term = terms[number]
        d = -term.lr * term.factor * p
        if term.momentum:
            r += d * (term.momentum if term.nesterov else 1.0)
            gradient = r * (1.0 if number == first else 1.0 - term.dampening) + (d if term.nesterov else 0.0)
            r *= term.momentum
        else:
            gradient = d
        p += term.weight_decay * gradient
        rho[number] = term.clip * gradient
    return Impulse(tuple(rho), p)
