"""The second set of books closes on every optimizer that it knows, and on nothing that it does not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.motion.book import Accounts, Bookkeeper
from aqpolicy.gate.motion.rules import Adam, Sgd, rule_of
from aqpolicy.gate.routing.groups import Group

SHAPES = ((3, 4), (4,), (2, 2))


@st.composite
def optimizers(draw: st.DrawFn) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    common = {
        "lr": draw(st.floats(1e-3, 0.5)),
        "weight_decay": draw(st.sampled_from([0.0, 0.01, 0.3])),
        "maximize": draw(st.booleans()),
        "foreach": draw(st.booleans()),
    }
    if draw(st.booleans()):
        momentum = draw(st.sampled_from([0.0, 0.5, 0.9]))
        nesterov = momentum > 0 and draw(st.booleans())
        dampening = 0.0 if nesterov else draw(st.sampled_from([0.0, 0.25]))
        return torch.optim.SGD, common | {"momentum": momentum, "dampening": dampening, "nesterov": nesterov}
    betas = (draw(st.sampled_from([0.0, 0.8, 0.9])), draw(st.sampled_from([0.9, 0.999])))
    kind = draw(st.sampled_from([torch.optim.Adam, torch.optim.AdamW]))
    if draw(st.booleans()):
        common = common | {"foreach": None, "fused": True}
    return kind, common | {"betas": betas, "amsgrad": draw(st.booleans()), "eps": draw(st.sampled_from([1e-8, 1e-3]))}


def held_in(dtype: torch.dtype, seed: int) -> tuple[list[nn.Parameter], list[Group]]:
    generator = torch.Generator().manual_seed(seed)
    held = [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)) for shape in SHAPES]
    parts = (held[:2], held[2:], [])
    groups = [
        Group(number, f"group{number}", tuple(f"{number}.{at}" for at in range(len(part))), tuple(part))
        for number, part in enumerate(parts)
    ]
    return held, groups


class Steps:
    """Steps of one optimizer with a bookkeeper behind it."""

    def __init__(self, dtype: torch.dtype, seed: int, kind: Any, options: dict[str, Any]) -> None:
        self.held, self.groups = held_in(dtype, seed)
        self.optimizer = kind(self.held, **options)
        self.book = Bookkeeper(self.optimizer, self.groups, accounts=True)
        self.generator = torch.Generator().manual_seed(seed + 1)
        self.given: list[Tensor | None] = []

    def take(
        self, *, closed: bool, extra: float = 0.0
    ) -> tuple[tuple[float, ...], Accounts, list[float], list[Tensor]]:
        """Step; return residuals, accounts, sizes of the changes, and the values before."""
        before = [one.detach().clone() for one in self.held]
        for number, one in enumerate(self.held):
            drawn = torch.randn(one.shape, generator=self.generator, dtype=torch.float64).to(one.dtype)
            one.grad = None if closed and number == 2 else drawn
        self.given = [None if one.grad is None else one.grad.clone() for one in self.held]  # steps write to them
        expected, accounts = self.book.expected(before, [one.grad for one in self.held])
        self.optimizer.step()
        with torch.no_grad():
            self.held[0][0, 0] += extra
        deltas = [one.detach() - value for one, value in zip(self.held, before, strict=True)]
        sizes = list(self.book.movement(deltas))
        residuals = self.book.residuals(deltas, expected)
        assert accounts is not None
        return residuals, accounts, sizes, before


@given(optimizers(), st.integers(0, 99), st.lists(st.booleans(), min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_the_parts_of_a_step_are_the_step_for_every_optimizer_that_is_booked(
    made: tuple[Any, dict[str, Any]], seed: int, closed: list[bool]
) -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        steps = Steps(dtype, seed, *made)
        for each in closed:
            residuals, accounts, sizes, before = steps.take(closed=each)
            ground = [torch.finfo(dtype).eps * norm for norm in steps.book.movement(before)]
            for residual, size, least, *parts in zip(
                residuals, sizes, ground, accounts.fresh, accounts.carry, strict=True
            ):
                assert residual * (size or 1.0) <= tolerance * max(size, *parts) + least
            steps.book.refuse_unexplained(accounts, before, residuals, sizes)
            # A triangle of norms: no part is longer than the rest together.
            triangle = zip(sizes, accounts.fresh, accounts.carry, accounts.decay, strict=True)
            assert all(max(sides) <= (sum(sides) - max(sides)) * 1.001 + 1e-6 for sides in triangle)


@given(optimizers(), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_one_number_that_something_else_wrote_is_refused(made: tuple[Any, dict[str, Any]], seed: int) -> None:
    steps = Steps(torch.float32, seed, *made)
    steps.take(closed=False)
    residuals, accounts, sizes, before = steps.take(closed=False, extra=0.01 * made[1]["lr"] + 0.01)
    with pytest.raises(IllegalTrainingSetupError, match="group `group0` moved by more than its gradient"):
        steps.book.refuse_unexplained(accounts, before, residuals, sizes)


@given(optimizers(), st.integers(0, 99), st.lists(st.booleans(), min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_accounts_that_are_scaled_from_norms_are_those_of_the_parts_themselves(
    made: tuple[Any, dict[str, Any]], seed: int, closed: list[bool]
) -> None:
    steps, states = Steps(torch.float64, seed, *made), [{} for _ in SHAPES]
    rule = rule_of(steps.optimizer)
    assert isinstance(rule, Sgd if made[0] is torch.optim.SGD else Adam)
    for each in closed:
        residuals, accounts, _, before = steps.take(closed=each)
        parts = [
            None if one is None else rule.split(value, one, steps.optimizer.param_groups[0], state)
            for one, value, state in zip(steps.given, before, states, strict=True)
        ]
        for name in ("fresh", "carry", "decay"):
            norms = [0.0 if part is None else getattr(part, name).norm().item() for part in parts]
            assert getattr(accounts, name) == pytest.approx(
                (math.hypot(*norms[:2]), norms[2], 0.0), rel=1e-9, abs=1e-12
            )
        assert max(residuals) < 1e-11


def test_what_low_precision_loses_is_the_part_that_is_not_explained_and_nothing_is_refused() -> None:
    steps = Steps(torch.bfloat16, 3, torch.optim.AdamW, {"lr": 1e-3})
    residuals, accounts, sizes, before = steps.take(closed=False)
    assert residuals[0] > 0.01
    steps.book.refuse_unexplained(accounts, before, residuals, sizes)


@pytest.mark.parametrize("kind", [torch.optim.RMSprop, torch.optim.NAdam, torch.optim.Adagrad])
def test_an_optimizer_without_a_rule_is_refused_by_name_where_accounts_are_asked_for(kind: Any) -> None:
    held, groups = held_in(torch.float32, 0)
    with pytest.raises(IllegalTrainingSetupError, match=f"`{kind.__name__}` cannot be booked"):
        Bookkeeper(kind(held, lr=0.1), groups, accounts=True)
    assert not Bookkeeper(kind(held, lr=0.1), groups).exact


def test_a_class_derived_from_a_known_optimizer_is_not_taken_for_it() -> None:
    class Mine(torch.optim.AdamW):
        pass

    assert rule_of(Mine(held_in(torch.float32, 0)[0], lr=0.1)) is None


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_books_go_on_from_a_saved_state(kind: Any) -> None:
    options = {"lr": 0.1} | ({"momentum": 0.9} if kind is torch.optim.SGD else {})
    steps = Steps(torch.float64, 1, kind, options)
    steps.take(closed=False)
    other = Bookkeeper(steps.optimizer, steps.groups, accounts=True, resumed=True)
    other.load_state_dict(steps.book.state_dict())
    steps.book = other
    assert max(steps.take(closed=False)[0]) < 1e-12
