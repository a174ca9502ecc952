"""Update rules in full: what of a step is its own gradient's, what momentum's, what weight decay's.

One class per rule, each written from the documentation of its torch optimizer and
with a state of its own; the three parts add up to the change that the optimizer
makes. An optimizer that has no rule here is measured, not booked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor

Settings = Mapping[str, Any]
"""One of the optimizer's parameter groups."""

State = dict[str, Any]
"""What a rule remembers of one parameter: tensors of its shape, and numbers."""


@dataclass(frozen=True, slots=True)
class Split:
    """The change of one parameter, by what made it.

    Shapes:
        All of the parameter's.
    """

    fresh: Tensor
    carry: Tensor
    decay: Tensor

    @property
    def whole(self) -> Tensor:
        """The change."""
        return self.fresh + self.carry + self.decay


class Rule(Protocol):
    """How an optimizer makes a change of a gradient."""

    def split(self, value: Tensor, gradient: Tensor, settings: Settings, state: State) -> Split:
        """Return the change of a parameter, and bring its state to after the step.

        Shapes:
            value, gradient: the parameter's.
        """


class Sgd:
    """`torch.optim.SGD`.

    Source: the update rule in its documentation, with the first buffer as it is made there: not dampened.
    """

    def split(self, value: Tensor, gradient: Tensor, settings: Settings, state: State) -> Split:
        """Return fresh, carry and decay of one step."""
        rate, momentum, decay = -float(settings["lr"]), float(settings["momentum"]), float(settings["weight_decay"])
        own = -gradient if settings["maximize"] else gradient
        if not momentum:
            return Split(rate * own, torch.zeros_like(own), rate * decay * value)
        before = state.get("buffer")
        weight = 1.0 if before is None else 1.0 - float(settings["dampening"])
        before = torch.zeros_like(own) if before is None else before
        state["buffer"] = momentum * before + weight * (own + decay * value)
        entering, ageing = weight, momentum
        if settings["nesterov"]:
            entering, ageing = 1.0 + momentum * weight, momentum * momentum
        return Split(rate * entering * own, rate * ageing * before, rate * entering * decay * value)


class Adam:
    """`torch.optim.Adam` and `AdamW`, with amsgrad.

    The squares of gradients are taken as they are after the step: as the ground that the gradient falls on, not as
    something that it did.

    Source: the update rules in their documentation.
    """

    def split(self, value: Tensor, gradient: Tensor, settings: Settings, state: State) -> Split:
        """Return fresh, carry and decay of one step."""
        rate, decay, (beta, square) = float(settings["lr"]), float(settings["weight_decay"]), settings["betas"]
        own = -gradient if settings["maximize"] else gradient
        apart = bool(settings.get("decoupled_weight_decay"))
        taken = own if apart or not decay else own + decay * value
        step = state["step"] = state.get("step", 0) + 1
        before = state.get("first")
        before = torch.zeros_like(own) if before is None else before
        state["first"] = beta * before + (1.0 - beta) * taken
        squares = state.get("second")
        squares = torch.zeros_like(own) if squares is None else squares
        state["second"] = ground = square * squares + (1.0 - square) * taken.square()
        if settings["amsgrad"]:
            most = state.get("most")
            state["most"] = ground = ground if most is None else torch.maximum(most, ground)
        roots = ground.sqrt().div_((1.0 - square**step) ** 0.5).add_(float(settings["eps"]))
        response = (-rate / (1.0 - beta**step)) / roots
        fresh = response * (1.0 - beta) * own
        withered = -rate * decay * value if apart else response * ((1.0 - beta) * decay) * value
        return Split(fresh, response * beta * before, withered)


BOOKABLE: Final = "`SGD`, `Adam` and `AdamW`"
"""For messages."""


def rule_of(optimizer: torch.optim.Optimizer) -> Rule | None:
    """Return the rule of an optimizer; None for those that have none here, and for classes derived from others."""
    if type(optimizer) is torch.optim.SGD:
        return Sgd()
    adaptive = type(optimizer) in {torch.optim.Adam, torch.optim.AdamW}
    if adaptive and all(float(group["betas"][1]) > 0 for group in optimizer.param_groups):
        return Adam()
    return None
