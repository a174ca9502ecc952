"""Sketches are linear, keep inner products on average, and survive their codec."""

from __future__ import annotations

import pytest
import torch

from aqpolicy.errors import CorruptLogError
from aqpolicy.gate.routing.sketch import SketchPlan

PLAN = SketchPlan((1000, 40, 0), k=64)


def test_small_groups_are_kept_whole() -> None:
    flat = torch.randn(3, 40)
    assert PLAN.widths == (64, 40, 0)
    assert torch.equal(PLAN.sketch(1, flat), flat)


def test_a_sketch_is_linear() -> None:
    one, two = torch.randn(2, 1000).double()
    together = PLAN.sketch(0, 2 * one - 3 * two)
    assert torch.allclose(together, 2 * PLAN.sketch(0, one) - 3 * PLAN.sketch(0, two))


def test_inner_products_are_kept_without_bias() -> None:
    torch.manual_seed(0)
    one = torch.randn(1000)
    two = one + 0.5 * torch.randn(1000)
    plans = [SketchPlan((1000,), k=64, seed=seed) for seed in range(200)]
    estimates = torch.stack([plan.sketch(0, one) @ plan.sketch(0, two) for plan in plans])
    exact = one @ two
    assert abs(estimates.mean() - exact) < 4 * estimates.std() / 200**0.5
    assert estimates.std() < 0.3 * exact


def test_a_plan_is_the_same_everywhere() -> None:
    flat = torch.arange(1000.0).unsqueeze(0)
    assert torch.equal(PLAN.sketch(0, flat), SketchPlan((1000,), k=64).sketch(0, flat))
    assert not torch.equal(PLAN.sketch(0, flat), SketchPlan((1000,), k=64, seed=1).sketch(0, flat))
    order, signs = PLAN._hashed(0, torch.device("cpu"))
    assert sorted(order.tolist()) == list(range(1000))
    assert order[:4].tolist() == [669, 747, 941, 471]
    assert set(signs.tolist()) == {-1.0, 1.0}


def test_the_codec_keeps_eight_bits() -> None:
    values = [torch.randn(5, width) for width in PLAN.widths]
    values[0][3] = 0.0
    records = PLAN.encode(values)
    assert len(records) == 5
    for number, record in enumerate(records):
        for sketch, want in zip(PLAN.decode(record), values, strict=True):
            top = want[number].abs().max().item() if want.shape[1] else 0.0
            assert torch.allclose(sketch, want[number], rtol=0, atol=0.51 * top / 127)


@pytest.mark.parametrize("record", [b"", b"\0" * 115, b"\0" * 117, b"\0\0\xc0\x7f" + b"\0" * 112])
def test_records_that_do_not_fit_are_refused(record: bytes) -> None:
    with pytest.raises(CorruptLogError):
        PLAN.decode(record)
