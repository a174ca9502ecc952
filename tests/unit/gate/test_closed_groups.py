"""A group that is closed for a whole step does not move, whatever the optimizer remembers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.gating import Memory, open_gate, tables
from torch import nn
from torch.nn import functional

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.lineage import NOT_BOOKED

NAMES = ["1-a", "1-b", "2-a", "2-b"]
GROUPS = (("0.",), ("2.",))
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, foreach=False),
    "nesterov foreach": lambda p: torch.optim.SGD(
        p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, foreach=True
    ),
    "dampening fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.1, fused=True),
    "maximize": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, maximize=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, weight_decay=0.1),
}


def model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def values(module: nn.Module) -> list[torch.Tensor]:
    return [value.detach().clone() for value in module.parameters()]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_closed_group_stays_where_it_is(name: str) -> None:
    net = model()
    log = Memory()
    gate = open_gate(net, OPTIMIZERS[name](net.parameters()), tables([[1, 1], [0, 1]]), NAMES, groups=GROUPS, log=log)
    x, y = torch.randn(2, 3), torch.tensor([0, 1])
    for ids, opened in ((NAMES[:2], True), (NAMES[2:], False), (NAMES[2:], False), (NAMES[:2], True)):
        before = values(net)
        with gate.step(ids):
            gate.backward(functional.cross_entropy(net(x), y, reduction="none"))
        moved = [not torch.equal(one, other) for one, other in zip(before, values(net), strict=True)]
        assert moved == [opened, opened, True, True]
    books = [block.book for block in log.blocks]
    assert [book.closed for book in books] == [(False, False), (True, False), (True, False), (False, False)]
    assert [book.movement[0] > 0 for book in books] == [True, False, False, True]
    exact = name in ("momentum", "nesterov foreach", "dampening fused", "maximize")
    assert all(book.residual[1] < 1e-5 if exact else book.residual[1] == NOT_BOOKED for book in books)


class Pushy(torch.optim.SGD):
    """Moves everything a little, gradient or not."""

    def step(self, closure: None = None) -> None:
        super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.add_(1e-3)


def test_an_optimizer_that_moves_a_closed_group_is_undone_and_stops_the_gate() -> None:
    net = model()
    log = Memory()
    gate = open_gate(net, Pushy(net.parameters(), lr=0.1), tables([[1, 1], [0, 1]]), NAMES, groups=GROUPS, log=log)
    before = values(net)
    with pytest.raises(IllegalTrainingSetupError, match="group `g0` although it was closed"), gate.step(NAMES[2:]):
        gate.backward(functional.cross_entropy(net(torch.randn(2, 3)), torch.tensor([0, 1]), reduction="none"))
    assert all(torch.equal(one, other) for one, other in zip(before, values(net), strict=True))
    assert log.blocks == []
    with pytest.raises(IllegalTrainingSetupError, match="halted"), gate.step(NAMES):
        pass


def test_the_books_do_not_close_for_an_optimizer_that_adds_its_own() -> None:
    net = model()
    log = Memory()
    gate = open_gate(net, torch.optim.SGD(net.parameters(), lr=0.1), tables([[1, 1]]), NAMES, groups=GROUPS, log=log)
    gate.machinery.mover.optimizer.register_step_post_hook(lambda *_: net[0].weight.data.mul_(1.01))
    with gate.step(["1-a", "1-b"]):
        gate.backward(functional.cross_entropy(net(torch.randn(2, 3)), torch.tensor([0, 1]), reduction="none"))
    residual = log.blocks[0].book.residual
    assert residual[0] > 1e-2
    assert residual[1] < 1e-6


@pytest.mark.parametrize("record", ["norms", "sketch"])
def test_a_module_that_a_step_does_not_use_is_left_alone(*, record: str) -> None:
    net = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    gate = open_gate(net, optimizer, tables([[0.5]]), NAMES, record=record)
    for used in (0, 1, 0):
        before = values(net)
        with gate.step(["1-a", "1-b"]):
            gate.backward(net[used](torch.ones(2, 3)).square().sum(1))
        moved = [not torch.equal(one, other) for one, other in zip(before, values(net), strict=True)]
        assert moved == [used == 0, used == 0, used == 1, used == 1]
