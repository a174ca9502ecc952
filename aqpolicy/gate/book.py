"""What the optimizer did with what the gate let through: movement per group, and whether the books close.

For `torch.optim.SGD` the step is computed a second time, from the applied
gradient and momentum buffers of its own; the residual compares it with what
really happened. Other optimizers are measured, not booked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.groups import Group
from aqpolicy.lineage import NOT_BOOKED

_PER_PARAMETER: Final = frozenset({"params"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of the optimizer.

    Units:
        movement: l2 norm of the change; residual: relative to the movement, `NOT_BOOKED` where not reconstructed.
    """

    optimizer: str
    lr: float
    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool
    movement: tuple[float, ...]
    residual: tuple[float, ...]
    closed: tuple[bool, ...]


class Bookkeeper:
    """The second set of books of one optimizer."""

    def __init__(self, optimizer: torch.optim.Optimizer, groups: Sequence[Group]) -> None:
        """Start with empty momentum buffers.

        Raises:
            IllegalTrainingSetupError: The optimizer has stepped before, or needs more than one set of settings.
        """
        self.optimizer, self.groups = optimizer, groups
        self.name = type(optimizer).__name__
        self.exact = type(optimizer) is torch.optim.SGD
        self._buffers: dict[int, Tensor] = {}
        if any(float(state.get("step", 1.0)) for state in optimizer.state.values()):  # Adagrad has a state at once
            raise IllegalTrainingSetupError("the optimizer has stepped before; attach a fresh one")
        self.settings()

    def settings(self) -> dict[str, Any]:
        """Return the optimizer's settings.

        Raises:
            IllegalTrainingSetupError: Its parameter groups differ; the log books one set per step.
        """
        first, *rest = (
            {key: value for key, value in group.items() if key not in _PER_PARAMETER}
            for group in self.optimizer.param_groups
        )
        if any(other != first for other in rest):
            raise IllegalTrainingSetupError(
                "the optimizer's parameter groups have different settings; give all parameters the same in this version"
            )
        return first

    def expected(self, before: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return the movement of every parameter that SGD makes of these gradients; None where it makes none.

        Source: the update rule in the documentation of `torch.optim.SGD`.
        """
        settings = self.settings()
        return [
            None if gradient is None else self._step(number, value, gradient, settings)
            for number, (value, gradient) in enumerate(zip(before, gradients, strict=True))
        ]

    def _step(self, number: int, value: Tensor, gradient: Tensor, settings: dict[str, Any]) -> Tensor:
        direction = -gradient if settings["maximize"] else gradient
        if settings["weight_decay"]:
            direction = direction.add(value, alpha=settings["weight_decay"])
        if settings["momentum"]:
            buffer = self._buffers.get(number)
            if buffer is None:
                buffer = self._buffers[number] = direction.clone()
            else:
                buffer.mul_(settings["momentum"]).add_(direction, alpha=1 - settings["dampening"])
            direction = direction.add(buffer, alpha=settings["momentum"]) if settings["nesterov"] else buffer
        return direction * -float(settings["lr"])

    def entry(
        self, deltas: Sequence[Tensor], expected: Sequence[Tensor | None] | None, closed: Sequence[bool]
    ) -> Entry:
        """Return the record of a step that has moved the parameters."""
        settings = self.settings()
        movement = self._norms(deltas)
        residual = [NOT_BOOKED] * len(movement)
        if expected is not None:
            pairs = zip(deltas, expected, strict=True)
            errors = self._norms([delta if other is None else delta - other for delta, other in pairs])
            residual = [error / size if size else error for error, size in zip(errors, movement, strict=True)]
        return Entry(
            optimizer=self.name,
            lr=float(settings["lr"]),
            momentum=float(settings.get("momentum", 0.0)),
            dampening=float(settings.get("dampening", 0.0)),
            weight_decay=float(settings.get("weight_decay", 0.0)),
            nesterov=bool(settings.get("nesterov", False)),
            movement=tuple(movement),
            residual=tuple(residual),
            closed=tuple(closed),
        )

    def _norms(self, tensors: Sequence[Tensor]) -> list[float]:
        """Return the l2 norm per group of one tensor per parameter."""
        if not tensors:
            return [0.0] * len(self.groups)
        norms = torch.stack(list(torch._foreach_norm(list(tensors)))).double().tolist()  # noqa: SLF001 - one launch for all
        sizes, at = [], 0
        for group in self.groups:
            count = len(group.parameters)
            sizes.append(sum(norm * norm for norm in norms[at : at + count]) ** 0.5)
            at += count
        return sizes
