"""The gate on a GPU: the same decisions, the same gradients, nothing in closed groups, and few waits for the device."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from support.gating import Memory, budget, open_gate, tables
from torch import nn
from torch.nn import functional

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

B = 8
NAMES = [f"{1 + number % 3}-{number}" for number in range(B)]


def trained(
    device: str, *, record: str = "norms", steps: int = 4, half: bool = False, deep: int = 2
) -> tuple[Any, Any]:
    """Return the gate and the log of a short run in double precision, or in half with a scaled loss."""
    torch.manual_seed(0)
    layers = [one for _ in range(deep) for one in (nn.Linear(16, 16, device="cpu"), nn.Tanh())]
    model = nn.Sequential(*layers, nn.Linear(16, 3, device="cpu")).to(device, torch.float32 if half else torch.float64)
    inputs = torch.randn(B, 16, dtype=torch.float64, device="cpu").to(device, torch.float32 if half else torch.float64)
    labels = torch.arange(B, device="cpu").remainder(3).to(device)
    rows = [[1.0] * (deep + 1), [0.5] * deep + [0.0], [0.0] * (deep + 1)]
    limits = [[None] * (deep + 1), [0.05] * (deep + 1), [None] * (deep + 1)]
    table = tables(rows, norms=limits, budgets=[budget(per_run=12_000_000, on_exhaust="attenuate")])
    groups = [(f"{2 * number}.",) for number in range(deep + 1)]
    scaler = torch.amp.GradScaler("cuda") if half else None
    optimizer, log = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), Memory()
    gate = open_gate(model, optimizer, table, NAMES, groups=groups, log=log, record=record, scaler=scaler)
    for _ in range(steps):
        with gate.step(NAMES):
            with torch.autocast(device, torch.float16, enabled=half):
                outs = model(inputs)
            gate.backward(functional.cross_entropy(outs.float() if half else outs, labels, reduction="none"))
    return gate, log


def told(row: Any) -> tuple[Any, ...]:
    """Return what the log says of a visit, but for what is measured in floating point."""
    return (
        row.example_key,
        row.route,
        row.effect,
        row.cause,
        row.reason_code,
        row.surprisal,
        row.charges,
        row.exceptions,
    )


@pytest.mark.parametrize("record", ["decisions", "norms", "sketch", "factors"])
def test_a_gpu_decides_and_moves_as_a_cpu_does(record: str) -> None:
    (here, near), (there, far) = (trained(device, record=record) for device in ("cpu", "cuda"))
    for one, other in zip(near.blocks, far.blocks, strict=True):
        assert [told(row) for row in one.rows] == [told(row) for row in other.rows]
    pairs = zip(here.machinery.model.parameters(), there.machinery.model.parameters(), strict=True)
    for mine, others in pairs:
        torch.testing.assert_close(others.cpu(), mine, rtol=1e-12, atol=1e-14)


def test_a_closed_group_stands_still_in_half_precision() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16, device="cpu"), nn.Linear(16, 3, device="cpu")).cuda()
    before = model[0].weight.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cuda")
    table = tables([(0.0, 1.0)])
    names = [f"1-{number}" for number in range(B)]
    gate = open_gate(model, optimizer, table, names, groups=(("0.",), ("1.",)), log=Memory(), scaler=scaler)
    for _ in range(3):
        with gate.step(names):
            with torch.autocast("cuda", torch.float16):
                outs = model(torch.ones(B, 16, device="cuda"))
            gate.backward(
                functional.cross_entropy(
                    outs.float(), torch.zeros(B, dtype=torch.long, device="cuda"), reduction="none"
                )
            )
    assert torch.equal(model[0].weight, before)


def test_half_precision_with_a_scaled_loss_is_recorded() -> None:
    gate, log = trained("cuda", half=True)
    assert len(log.blocks) == 4
    assert gate.state.step == 4


def waits(deep: int, record: str) -> int:
    """Return how often three later steps of a model wait for the device."""
    gate, _ = trained("cuda", record=record, steps=2, deep=deep)
    inputs = torch.randn(B, 16, dtype=torch.float64, device="cuda")
    labels = torch.zeros(B, dtype=torch.long, device="cuda")
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for _ in range(3):
                with gate.step(NAMES):
                    gate.backward(functional.cross_entropy(gate.machinery.model(inputs), labels, reduction="none"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in seen)


@pytest.mark.parametrize(("record", "most"), [("decisions", 1), ("norms", 1), ("sketch", 2), ("factors", 4)])
def test_a_step_waits_a_few_times_per_group(record: str, most: int) -> None:
    few, many = waits(2, record), waits(6, record)
    assert many - few <= 3 * 4 * most, "steps, groups"
    assert few <= 3 * (16 + 3 * most)
