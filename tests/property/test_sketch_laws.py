"""Whatever a model is made of, and however its examples lie, their sketches are those of their own gradients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.random_models import Case, Recipe, build, members, names_of, recipes
from torch import Tensor

from aqpolicy.bundle.tables import NO_LIMIT
from aqpolicy.gate.routing.backward import Backward, Found, Weights
from aqpolicy.gate.routing.groups import Group
from aqpolicy.gate.routing.sketch import SketchPlan
from aqpolicy.units import MICRO

FLOOR = 1e-6
"""Of a sketch shorter than this, the rounding of numbers that cancel out is not judged."""

Limits = list[list[float | None]]


def sketched(case: Case, groups: tuple[Group, ...], plan: SketchPlan, shares: Tensor, limits: Limits) -> Found:
    """Differentiate under the gate; example `n` has row `n` of the tables."""
    examples = case.recipe.examples
    rows = [tuple(NO_LIMIT if limit is None else round(limit * MICRO) for limit in row) for row in limits]
    tables: Any = SimpleNamespace(rows=[SimpleNamespace(norms=row) for row in rows])
    gate = Backward(case.model, groups, tables, measure=True, plan=plan)
    gate.open(examples, case.segments(0, examples))
    try:
        return gate.run(case.loss(), Weights((shares * MICRO).long(), torch.arange(examples), float(examples)))
    finally:
        gate.shut()
        gate.detach()


def by_loop(case: Case, groups: tuple[Group, ...], plan: SketchPlan, shares: Tensor, limits: Limits) -> list[Tensor]:
    """Return the sketches of what each example is admitted to contribute, from its own gradients."""
    loss, found = case.loss(), []
    for group in groups:
        rows = []
        for number, row in enumerate(limits):
            own = torch.autograd.grad(loss[number], group.parameters, retain_graph=True, materialize_grads=True)
            flat = torch.cat([part.flatten() for part in own])
            limit, norm = row[group.index], flat.norm()
            factor = shares[number, group.index] * (1.0 if limit is None or norm <= limit else limit / norm)
            rows.append(plan.sketch(group.index, flat) * factor / len(limits))
        found.append(torch.stack(rows))
    return found


@given(st.data(), recipes())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_sketches_are_those_of_the_examples_own_gradients(data: st.DataObject, recipe: Recipe) -> None:
    case = build(recipe)
    names = names_of(case.model)
    first = data.draw(st.sets(st.sampled_from(names)))
    divided = [part for part in ([n for n in names if n in first], [n for n in names if n not in first]) if part]
    held = enumerate(members(case.model, divided))
    groups = tuple(Group(n, f"g{n}", tuple(map(str, range(len(own)))), tuple(own)) for n, own in held)
    plan = SketchPlan(tuple(group.shapes for group in groups), data.draw(st.sampled_from([1, 4, 8, 64])))

    def drawn(choices: list[Any]) -> list[list[Any]]:
        return [[data.draw(st.sampled_from(choices)) for _ in groups] for _ in range(recipe.examples)]

    shares, limits = torch.tensor(drawn([0.0, 0.25, 1.0]), dtype=torch.float64), drawn([None, 0.05, 2.0])
    want = by_loop(case, groups, plan, shares, limits)
    found = sketched(case, groups, plan, shares, limits).records
    assert found is not None
    for number, (one, other) in enumerate(zip(found, want, strict=True)):
        assert float((one - other).norm()) <= 1e-10 * max(float(other.norm()), FLOOR)
        assert not one[shares[:, number] == 0].any()
