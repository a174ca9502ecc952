"""Gated gradients and norms equal an explicit loop over the examples, in double precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.gating import open_gate, tables
from torch import Tensor, nn
from torch.nn import functional

B = 6
SHARES = [(1.0, 0.25), (0.0, 1.0), (0.5, 0.0), (1.0, 1.0)]
LIMITS = [(None, None), (0.3, 0.05), (0.01, 0.2), (1e-4, None)]
NAMES = [f"{1 + number % 4}-{number}" for number in range(B)]


class Conv(nn.Module):
    def __init__(self, spatial: int = 2, **options: object) -> None:
        super().__init__()
        kind = nn.Conv1d if spatial == 1 else nn.Conv2d
        self.first = kind(4, 6, 3, **options)
        self.norm = nn.GroupNorm(3, 6)
        self.second = kind(6, 4, 2, stride=2)
        self.head = nn.LazyLinear(3)
        self(torch.randn(1, 4, *[9] * spatial))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(functional.gelu(self.norm(self.first(x)))).flatten(1))


class Words(nn.Module):
    def __init__(self, length: int, *, tied: bool = False, padding: int | None = None) -> None:
        super().__init__()
        self.first = nn.Embedding(7, 5, padding_idx=padding)
        self.norm = nn.LayerNorm(5)
        self.second = nn.Linear(5, 5)
        self.head = nn.Linear(5, 7, bias=False)
        self.length = length
        if tied:
            self.head.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.first(x[:, : self.length]))
        h = h + torch.tanh(self.second(h))
        return self.head(h + self.second(h)).mean(1)  # `second` is used twice


class Planes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.norm = nn.LayerNorm((3, 4))
        self.second = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.norm(self.first(x)))).sum((1, 2))


def images(*spatial: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(B, 4, *spatial)


def words() -> Tensor:
    return torch.randint(0, 7, (B, 5))


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), images()),
    "conv": (Conv, images(9, 9)),
    "conv strides": (lambda: Conv(stride=(2, 1), bias=False), images(9, 9)),
    "conv padding": (lambda: Conv(padding=(1, 2)), images(9, 9)),
    "conv same": (lambda: Conv(padding="same", dilation=2), images(9, 9)),
    "conv groups": (lambda: Conv(groups=2, dilation=(2, 1)), images(9, 9)),
    "conv 1d": (lambda: Conv(1, stride=2, padding=1, groups=2), images(9)),
    "words": (lambda: Words(5), words),
    "long words": (lambda: nn.Sequential(nn.Embedding(7, 40), nn.Linear(40, 60), nn.Flatten(1)), words),
    "words padded": (lambda: Words(3, padding=2), words),
    "words tied": (lambda: Words(5, tied=True), words),
    "planes": (Planes, lambda: torch.randn(B, 2, 3, 4)),
}


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    out = model(x)
    return (out.reshape(len(x), -1).square()).mean(1) * torch.arange(1, len(x) + 1)


def groups_of(model: nn.Module) -> list[list[str]]:
    """Cut the model's modules in two groups; tied ones stay together."""
    tops = list(dict(model.named_children()))
    front = [tops[0], "head"] if isinstance(model, Words) else [tops[0]]
    return [[f"{name}." for name in front], [f"{name}." for name in tops if name not in front]]


def expected(
    model: nn.Module, x: Tensor, members: list[list[nn.Parameter]], *, limited: bool
) -> tuple[list[list[Tensor]], Tensor]:
    """Return gradients per group and norms (b, groups) by one backward pass per example and group."""
    sums = [[torch.zeros_like(p) for p in group] for group in members]
    norms = torch.zeros(B, 2, dtype=torch.float64)
    for i in range(B):
        for g, group in enumerate(members):
            own = torch.autograd.grad(loss_of(model, x)[i], group)
            norm = torch.cat([part.flatten() for part in own]).norm()
            norms[i, g] = norm
            limit = LIMITS[i % 4][g] if limited else None
            factor = SHARES[i % 4][g] * (1.0 if limit is None else min(1.0, limit / norm.item()))
            sums[g] = [total + factor * part / B for total, part in zip(sums[g], own, strict=True)]
    return sums, norms


@pytest.mark.parametrize("record", ["norms", "sketch"])
@pytest.mark.parametrize("limited", [False, True], ids=["shares", "limits"])
@pytest.mark.parametrize("case", CASES)
def test_gated_gradients_equal_the_loop(case: str, *, limited: bool, record: str) -> None:
    torch.manual_seed(7)
    build, data = CASES[case]
    model = build().double()
    x = data()
    x = x if x.dtype == torch.int64 else x.double()
    groups = groups_of(model)
    table = tables(SHARES, norms=LIMITS if limited else None)
    known = dict(model.named_parameters())
    members = [[value for name, value in known.items() if name.startswith(tuple(group))] for group in groups]
    want, norms = expected(model, x, members, limited=limited)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    gate = open_gate(model, optimizer, table, NAMES, groups=groups, record=record)
    with gate.step(NAMES):
        gate.backward(loss_of(model, x))
        results = [flow.result for flow in gate.machinery.backward._flows]
        for group, sums in zip(members, want, strict=True):
            for parameter, total in zip(group, sums, strict=True):
                error = (parameter.grad - total).norm() / total.norm()
                assert error < 1e-12
    for g, result in enumerate(results):
        assert torch.allclose(result.norms, norms[:, g], rtol=1e-10, atol=1e-13)
