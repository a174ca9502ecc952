"""Other ways to cut every example's gradient, as their makers mean them to be used.

All but one do what the gate's `clip` does: a share and a norm limit per example and
group. Ghost clipping knows neither shares nor groups: one limit for the whole
gradient of an example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from aqpolicy.units import MICRO

from .cases import Case, trained
from .modes import CLIP, Data, Step, groups_of, losses

LIMIT = 1.0


@dataclass(frozen=True)
class Peer:
    """One other way."""

    key: str
    title: str
    make: Callable[[Case, nn.Module, Data], Step]
    weaker: bool = False
    """It cannot say all that the gate says."""


class Cut:
    """Shares and norm limits per group, for gradients of single examples."""

    def __init__(self, case: Case, model: nn.Module, examples: int) -> None:
        groups = groups_of(case, model)
        self.members = [group.parameters for group in groups]
        self.shares = CLIP.shares(examples, len(groups)).double() / MICRO

    def factors(self, norms: Tensor, group: int, examples: slice = slice(None)) -> Tensor:
        """Return share * min(1, limit / norm)."""
        shares = self.shares[examples, group].to(norms)
        return shares * (LIMIT / norms.clamp_min(1e-30)).clamp_max(1)

    def apply(self, samples: Callable[[nn.Parameter], Tensor]) -> Tensor:
        """Give every parameter the weighted mean of its gradients per example; return norms."""
        every = []
        for group, members in enumerate(self.members):
            own = [samples(parameter) for parameter in members]
            norms = torch.stack([g.flatten(1).norm(dim=1) for g in own]).norm(dim=0)
            factors = self.factors(norms, group) / len(norms)
            for parameter, g in zip(members, own, strict=True):
                parameter.grad = torch.einsum("b,b...->...", factors, g)
            every.append(norms)
        return torch.stack(every, dim=1)


def _opacus_hooks(case: Case, model: nn.Module, data: Data) -> Step:
    from opacus import GradSampleModule

    cut, wrapped = Cut(case, model, len(data[1])), GradSampleModule(model, loss_reduction="mean")

    def run() -> Tensor:
        functional.cross_entropy(wrapped(data[0]), data[1]).backward()
        norms = cut.apply(lambda parameter: parameter.grad_sample)
        for _, parameter in trained(model):
            parameter.grad_sample = None
        return norms

    return Step(run, list(trained(model)), wrapped.remove_hooks)


def _opacus_ghost(case: Case, model: nn.Module, data: Data) -> Step:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

    del case
    wrapped = GradSampleModuleFastGradientClipping(
        model, max_grad_norm=LIMIT, use_ghost_clipping=True, loss_reduction="mean"
    )
    parameters = [parameter for _, parameter in trained(model)]
    optimizer = torch.optim.SGD(parameters, lr=0.0)

    def run() -> None:
        DPTensorFastGradientClipping(wrapped, optimizer, losses(wrapped, data), "mean").backward()
        torch._foreach_div_([p.grad for p in parameters], float(len(data[1])))

    return Step(run, list(trained(model)), wrapped.remove_hooks)


def _vmap(case: Case, model: nn.Module, data: Data) -> Step:
    cut = Cut(case, model, len(data[1]))
    known = trained(model)
    fixed = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    fixed |= dict(model.named_buffers())

    def loss(free: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(model, {**free, **fixed}, (x.unsqueeze(0),)), y.unsqueeze(0))

    each = vmap(grad(loss), in_dims=(None, 0, 0))

    def run() -> Tensor:
        samples = each({name: p.detach() for name, p in known}, *data)
        by_parameter = {id(p): samples[name] for name, p in known}
        return cut.apply(lambda parameter: by_parameter[id(parameter)])

    return Step(run, list(known))


def _loop(case: Case, model: nn.Module, data: Data) -> Step:
    cut, known = Cut(case, model, len(data[1])), trained(model)
    return Step(lambda: looped(cut, [p for _, p in known], model, data), list(known))


def looped(cut: Cut, parameters: Sequence[nn.Parameter], model: nn.Module, data: Data) -> Tensor:
    """Differentiate every example's loss on its own, and add what is left of it; return norms."""
    examples, every = len(data[1]), []
    for number in range(examples):
        one = slice(number, number + 1)
        own = torch.autograd.grad(losses(model, (data[0][one], data[1][one])).sum(), parameters)
        gradient = {id(p): g for p, g in zip(parameters, own, strict=True)}
        row = []
        for group, members in enumerate(cut.members):
            norm = torch.stack([gradient[id(p)].norm() for p in members]).norm().reshape(1)
            factor = (cut.factors(norm, group, one) / examples).item()
            for parameter in members:
                part = gradient[id(parameter)].mul_(factor)
                parameter.grad = part if parameter.grad is None else parameter.grad.add_(part)
            row.append(norm)
        every.append(torch.cat(row))
    return torch.stack(every)


PEERS = (
    Peer("opacus-hooks", "Opacus hooks, then cut per group", _opacus_hooks),
    Peer("opacus-ghost", "Opacus ghost: one limit, no shares", _opacus_ghost, weaker=True),
    Peer("vmap", "torch.func vmap(grad), then cut", _vmap),
    Peer("loop", "loop of micro-batches of one", _loop),
)
