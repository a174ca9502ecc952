"""Sketches are linear, keep inner products on average, and survive their codec."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from math import prod

import pytest
import torch
from torch import Tensor

from aqpolicy.errors import CorruptLogError
from aqpolicy.gate.routing.sketch import SketchPlan

SHAPES = ((20, 40), (40,), (160,))
PLAN = SketchPlan((SHAPES, ((5, 8),), ()), k=64)
SEEDS = 200


def test_small_groups_are_kept_whole() -> None:
    flat = torch.randn(3, 40)
    assert PLAN.sizes == (1000, 40, 0)
    assert PLAN.widths == (64, 40, 0)
    assert torch.equal(PLAN.sketch(1, flat), flat)
    assert PLAN.sketch(2, torch.zeros(3, 0)).shape == (3, 0)


def test_a_sketch_is_linear() -> None:
    one, two = torch.randn(2, 1000).double()
    together = PLAN.sketch(0, 2 * one - 3 * two)
    assert torch.allclose(together, 2 * PLAN.sketch(0, one) - 3 * PLAN.sketch(0, two))


def numbers() -> tuple[Tensor, Tensor]:
    one = torch.randn(1000)
    return one, one + 0.5 * torch.randn(1000)


def one_position() -> tuple[Tensor, Tensor]:
    """Return gradients of one position each, whose inputs resemble each other and whose output gradients do not."""
    x = torch.randn(40)
    pairs = [(torch.randn(20), x + 0.3 * torch.randn(40)) for _ in range(2)]
    one, two = (torch.cat([torch.outer(e, x).flatten(), x, torch.zeros(160)]) for e, x in pairs)
    return one, two


def many_positions() -> tuple[Tensor, Tensor]:
    """Return gradients of thirty positions that share their inputs."""
    x = torch.randn(30, 40)
    one, two = (torch.cat([(torch.randn(30, 20).T @ x).flatten(), torch.randn(200)]) for _ in range(2))
    return one, two


@pytest.mark.parametrize("made", [numbers, one_position, many_positions])
def test_inner_products_are_kept_without_bias(made: Callable[[], tuple[Tensor, Tensor]]) -> None:
    torch.manual_seed(0)
    one, two = made()
    for left, right in ((one, two), (one, one)):
        plans = [SketchPlan((SHAPES,), k=64, seed=seed) for seed in range(SEEDS)]
        estimates = torch.stack([plan.sketch(0, left) @ plan.sketch(0, right) for plan in plans])
        exact = left @ right
        assert abs(estimates.mean() - exact) < 4 * estimates.std() / SEEDS**0.5
        # Independent signs for every number would give 1; what rows and columns share costs no more than this.
        variance = (left.square().sum() * right.square().sum() + exact.square()) / 64
        assert 0.2 * variance < estimates.var() < 3 * variance


def test_a_plan_is_the_same_everywhere() -> None:
    flat = torch.arange(1000.0).unsqueeze(0)
    assert torch.equal(PLAN.sketch(0, flat), SketchPlan((SHAPES,), k=64).sketch(0, flat))
    assert not torch.equal(PLAN.sketch(0, flat), SketchPlan((SHAPES,), k=64, seed=1).sketch(0, flat))
    assert PLAN.sketch(0, flat)[0, :4].tolist() == [-630.0, -1572.0, 2664.0, -3744.0]


def signs(name: str, count: int) -> list[int]:
    drawn = hashlib.shake_256(name.encode()).digest(count // 8 + 1)
    return [1 if drawn[n // 8] >> n % 8 & 1 else -1 for n in range(count)]


def by_the_format(shapes: Sequence[tuple[int, ...]], k: int, seed: int, flat: Sequence[int]) -> list[int]:
    """Sketch one gradient number by number, as docs/formats/lineage-log.md says it."""
    found, numbers, taken = [0] * k, iter(flat), 0
    matrix: tuple[int, int, int, int, list[int], list[int]] | None = None
    for number, shape in enumerate(shapes):
        name, size = f"aqpolicy sketch ring-1 {k} {seed} 0 {number}", prod(shape)
        rows, columns = (shape[0], size // shape[0]) if len(shape) > 1 else (1, size)
        if size > k and min(rows, columns) > 1:
            short = max(rows, columns) < k
            r = k // rows if short and rows <= columns else 1
            c = k // columns if short and columns < rows else 1
            matrix = rows, columns, r, c, signs(f"{name} rows", rows), signs(f"{name} columns", columns)
            for i in range(rows):
                for j in range(columns):
                    found[(r * i + c * j) % k] += matrix[4][i] * matrix[5][j] * next(numbers)
            continue
        if matrix is not None and len(shape) == 1 and size in matrix[:2]:
            (sign,) = signs(f"{name} sign", 1)
            along = 0 if size == matrix[0] else 1
            for i in range(size):
                place = matrix[2 + along] * i + matrix[3 - along] * matrix[1 - along]
                found[place % k] += sign * matrix[4 + along][i] * next(numbers)
        else:
            for i, sign in enumerate(signs(name, size)):
                found[(taken + i) % k] += sign * next(numbers)
            taken += size
        matrix = None
    return found


@pytest.mark.parametrize(
    "shapes",
    [
        ((20, 40), (40,), (160,)),
        ((40, 20), (40,), (9,), (3, 4), (5,)),
        ((20, 20), (20,), (20,), ()),
        ((70, 90), (70,), (70, 2, 3)),
        ((9, 2, 4), (8,), (100, 3), (3,)),
        ((65, 3), (1, 200), (200, 1), (200,)),
    ],
)
def test_a_sketch_is_what_the_format_says(shapes: tuple[tuple[int, ...], ...]) -> None:
    flat = torch.randint(-9, 9, (sum(map(prod, shapes)),))
    plan = SketchPlan((shapes,), 64, 3)
    assert plan.sketch(0, flat.double()).tolist() == by_the_format(shapes, 64, 3, flat.tolist())


def test_groups_have_plans_of_their_own() -> None:
    flat, plan = torch.randn(1, 1000), SketchPlan((SHAPES, SHAPES), k=64)
    assert not torch.equal(plan.sketch(0, flat), plan.sketch(1, flat))


def test_the_codec_keeps_eight_bits() -> None:
    values = [torch.randn(5, width) for width in PLAN.widths]
    values[0][3] = 0.0
    records = PLAN.encode(values)
    assert len(records) == 5
    for number, record in enumerate(records):
        for sketch, want in zip(PLAN.decode(record), values, strict=True):
            top = want[number].abs().max().item() if want.shape[1] else 0.0
            assert torch.allclose(sketch, want[number], rtol=0, atol=0.51 * top / 127)


def test_groups_of_one_width_are_coded_as_each_alone() -> None:
    plan = SketchPlan(tuple(((size,),) for size in (9, 2, 9, 9, 2)), k=8)
    values = [torch.randn(3, width) for width in plan.widths]
    alone = [SketchPlan((shapes,), k=8).encode([own]) for shapes, own in zip(plan.shapes, values, strict=True)]
    assert plan.encode(values) == [b"".join(parts) for parts in zip(*alone, strict=True)]


def test_numbers_too_small_for_a_scale_are_coded_as_nothing_or_almost_nothing() -> None:
    plan = SketchPlan((((3,),),), k=4)
    (record,) = plan.encode([torch.tensor([[1e-45, -1e-45, 0.0]])])
    assert plan.decode(record)[0].abs().max() <= 2e-45


@pytest.mark.parametrize("record", [b"", b"\0" * 115, b"\0" * 117, b"\0\0\xc0\x7f" + b"\0" * 112])
def test_records_that_do_not_fit_are_refused(record: bytes) -> None:
    with pytest.raises(CorruptLogError):
        PLAN.decode(record)
