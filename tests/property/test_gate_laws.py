"""Of any model, any groups and any shares: gated gradients are those of a loop, open gates change no bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from support.gating import Memory, Observed, tables
from support.random_models import Case, Recipe, build, members, names_of, recipes
from torch import Tensor, nn

from aqpolicy.gate.assembly import Options, assemble
from aqpolicy.gate.gate import Gate

SHARES = (0.0, 1.0, 0.25, 0.333333, 1.5, 3.0)
LIMITS = (None, 1e-3, 0.05, 0.7, 50.0)
FLOOR = 1e-3
"""Norm below which an error counts as if the norm were this."""

quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
long = settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True, foreach=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
}


def attached(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    table: Any,
    names: Sequence[str],
    groups: Sequence[Sequence[str]],
) -> tuple[Gate, Memory]:
    """Return a gate whose groups hold exactly the parameters named."""
    known = dict(model.named_parameters(remove_duplicate=False))
    bound = tuple(tuple((name, tuple(known[name].shape)) for name in group) for group in groups)
    bundle = SimpleNamespace(tables=table, parameters=bound, policy_name="test")
    machinery, log = assemble(model, optimizer, bundle, Observed(names), Options(), None), Memory()
    machinery.recorder.log = log
    return Gate(machinery), log


def divided(draw: Callable[..., Any], names: Sequence[str]) -> list[list[str]]:
    """Draw a group for every parameter; tied ones may get several, and a group may be empty."""
    count = draw(st.integers(1, 3))
    where = draw(st.lists(st.integers(0, count - 1), min_size=len(names), max_size=len(names)))
    groups = [[name for name, at in zip(names, where, strict=True) if at == number] for number in range(count)]
    return [group for group in groups if group]


def cuts(draw: Callable[..., Any], case: Case) -> list[tuple[int, int]]:
    """Draw how the examples of a step are divided into parts."""
    examples = case.recipe.examples
    inner = sorted(draw(st.sets(st.integers(1, examples - 1), max_size=2)))
    parts = list(pairwise([0, *inner, examples]))
    assume(all(case.readable(stop - start) for start, stop in parts))
    return parts


def differentiate(gate: Gate, case: Case, names: Sequence[str], parts: Sequence[tuple[int, int]]) -> None:
    """Run the open step, in one part or several."""
    if len(parts) == 1:
        gate.backward(case.loss())
        return
    for start, stop in parts:
        with gate.part(names[start:stop], segments=case.segments(start, stop)):
            gate.backward(case.loss(start, stop))


def expected(
    case: Case, groups: list[list[nn.Parameter]], shares: list[list[float]], limits: list[list[float | None]]
) -> tuple[dict[int, Tensor], Tensor]:
    """Return gated gradients by parameter and norms, one example after the other."""
    examples = case.recipe.examples
    every = list({id(p): p for group in groups for p in group}.values())
    total = {id(p): torch.zeros_like(p) for p in every}
    norms = torch.zeros(examples, len(groups), dtype=torch.float64)
    loss = case.loss()
    for i in range(examples):
        found = torch.autograd.grad(loss[i], every, retain_graph=True, materialize_grads=True)
        own = {id(p): gradient for p, gradient in zip(every, found, strict=True)}
        factors: dict[int, float] = {}
        for g, group in enumerate(groups):
            norm = float(torch.cat([own[id(p)].flatten() for p in group]).norm())
            norms[i, g] = norm
            limit = limits[i][g]
            factor = shares[i][g] * (1.0 if limit is None or norm <= limit else limit / norm)
            for p in group:
                factors[id(p)] = min(factor, factors.get(id(p), factor))
        for key, factor in factors.items():
            total[key] += factor * own[key] / examples
    return total, norms


def check_against_the_loop(data: st.DataObject, recipe: Recipe) -> None:
    case = build(recipe)
    groups = divided(data.draw, names_of(case.model))
    size = (recipe.examples, len(groups))
    shares = [[data.draw(st.sampled_from(SHARES)) for _ in range(size[1])] for _ in range(size[0])]
    limits = [[data.draw(st.sampled_from(LIMITS)) for _ in range(size[1])] for _ in range(size[0])]
    limits = limits if data.draw(st.booleans()) else [[None] * size[1]] * size[0]
    parts = cuts(data.draw, case)
    event(f"layout {recipe.layout}")
    held = members(case.model, groups)
    want, norms = expected(case, held, shares, limits)
    names = [f"{number + 1}-x" for number in range(recipe.examples)]
    optimizer = torch.optim.SGD(case.model.parameters(), lr=0.0)
    gate, log = attached(case.model, optimizer, tables(shares, norms=limits), names, groups)
    with gate.step(names, segments=case.segments(0, recipe.examples)):
        differentiate(gate, case, names, parts)
        for name, parameter in case.model.named_parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            error = float((gradient - want[id(parameter)]).norm())
            assert error <= 1e-12 * max(float(want[id(parameter)].norm()), FLOOR), name
    errors = (torch.tensor(log.blocks[0].norms) - norms).abs()
    assert bool((errors <= 1e-12 * norms.clamp_min(FLOOR) * 10).all())
    gate.detach()


def same_order(recipe: Recipe) -> bool:
    """Return whether the gate adds gradients up in plain training's order, so that not a bit differs.

    torch differentiates an RMS norm in pieces, on a CPU, and adds them to what its input gets elsewhere one by one;
    the gate adds their sum. Words that are looked up by indices without an axis of examples to tell are one look-up
    for each use that is made of them.
    """
    scattered = recipe.embedded and recipe.layout in {"second", "flat"}
    return "rms norm" not in recipe.blocks and not scattered


def check_identity(data: st.DataObject, recipe: Recipe) -> None:
    exact = same_order(recipe)
    gated, plain = (build(recipe, torch.float32 if exact else torch.float64) for _ in range(2))
    groups = divided(data.draw, names_of(gated.model))
    make = OPTIMIZERS[data.draw(st.sampled_from(sorted(OPTIMIZERS) if exact else ["momentum", "nesterov", "sgd"]))]
    parts = cuts(data.draw, gated)
    names = [f"1-{number}" for number in range(recipe.examples)]
    gate, log = attached(gated.model, make(gated.model.parameters()), tables([[1] * len(groups)]), names, groups)
    optimizer = make(plain.model.parameters())
    for _ in range(3):
        with gate.step(names, segments=gated.segments(0, recipe.examples)):
            differentiate(gate, gated, names, parts)
        optimizer.zero_grad()
        for start, stop in parts:
            loss = plain.loss(start, stop)
            loss.backward(torch.ones_like(loss) / recipe.examples)
        optimizer.step()
    for (name, one), other in zip(gated.model.named_parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other) if exact else torch.allclose(one, other, rtol=1e-12, atol=1e-13), name
    assert {row.effect for block in log.blocks for row in block.rows} == {"admit"}
    gate.detach()


def check_absence(data: st.DataObject, recipe: Recipe) -> None:
    """Denied examples come last, so that the others can be scheduled without them."""
    present = data.draw(st.integers(1, recipe.examples - 1))
    share, limit = data.draw(st.sampled_from(SHARES[1:])), data.draw(st.sampled_from(LIMITS))
    case = build(recipe)
    assume(case.readable(present))
    groups = divided(data.draw, names_of(case.model))
    names = [f"{1 if number < present else 2}-{number}" for number in range(recipe.examples)]
    table = tables([[share] * len(groups), [0.0] * len(groups)], norms=[[limit] * len(groups), [None] * len(groups)])
    found = []
    for count in (recipe.examples, present):
        case = build(recipe)
        optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1, momentum=0.9)
        gate, _ = attached(case.model, optimizer, table, names, groups)
        for _ in range(2):
            with gate.step(names[:count], denominator=float(recipe.examples), segments=case.segments(0, count)):
                gate.backward(case.loss(0, count))
        found.append(list(case.model.parameters()))
        gate.detach()
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-13)


@given(st.data(), recipes())
@quick
def test_gated_gradients_and_norms_are_those_of_a_loop(data: st.DataObject, recipe: Recipe) -> None:
    check_against_the_loop(data, recipe)


@given(st.data(), recipes())
@quick
def test_a_policy_that_admits_everything_changes_no_bit(data: st.DataObject, recipe: Recipe) -> None:
    check_identity(data, recipe)


@given(st.data(), recipes())
@quick
def test_a_denied_example_equals_an_absent_one(data: st.DataObject, recipe: Recipe) -> None:
    check_absence(data, recipe)


@pytest.mark.long
@pytest.mark.parametrize("check", [check_against_the_loop, check_identity, check_absence])
def test_the_laws_hold_for_many_more_models(check: Callable[[st.DataObject, Recipe], None]) -> None:
    @given(st.data(), recipes())
    @long
    def law(data: st.DataObject, recipe: Recipe) -> None:
        check(data, recipe)

    law()
