"""Impulse responses equal what torch's own optimizer does."""

from __future__ import annotations

import pytest
import torch

from aqpolicy.trace.book import Terms, impulse

STEPS = 7


SETTINGS = [(0.0, 0.0, False), (0.9, 0.0, False), (0.9, 0.3, False), (0.9, 0.0, True)]
"""Momentum, dampening, Nesterov: what torch allows."""


@pytest.mark.parametrize(("momentum", "dampening", "nesterov"), SETTINGS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("closed", [(), (0, 1), (3,), (2, 6)])
def test_the_response_carries_every_gradient_where_sgd_carries_it(
    momentum: float, dampening: float, nesterov: bool, weight_decay: float, closed: tuple[int, ...]
) -> None:
    torch.manual_seed(1)
    start, gradients = torch.randn(5, dtype=torch.float64), torch.randn(STEPS, 5, dtype=torch.float64)
    weights = torch.nn.Parameter(start.clone())
    rates = [0.1 / (1 + step) for step in range(STEPS)]
    optimizer = torch.optim.SGD(
        [weights], lr=0.1, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov
    )
    for step, rate in enumerate(rates):
        optimizer.param_groups[0]["lr"] = rate
        weights.grad = None if step in closed else gradients[step].clone()
        optimizer.step()
    terms = [
        Terms(rate, momentum, dampening, weight_decay, nesterov, step in closed) for step, rate in enumerate(rates)
    ]
    response = impulse(terms)
    expected = response.opening * start + torch.tensor(response.rho, dtype=torch.float64) @ gradients
    torch.testing.assert_close(weights.detach(), expected, rtol=1e-12, atol=1e-12)
    assert all(response.rho[step] == 0.0 for step in closed)


def test_a_group_that_was_never_open_has_no_response_at_all() -> None:
    response = impulse([Terms(0.1, 0.9, weight_decay=0.5, closed=True)] * 3)
    assert response.rho == (0.0, 0.0, 0.0)
    assert response.opening == 1.0


@pytest.mark.parametrize(("momentum", "dampening", "nesterov"), SETTINGS)
def test_what_was_clipped_scaled_or_put_back_is_carried_as_it_was(
    momentum: float, dampening: float, nesterov: bool
) -> None:
    torch.manual_seed(2)
    start, gradients = torch.randn(5, dtype=torch.float64), torch.randn(STEPS, 5, dtype=torch.float64)
    clips, factors = [1.0, 0.5, 1.0, 0.25, 1.0, 1.0, 0.5], [0.0, 1.0, 0.5, 1.0, 0.0, 0.3, 1.0]
    weights = torch.nn.Parameter(start.clone())
    settings = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov, "weight_decay": 0.1}
    optimizer = torch.optim.SGD([weights], lr=0.1, **settings)
    for gradient, clip, factor in zip(gradients, clips, factors, strict=True):
        before = weights.detach().clone()
        weights.grad = gradient * clip
        optimizer.step()
        weights.data = before + factor * (weights.detach() - before)
    terms = [Terms(0.1, **settings, clip=clip, factor=factor) for clip, factor in zip(clips, factors, strict=True)]
    response = impulse(terms)
    expected = response.opening * start + torch.tensor(response.rho, dtype=torch.float64) @ gradients
    torch.testing.assert_close(weights.detach(), expected, rtol=1e-12, atol=1e-12)
