"""What is recorded of a step as factors is what every example would have written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from support.gating import tables
from torch import Tensor, nn

from aqpolicy.bundle.tables import Tables
from aqpolicy.gate.routing.backward import Backward, Weights
from aqpolicy.gate.routing.factors import OUTER, Factored, FactorPlan, Piece
from aqpolicy.gate.routing.groups import bind_groups
from aqpolicy.trace.factors import FactorShape, Written
from aqpolicy.units import MICRO

B = 5


class Steps(nn.Module):
    """A recurrence of one layer, read at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = torch.tanh(self.cell(x))
        return self.head(x)


class Words(nn.Module):
    """Embeddings, a norm over positions, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.mix, self.head = (
            nn.Embedding(7, 4),
            nn.LayerNorm(4),
            nn.Linear(4, 9),
            nn.Linear(9, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        words = (x.abs() * 5).long() % 7
        return self.head(torch.tanh(self.mix(self.norm(self.table(words)))).mean(1))


MODELS = {
    "two layers": lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)),
    "no bias": lambda: nn.Sequential(nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 3)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6, 3)
    ),
    "wide convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.Conv1d(2, 16, 2), nn.Flatten(), nn.Linear(16, 3)
    ),
    "turned": lambda: nn.Sequential(
        nn.Unflatten(1, (4, 1)), nn.ConvTranspose1d(4, 5, 3), nn.Flatten(), nn.Linear(15, 3)
    ),
    "recurrence": Steps,
    "words": Words,
}


def recorded(
    model: nn.Module, bits: int, shares: Sequence[int]
) -> tuple[FactorShape, list[bytes], list[dict[str, Tensor]]]:
    """Return layout and records of a step, and every example's own gradients."""
    names = [name for name, _ in model.named_parameters()]
    half = len(names) // 2
    bound = (
        tuple((name, tuple(model.get_parameter(name).shape)) for name in names[:half]),
        tuple((name, tuple(model.get_parameter(name).shape)) for name in names[half:]),
    )
    groups = bind_groups(model, ("front", "back"), bound)
    table: Tables = tables([[1.0, 1.0]])
    x, y = torch.linspace(-1, 1, 4 * B).reshape(B, 4).sin(), torch.arange(B) % 3
    own = []
    for number in range(B):
        loss = nn.functional.cross_entropy(model(x[number : number + 1]), y[number : number + 1]) / B
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        own.append(dict(zip(names, gradients, strict=True)))
    plan = FactorPlan(tuple(len(group.parameters) for group in groups), bits)
    gate = Backward(model, groups, table, measure=True, plan=plan)
    gate.open(B)
    loss = nn.functional.cross_entropy(model(x), y, reduction="none")
    weights = torch.tensor([[share, MICRO] for share in shares])
    found = gate.run(loss, Weights(weights, torch.zeros(B, dtype=torch.int64), float(B), scale=8.0))
    gate.shut()
    gate.detach()
    assert found.records is not None
    return FactorShape(tuple(group.shapes for group in groups), bits), plan.encode(found.records), own


def error(written: Written, true: Sequence[Tensor]) -> float:
    want = np.stack([one.flatten().numpy() for one in true])
    return float(np.linalg.norm(written.dense(len(true)) - want) / max(np.linalg.norm(want), 1e-12))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", MODELS)
def test_records_hold_every_examples_own_gradient(name: str, bits: int) -> None:
    torch.manual_seed(1)
    model = MODELS[name]()
    shape, records, own = recorded(model, bits, [MICRO, 0, MICRO // 2, MICRO, MICRO])
    (numbers, layers), *others = shape.together(records)
    assert not others
    assert numbers == list(range(B))
    assert layers[0].factors.tolist() == [1, 0, 0.5, 1, 1]
    assert layers[1].factors.tolist() == [1] * B
    names = iter(dict(model.named_parameters()))
    for layer in layers:
        for written in layer.written:
            assert error(written, [one[next_name] for one in own] if (next_name := next(names)) else []) < (
                0.02 if bits == 8 else 0.3
            )


def test_a_layer_with_one_position_is_kept_as_both_sides() -> None:
    shape, records, _ = recorded(MODELS["two layers"](), 8, [MICRO] * B)
    # Per group a factor; per matrix a head of 3, two scales, both sides; per bias a head of 3.
    assert len(records[0]) == 2 * 4 + 2 * (3 + 8 + 3) + (4 + 8) + (8 + 3)
    assert len(recorded(MODELS["two layers"](), 4, [MICRO] * B)[1][0]) == 2 * 4 + 2 * (3 + 8 + 3) + (2 + 4) + (4 + 2)
    assert [one.kind for layer in shape.read(records) for one in layer.written] == [1, 2, 1, 2]


def test_what_is_not_finite_is_recorded_as_nothing() -> None:
    plan = FactorPlan((1,))
    levels = plan._levels(torch.tensor([[[1.0, float("nan")]], [[float("inf"), 1.0]], [[0.0, 0.0]]]))
    assert levels[1:, 4:].tolist() == [[0, 0], [0, 0]]
    assert not levels[1:, :4].any()


def test_four_bits_lose_no_sum_of_many_small_numbers() -> None:
    torch.manual_seed(2)
    small = torch.rand(4000, 1, 9) * 0.02  # each below half of a level beside the large one
    values = torch.cat([small, torch.ones(4000, 1, 1)], dim=2)
    rows = Piece(OUTER, values, torch.ones(4000, 1, 1))
    records = FactorPlan((1,), 4).encode([Factored(torch.ones(4000), (rows,))])
    ((layer,),) = (FactorShape((((10, 1),),), 4).read(records),)
    (written,) = layer.written
    assert written.rows is not None
    kept = torch.from_numpy(written.rows).double().sum(0)
    torch.testing.assert_close(kept[0, :9], values.double().sum(0)[0, :9], rtol=0.2, atol=0)
    again = FactorPlan((1,), 4).encode([Factored(torch.ones(4000), (rows,))])
    assert again == records, "the same numbers are rounded alike"
