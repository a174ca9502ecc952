"""Layers of every type that has a rule, used once, beside what autograd says of the same use."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aqpolicy.gate.routing.layers import Rule, Use, rule_for

PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, slots=True)
class Native:
    """What plain training computes of one use of a layer."""

    out: Tensor
    grad_input: Tensor | None
    gradients: tuple[Tensor | None, ...]


def weights_of(module: nn.Module, rule: Rule) -> tuple[Tensor | None, ...]:
    held = (getattr(module, name) for name in rule.parameters)
    return tuple(None if weight is None else weight.detach() for weight in held)


def use_of(module: nn.Module, x: Tensor, e: Tensor, wanted: Sequence[bool] | None = None) -> tuple[Tensor, Use]:
    """Return the output of a use and the use itself."""
    rule = rule_for(module, "layer")
    assert rule.input_refusal(module, x) is None
    weights = weights_of(module, rule)
    with torch.no_grad():
        out, saved = rule.forward(module, x, weights)
    chosen = tuple(weight is not None for weight in weights) if wanted is None else tuple(wanted)
    return out, Use(rule, module, chosen, weights, x, saved, e)


def native(module: nn.Module, x: Tensor, make_e: Callable[[Tensor], Tensor]) -> tuple[Native, Tensor]:
    """Run a layer forward and backward in plain torch; return what came of it and the output's gradient."""
    leaf = x.detach().requires_grad_() if x.is_floating_point() else x
    module.zero_grad()
    out = module(leaf)
    e = make_e(out)
    out.backward(e)
    names = rule_for(module, "layer").parameters
    held = [getattr(module, name) for name in names]
    gradients = tuple(None if parameter is None else parameter.grad for parameter in held)
    return Native(out.detach(), leaf.grad, gradients), e


def one_by_one(module: nn.Module, x: Tensor, e: Tensor) -> Iterator[tuple[Tensor | None, ...]]:
    """Yield each example's own gradients, from a pass of plain torch over that example alone."""
    for row in range(len(x)):
        found, _ = native(module, x[row : row + 1], lambda _, row=row: e[row : row + 1])
        yield tuple(None if gradient is None else gradient.clone() for gradient in found.gradients)


def doubled(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).double()


def settled(module: nn.Module, x: Tensor) -> nn.Module:
    """Return a layer whose running statistics have seen something, and are frozen."""
    module(x)
    return module.eval()


def catalogue() -> dict[str, tuple[nn.Module, Tensor]]:
    """Return a layer of every type, small, with an input for it."""
    torch.manual_seed(11)
    generator = torch.Generator(torch.get_default_device()).manual_seed(11)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def indices(rows: int, *shape: int) -> Tensor:
        return torch.randint(rows, shape, generator=generator)

    attention = nn.MultiheadAttention(6, 2)
    found: dict[str, tuple[nn.Module, Tensor]] = {
        "linear, one position": (nn.Linear(6, 5), normal(4, 6)),
        "linear, few positions": (nn.Linear(16, 12), normal(4, 3, 16)),
        "linear, many positions": (nn.Linear(6, 5, bias=False), normal(4, 5, 8, 6)),
        "linear, widening": (nn.Linear(3, 9), normal(4, 2, 3)),
        "projection of attention": (attention.out_proj, normal(4, 3, 6)),
        "embedding": (nn.Embedding(7, 5), indices(7, 4, 9)),
        "embedding, padded": (nn.Embedding(7, 5, padding_idx=2), indices(7, 4, 3, 2)),
        "embedding, one index": (nn.Embedding(7, 5), indices(7, 4)),
        "layer norm": (nn.LayerNorm(6), normal(4, 3, 6)),
        "layer norm over two axes": (nn.LayerNorm((3, 6), bias=False), normal(4, 2, 3, 6)),
        "rms norm": (nn.RMSNorm(6, eps=1e-6), normal(4, 3, 6)),
        "rms norm over two axes": (nn.RMSNorm((3, 6)), normal(4, 3, 6)),
        "group norm": (nn.GroupNorm(2, 6), normal(4, 6, 3, 3)),
        "group norm, one position": (nn.GroupNorm(2, 6), normal(4, 6)),
        "prelu": (nn.PReLU(), normal(4, 3, 5)),
        "prelu by channel": (nn.PReLU(3), normal(4, 3, 5)),
    }
    for mode in ("sum", "mean", "max"):
        found[f"bag, {mode}"] = (nn.EmbeddingBag(7, 5, mode=mode), indices(7, 4, 6))
        found[f"bag, {mode}, padded"] = (nn.EmbeddingBag(3, 5, mode=mode, padding_idx=1), indices(3, 4, 6))
    for spatial in (1, 2, 3):
        kind, turned, instance, batch = (kinds[spatial - 1] for kinds in (PLAIN, TRANSPOSED, INSTANCE, BATCH))
        image = normal(4, 4, *[6] * spatial)
        found[f"conv{spatial}d"] = (kind(4, 6, 3, padding=1, groups=2), image)
        found[f"conv{spatial}d, same"] = (kind(4, 2, 4, padding="same", bias=False), image)
        found[f"conv{spatial}d, few places"] = (kind(4, 40, 3, stride=3), image)
        for mode in ("circular", "reflect", "replicate"):
            found[f"conv{spatial}d, {mode}"] = (kind(4, 3, 3, padding=2, padding_mode=mode, stride=2), image)
        found[f"transposed{spatial}d"] = (turned(4, 3, 3, stride=2, output_padding=1), image)
        found[f"instance{spatial}d"] = (instance(4, affine=True), image)
        frozen = instance(4, affine=True, track_running_stats=True)
        found[f"instance{spatial}d, frozen"] = (settled(frozen, image), image)
        found[f"batch{spatial}d, frozen"] = (settled(batch(4), image), image)
    for module, _ in found.values():
        _perturb(module, generator)
    return found


def _perturb(module: nn.Module, generator: torch.Generator) -> None:
    """Give parameters values that differ, so that mistaking one for another shows."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
