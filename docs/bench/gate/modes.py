"""What the gate is asked for, and a forward and backward pass under it: no optimizer, no log.

The whole step is `whole`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from aqpolicy.bundle import NO_LIMIT, Row, Tables
from aqpolicy.gate import SketchPlan
from aqpolicy.gate.routing.backward import Backward, Weights
from aqpolicy.gate.routing.groups import Group, bind_groups
from aqpolicy.units import MICRO

from .cases import Case, trained


@dataclass(frozen=True)
class Mode:
    """What is asked for."""

    key: str
    title: str
    zeros: float | None = None
    """Part of the examples that are denied everywhere; the others have shares in 0 to 1.5. None: all shares are 1."""
    limit: float | None = None
    measure: bool = False
    sketch: bool = False

    def shares(self, examples: int, groups: int) -> Tensor:
        """Return shares in millionths, always the same.

        Shapes:
            (examples, groups), int64.
        """
        if self.zeros is None:
            return torch.full((examples, groups), MICRO)
        dice = torch.Generator().manual_seed(2)
        dense = (torch.rand(examples, groups, generator=dice) * 1.5 * MICRO).long().clamp_min(1)
        admitted = torch.rand(examples, 1, generator=dice) >= self.zeros
        admitted[0] = True
        return dense * admitted


MODES = (
    Mode("open", "open, decisions"),
    Mode("scale", "scale, all shares differ", zeros=0),
    Mode("scale-50", "scale, half of the rows 0", zeros=0.5),
    Mode("scale-90", "scale, 90 % of the rows 0", zeros=0.9),
    Mode("open-norms", "open, norms recorded", measure=True),
    Mode("norms", "scale, norms recorded", zeros=0, measure=True),
    Mode("clip", "scale, norm limits, norms", zeros=0, limit=1.0, measure=True),
    Mode("sketch", "the same with sketches", zeros=0, limit=1.0, measure=True, sketch=True),
)
BY_KEY = {mode.key: mode for mode in MODES}
CLIP = BY_KEY["clip"]


@dataclass(frozen=True)
class Step:
    """One way to make a step of a model: it leaves gradients, or has moved the parameters."""

    run: Callable[[], Tensor | None]
    """Makes the step; returns norms, shape (b, g), where it has them."""
    parameters: list[tuple[str, nn.Parameter]]
    close: Callable[[], None] = lambda: None

    def drop(self) -> None:
        """Forget the gradients."""
        for _, parameter in self.parameters:
            parameter.grad = None


Data = tuple[Tensor, Tensor]


def on(data: Data, device: str) -> Data:
    """Return a batch on a device."""
    return data[0].to(device), data[1].to(device)


def losses(model: nn.Module, data: Data) -> Tensor:
    """Return one loss per example."""
    return functional.cross_entropy(model(data[0]), data[1], reduction="none")


def plain_step(model: nn.Module, data: Data) -> Step:
    """Return forward, loss and backward as everyone writes them."""

    def run() -> None:
        functional.cross_entropy(model(data[0]), data[1]).backward()

    return Step(run, list(trained(model)))


def groups_of(case: Case, model: nn.Module) -> tuple[Group, ...]:
    """Return the case's depth groups in a model."""
    binding = case.binding(model)
    return bind_groups(model, [f"g{number}" for number in range(len(binding))], binding)


def gated_step(case: Case, mode: Mode, model: nn.Module, data: Data) -> Step:
    """Return the same under the gate."""
    groups, examples = groups_of(case, model), len(data[1])
    names = tuple(group.name for group in groups)
    limit = NO_LIMIT if mode.limit is None else round(mode.limit * MICRO)
    row = Row("modulate", "granted", (MICRO,) * len(names), (limit,) * len(names), (), (), "measured")
    tables = Tables(names, (), (row,), {}, ())
    plan = SketchPlan(tuple(group.shapes for group in groups)) if mode.sketch else None
    gate = Backward(model, groups, tables, measure=mode.measure, plan=plan)
    shares, route = mode.shares(examples, len(groups)), torch.zeros(examples, dtype=torch.long)

    def run() -> Tensor | None:
        gate.open(examples)
        found = gate.run(losses(model, data), Weights(shares, route, float(examples)))
        gate.shut()
        return found.norms if mode.measure else None

    return Step(run, list(trained(model)), gate.detach)
