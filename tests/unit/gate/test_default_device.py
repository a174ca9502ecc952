"""A gate keeps its books on the host, wherever the loop lets torch make tensors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from support.gating import Memory, budget, open_gate, tables
from torch import nn
from torch.nn import functional

NAMES = [f"{1 + number % 2}-{number}" for number in range(6)]
TABLE = tables(
    [(1.0, 0.5), (0.0, 1.0)],
    norms=[(None, 0.3), (0.2, None)],
    budgets=[budget(per_run=10**9), budget("seldom", exposures=2, on_exhaust="defer")],
)


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Tensors are made on a device that holds no numbers, so that each one that matters is missed at once."""
    before = torch.get_default_device()
    yield "meta"
    torch.set_default_device(before)


@pytest.mark.parametrize("record", ["decisions", "norms", "sketch", "factors"])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_the_default_device_is_the_loops_own(elsewhere: str, record: str, kind: type[torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    inputs, labels = torch.randn(6, 4), torch.randint(0, 3, (6,))
    optimizer, log = kind(model.parameters(), lr=0.1), Memory()
    torch.set_default_device(elsewhere)
    gate = open_gate(model, optimizer, TABLE, NAMES, groups=(("0.",), ("2.",)), log=log, record=record)
    for _ in range(3):
        with gate.step(NAMES):
            gate.backward(functional.cross_entropy(model(inputs), labels, reduction="none"))
    gate.start_epoch()
    assert gate.state_dict()["course"] is not None
    assert NAMES[0] in str(gate.explain(NAMES[0]))
    assert [len(block.rows) for block in log.blocks] == [6, 6, 6]
    assert [one.example for one in gate.queue] == [name for name in NAMES if name.startswith("1-")]
