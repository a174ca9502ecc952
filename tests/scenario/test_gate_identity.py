"""A policy that admits everything trains bit for bit like no policy at all."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from support.gating import Memory, open_gate, tables
from torch import Tensor, nn
from torch.nn import functional

B = 7
STEPS = 24
NAMES = [f"1-{number}" for number in range(B)]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 16), nn.Embedding(6, 16)
        self.before, self.after = nn.LayerNorm(16), nn.LayerNorm(16)
        self.mixed, self.out, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.words(x) + self.places(torch.arange(6).expand(len(x), 6))
        query, key, value = self.mixed(self.before(h)).view(len(x), 6, 3, 2, 8).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(len(x), 6, 16)
        return self.head(self.after(h + self.out(mixed)).mean(1))


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, stride=2, bias=False),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(8 * 9, 4),
    )


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * 16 * 16, 24), nn.Tanh(), nn.Linear(24, 4))


def images() -> Tensor:
    return torch.randn(B, 2, 16, 16)


def words() -> Tensor:
    return torch.randint(0, 20, (B, 6))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "convnet": (convnet, images),
    "mlp": (mlp, images),
    "attention": (Attention, words),
}
OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-2),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", MODELS)
def test_an_identity_policy_is_bitwise_plain_training(case: str, optimizer: str) -> None:
    torch.manual_seed(3)
    build, data = MODELS[case]
    plain = build()
    gated = deepcopy(plain)
    batches = [(data(), torch.randint(0, 4, (B,))) for _ in range(STEPS)]
    torch.manual_seed(4)
    plain_optimizer = OPTIMIZERS[optimizer](plain)
    for x, y in batches:
        plain_optimizer.zero_grad()
        functional.cross_entropy(plain(x), y, reduction="none").mean().backward()
        plain_optimizer.step()
    torch.manual_seed(4)
    log = Memory()
    gate = open_gate(gated, OPTIMIZERS[optimizer](gated), tables([[1.0]]), NAMES, log=log)
    for x, y in batches:
        with gate.step(NAMES):
            gate.backward(functional.cross_entropy(gated(x), y, reduction="none"))
    for (name, one), other in zip(plain.named_parameters(), gated.parameters(), strict=True):
        assert torch.equal(one, other), name
    assert [row.effect for block in log.blocks for row in block.rows] == ["admit"] * (B * STEPS)


@pytest.mark.parametrize("case", MODELS)
def test_recording_sketches_changes_no_bit(case: str) -> None:
    torch.manual_seed(3)
    build, data = MODELS[case]
    first = build().eval()
    second = deepcopy(first)
    x, y = data(), torch.randint(0, 4, (B,))
    for model, record in ((first, "norms"), (second, "sketch")):
        gate = open_gate(model, OPTIMIZERS["momentum"](model), tables([[1.0]]), NAMES, record=record)
        for _ in range(3):
            with gate.step(NAMES):
                gate.backward(functional.cross_entropy(model(x), y, reduction="none"))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_denied_example_equals_an_absent_one() -> None:
    torch.manual_seed(5)
    first = mlp()
    second = deepcopy(first)
    x, y = images(), torch.randint(0, 4, (B,))
    names = [*NAMES[:-1], "2-last"]
    gate = open_gate(first, OPTIMIZERS["momentum"](first), tables([[1.0], [0.0]]), names)
    with gate.step(names):
        gate.backward(functional.cross_entropy(first(x), y, reduction="none"))
    optimizer = OPTIMIZERS["momentum"](second)
    (functional.cross_entropy(second(x[:-1]), y[:-1], reduction="none").sum() / B).backward()
    optimizer.step()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-8)
