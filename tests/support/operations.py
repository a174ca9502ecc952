"""Gated gradients of any model, and the loop over examples that they must equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from aqpolicy.bundle.tables import NO_LIMIT
from aqpolicy.gate.routing.backward import Backward, Weights
from aqpolicy.gate.routing.groups import Group
from aqpolicy.units import MICRO

Loss = Callable[[nn.Module], Tensor]
"""From a model to one number per example."""


def cut(model: nn.Module, prefixes: Sequence[Sequence[str]] = (("",),)) -> tuple[Group, ...]:
    """Return the trained parameters in groups; a parameter goes to the first group that has a prefix of its name."""
    known = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    groups, taken = [], set()
    for number, prefix in enumerate(prefixes):
        own = [(name, value) for name, value in known if name.startswith(tuple(prefix)) and name not in taken]
        taken |= {name for name, _ in own}
        groups.append(Group(number, f"g{number}", tuple(n for n, _ in own), tuple(p for _, p in own)))
    return tuple(groups)


class Operated:
    """A model under the gate's backward pass, without policy, optimizer or log."""

    def __init__(self, model: nn.Module, groups: Sequence[Group], limits: Tensor | None = None) -> None:
        self.model = model
        rows = [[NO_LIMIT] * len(groups)] if limits is None else (limits * MICRO).round().long().tolist()
        tables: Any = SimpleNamespace(rows=[SimpleNamespace(norms=tuple(row)) for row in rows])
        self.limited = limits is not None
        self.backward = Backward(model, groups, tables, measure=self.limited, plan=None)
        self.norms = torch.empty(0)

    @property
    def slow(self) -> tuple[str, ...]:
        return self.backward.slow

    def differentiate(self, loss_of: Loss, shares: Tensor, segments: Tensor | None = None) -> None:
        """Fill the gradients; shares are (b, groups)."""
        examples = len(shares)
        route = torch.arange(examples) if self.limited else torch.zeros(examples, dtype=torch.long)
        weights = Weights((shares * MICRO).round().long().cpu(), route.cpu(), float(examples))
        self.backward.open(examples, segments)
        try:
            self.norms = self.backward.run(loss_of(self.model), weights).norms
        finally:
            self.backward.shut()

    def remove(self) -> None:
        self.backward.detach()


def gated(
    model: nn.Module,
    loss_of: Loss,
    groups: Sequence[Group],
    shares: Tensor,
    limits: Tensor | None = None,
    segments: Tensor | None = None,
) -> Operated:
    """Return the model with its gated gradients."""
    operated = Operated(model, groups, limits)
    try:
        model.zero_grad()
        operated.differentiate(loss_of, shares, segments)
    finally:
        operated.remove()
    return operated


def by_loop(
    model: nn.Module, loss_of: Loss, groups: Sequence[Group], shares: Tensor, limits: Tensor | None
) -> tuple[dict[str, Tensor], Tensor]:
    """Return gated gradients by name, and norms (b, groups), from one backward pass per example and group."""
    examples = len(shares)
    loss = loss_of(model)
    total = {
        name: torch.zeros_like(p) for group in groups for name, p in zip(group.names, group.parameters, strict=True)
    }
    norms = torch.zeros(examples, len(groups), dtype=torch.float64)
    for i in range(examples):
        for g, group in enumerate(groups):
            if not group.parameters:
                continue
            own = torch.autograd.grad(loss[i], group.parameters, retain_graph=True, materialize_grads=True)
            norm = torch.cat([part.flatten() for part in own]).norm().double()
            norms[i, g] = norm
            cap = 1.0 if limits is None else min(1.0, float(limits[i, g]) / float(norm)) if norm > 0 else 1.0
            for name, part in zip(group.names, own, strict=True):
                total[name] += float(shares[i, g]) * cap * part / examples
    return total, norms


def assert_equals_loop(
    model: nn.Module,
    loss_of: Loss,
    prefixes: Sequence[Sequence[str]] = (("",),),
    *,
    examples: int = 4,
    tolerance: float = 1e-12,
    bitwise: bool = True,
    segments: Tensor | None = None,
    before: Callable[[], object] = lambda: None,
) -> Operated:
    """Compare with shares alone, with limits, and with plain autograd where everything is admitted.

    The last is bit by bit, unless something that is computed from parameters alone is used twice: then gradients
    are added in another order.
    """
    groups = cut(model, prefixes)
    torch.manual_seed(3)
    shares = (torch.rand(examples, len(groups)).double() * 1.5 * MICRO).round() / MICRO
    shares[0, 0] = 0.0
    before()
    plain = loss_of(model)
    before()
    _, found = by_loop(model, loss_of, groups, shares, None)
    median = (found.median(0).values * MICRO).ceil() / MICRO
    for limits in (None, median.expand(examples, -1)):
        before()
        total, norms = by_loop(model, loss_of, groups, shares, limits)
        before()
        operated = gated(model, loss_of, groups, shares, limits, segments)
        for name, parameter in model.named_parameters():
            if name in total:
                got = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                assert (got - total[name]).norm() <= tolerance * max(float(total[name].norm()), 1e-9), name
        if limits is not None:
            assert torch.allclose(operated.norms, norms.cpu(), rtol=tolerance * 10, atol=1e-12)
    model.zero_grad()
    plain.backward(torch.ones_like(plain) / examples)
    want = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    before()
    gated(model, loss_of, groups, torch.ones(examples, len(groups)), None, segments)
    for name, parameter in model.named_parameters():
        expected = want[name]
        assert (expected is None) == (parameter.grad is None), name
        if expected is not None and parameter.grad is not None:
            error = float((parameter.grad - expected).norm())
            assert error <= (0.0 if bitwise else tolerance) * float(expected.norm()), name
    return operated
