"""The slow truth: one example after the other, in float64, with nothing of the gate in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aqpolicy.units import MICRO

from .cases import Case, trained
from .modes import Data, Mode, Step, losses


@dataclass(frozen=True)
class Truth:
    """What a step must leave.

    Shapes:
        gradients: per group those of its parameters, one after the other; norms (b, g).
    """

    groups: tuple[tuple[str, ...], ...]
    gradients: tuple[Tensor, ...]
    norms: Tensor


class Loop:
    """Every example's own gradient, per group."""

    def __init__(self, case: Case, data: Data) -> None:
        """Differentiate the examples of a small batch one by one."""
        model = case.model().double()
        x = data[0].double() if data[0].is_floating_point() else data[0]
        self._names = tuple(tuple(name for name, _ in group) for group in case.binding(model))
        known, rows = dict(trained(model)), []
        for number in range(len(x)):
            one = slice(number, number + 1)
            own = torch.autograd.grad(losses(model, (x[one], data[1][one])).sum(), list(known.values()))
            gradient = dict(zip(known, own, strict=True))
            rows.append([_joined(gradient, members) for members in self._names])
        self._own = [torch.stack(group) for group in zip(*rows, strict=True)]
        self._norms = torch.stack([group.norm(dim=1) for group in self._own], dim=1)

    def truth(self, mode: Mode) -> Truth:
        """Return what a mode must give."""
        shares = mode.shares(*self._norms.shape).double() / MICRO
        limit = torch.inf if mode.limit is None else mode.limit
        factors = shares * (limit / self._norms).clamp_max(1) / len(shares)
        sums = tuple(factors[:, number] @ group for number, group in enumerate(self._own))
        return Truth(self._names, sums, self._norms)

    def flat(self, limit: float) -> Truth:
        """Return what one limit for the whole gradient of an example gives, without shares."""
        norms = self._norms.norm(dim=1)
        factors = (limit / norms).clamp_max(1) / len(norms)
        return Truth(self._names, tuple(factors @ group for group in self._own), norms.unsqueeze(1))


def errors(step: Step, expected: Truth) -> tuple[float, float | None]:
    """Make a step and return the relative error of the worst group's gradient, and of the worst norm if it has them."""
    norms = step.run()
    given = {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in step.parameters}
    step.drop()
    worst = max(
        _relative(_joined(given, members).double() - whole, whole)
        for members, whole in zip(expected.groups, expected.gradients, strict=True)
    )
    if norms is None:
        return worst, None
    return worst, float(((norms.double().cpu() - expected.norms).abs() / expected.norms).max())


def _relative(difference: Tensor, size: Tensor) -> float:
    return float(difference.norm() / size.norm()) if size.any() else float(difference.norm())


def _joined(values: dict[str, Tensor], names: tuple[str, ...]) -> Tensor:
    return torch.cat([values[name].detach().reshape(-1).cpu() for name in names])
