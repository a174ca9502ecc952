"""The second set of books: what the optimizer must have done, and how far it went."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.motion.book import Bookkeeper
from aqpolicy.gate.routing.groups import Group
from aqpolicy.lineage import NOT_BOOKED

SGD = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.3},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "weight_decay": 0.1},
    {"weight_decay": 0.1, "maximize": True},
]


def parameters(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def groups_of(*members: Sequence[nn.Parameter]) -> tuple[Group, ...]:
    return tuple(Group(at, f"g{at}", (), tuple(some)) for at, some in enumerate(members))


def residuals_of(optimizer: torch.optim.Optimizer, groups: Sequence[Group], steps: int = 4) -> list[tuple[float, ...]]:
    """Train on random gradients, of which some are missing, and return what the books do not explain."""
    book, every = Bookkeeper(optimizer, groups), [one for group in groups for one in group.parameters]
    generator, found = torch.Generator().manual_seed(1), []
    for step in range(steps):
        before = [one.detach().clone() for one in every]
        for number, one in enumerate(every):
            one.grad = None if (step + number) % 3 == 0 else torch.randn(one.shape, generator=generator)
        expected, _ = book.expected(before, [one.grad for one in every])
        optimizer.step()
        deltas = [one.detach() - was for one, was in zip(every, before, strict=True)]
        found.append(book.residuals(deltas, expected))
    return found


@pytest.mark.parametrize("settings", SGD, ids=str)
def test_the_books_of_sgd_close(settings: dict[str, Any]) -> None:
    held = parameters((3, 4), (4,), (2, 4), (2,))
    found = residuals_of(torch.optim.SGD(held, lr=0.1, **settings), groups_of(held[:2], held[2:]))
    assert max(max(one) for one in found) < 1e-5


def test_the_books_close_where_parameter_groups_have_settings_of_their_own() -> None:
    held = parameters((3, 4), (4,), (2, 4), (2,))
    optimizer = torch.optim.SGD(
        [
            {"params": held[1:3], "lr": 0.3, "momentum": 0.9, "weight_decay": 0.1},
            {"params": [held[3], held[0]], "lr": 0.01, "nesterov": True, "momentum": 0.5},
        ],
        lr=0.1,
    )
    groups = groups_of(held[:2], held[2:])
    assert max(max(one) for one in residuals_of(optimizer, groups)) < 1e-5
    assert Bookkeeper(torch.optim.SGD(held, lr=0.1), groups).mixed is False


def test_a_mixed_entry_says_so_and_gives_the_first_settings() -> None:
    held = parameters((2,), (2,))
    optimizer = torch.optim.SGD([{"params": held[:1], "lr": 0.3}, {"params": held[1:]}], lr=0.1)
    book = Bookkeeper(optimizer, groups_of(held))
    entry = book.entry([1.0], [0.0], [False])
    assert (entry.mixed, entry.lr) == (True, 0.3)
    optimizer.param_groups[0]["lr"] = 0.1
    assert book.entry([1.0], [0.0], [False]).mixed is False


def test_a_step_that_is_not_that_of_the_gradients_leaves_a_residual() -> None:
    held = parameters((3, 4), (4,))
    book = Bookkeeper(torch.optim.SGD(held, lr=0.1), groups_of(held[:1], held[1:]))
    gradients = [torch.ones_like(one) for one in held]
    expected, _ = book.expected(held, gradients)
    moved = [one.clone() for one in expected if one is not None]
    moved[0][0, 0] += 0.5
    off, fine = book.residuals(moved, expected)
    assert off == pytest.approx(0.5 / moved[0].norm().item())
    assert fine == 0.0


def test_another_optimizer_is_measured_and_not_booked() -> None:
    held = parameters((2,))
    book = Bookkeeper(torch.optim.AdamW(held, lr=0.1), groups_of(held))
    entry = book.entry([0.25], None, [False])
    assert (book.exact, entry.optimizer, entry.movement) == (False, "AdamW", (0.25,))
    assert entry.residual == (NOT_BOOKED,)


def test_an_optimizer_that_has_stepped_is_refused() -> None:
    held = parameters((2,))
    optimizer = torch.optim.AdamW(held, lr=0.1)
    held[0].grad = torch.ones(2)
    optimizer.step()
    with pytest.raises(IllegalTrainingSetupError, match="has stepped before"):
        Bookkeeper(optimizer, groups_of(held))


@pytest.mark.parametrize("make", [lambda size: torch.full((size,), 0.1), torch.randn], ids=["equal", "random"])
@pytest.mark.parametrize("size", [1, 1000, 1024, 5000, 300_000])
def test_a_movement_is_measured_to_seven_digits_however_many_numbers_move(
    make: Callable[[int], Tensor], size: int
) -> None:
    held = parameters((size,), (3,), (0,))
    book = Bookkeeper(torch.optim.SGD(held, lr=0.1), groups_of(held[:2], held[2:], ()))
    deltas = [make(size), torch.ones(3), torch.zeros(0)]
    moved, nothing, none = book.movement(deltas)
    exact = math.hypot(deltas[0].double().norm().item(), math.sqrt(3))
    assert moved == pytest.approx(exact, rel=1e-7)
    assert nothing == none == 0.0


def test_short_floating_point_is_measured_in_single_precision() -> None:
    held = parameters((5000,))
    book = Bookkeeper(torch.optim.SGD(held, lr=0.1), groups_of(held))
    delta = torch.full((5000,), 0.1, dtype=torch.bfloat16)
    assert book.movement([delta])[0] == pytest.approx(delta.double().norm().item(), rel=1e-6)


def test_momentum_goes_back_with_a_saved_state() -> None:
    held = parameters((3,))
    book = Bookkeeper(torch.optim.SGD(held, lr=1.0, momentum=0.5), groups_of(held))
    gradient = [torch.ones(3)]
    book.expected(held, gradient)
    saved = {number: value.clone() for number, value in book.state_dict().items()}
    second = book.expected(held, gradient)[0][0].tolist()
    book.load_state_dict(saved)
    assert book.expected(held, gradient)[0][0].tolist() == second == [-1.5] * 3
    assert book.expected(held, gradient)[0][0].tolist() == [-1.75] * 3
