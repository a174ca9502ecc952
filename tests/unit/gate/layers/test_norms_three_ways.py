"""Norms from outer products: whichever way is chosen as the cheapest, the norm is the same."""

from __future__ import annotations

import pytest
import torch
from support.layer_uses import use_of
from torch import Tensor, nn

from aqpolicy.gate.routing.layers import Use
from aqpolicy.gate.routing.layers.outer import GRAM_ADVANTAGE, Extent, OuterRule, outer_norms
from aqpolicy.gate.routing.layers.rule import CACHE_BYTES, SCRATCH_BYTES, cached, chunks, joined, sum_of_squares


def linear_use(length: int, wide: int, narrow: int, examples: int = 3) -> Use:
    module = nn.Linear(narrow, wide).double()
    x, e = (torch.randn(examples, length, size, dtype=torch.float64) for size in (narrow, wide))
    return use_of(module, x, e)[1]


@pytest.mark.parametrize(
    ("extent", "for_norms", "for_both"),
    [
        (Extent(1, 2, 2), True, True),  # one position: a product of norms
        (Extent(32, 768, 768), True, True),  # few positions, many features: Gram matrices
        (Extent(128, 1536, 384), True, True),
        (Extent(256, 768, 768), True, False),  # in between: Gram matrices only where no sum is wanted
        (Extent(512, 64, 64), False, False),  # many positions, few features: the gradients themselves
        (Extent(128, 8, 384), False, False),  # an adapter of low rank
    ],
)
def test_the_cheapest_way_follows_from_positions_and_features(extent: Extent, for_norms: bool, for_both: bool) -> None:
    assert (extent.gram_for_norms, extent.gram_for_both(GRAM_ADVANTAGE)) == (for_norms, for_both)


@pytest.mark.parametrize(("length", "wide", "narrow"), [(1, 7, 5), (3, 40, 30), (12, 40, 30), (50, 4, 3)])
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_the_chosen_way_gives_the_norm_of_the_gradients(
    length: int, wide: int, narrow: int, wanted: tuple[bool, bool]
) -> None:
    module = nn.Linear(narrow, wide).double()
    x, e = (torch.randn(3, length, size, dtype=torch.float64) for size in (narrow, wide))
    _, use = use_of(module, x, e, wanted)
    expected = sum_of_squares(use.rule.per_sample(use))
    torch.testing.assert_close(use.rule.squared_norms(use), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("bias", [True, False])
def test_gram_matrices_of_a_convolution_give_the_norm_of_its_gradients(bias: bool) -> None:
    for module, shape in (
        (nn.Conv1d(4, 6, 3, dilation=2, padding=3, stride=2, bias=bias), (3, 4, 9)),
        (nn.Conv2d(4, 6, (3, 2), padding=(1, 0), bias=bias, padding_mode="circular"), (3, 4, 5, 6)),
        (nn.Conv3d(2, 3, 2, stride=(1, 2, 1), bias=bias), (3, 2, 4, 5, 4)),
        (nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=(1, 0), bias=bias), (3, 4, 5, 4)),
        (nn.ConvTranspose3d(2, 3, 2, dilation=(1, 2, 1), bias=bias), (3, 2, 3, 4, 3)),
        (nn.ConvTranspose2d(4, 3, (1, 2), dilation=3, output_padding=(2, 1), padding=1, bias=bias), (3, 4, 3, 4)),
    ):
        module.double()
        x = torch.randn(shape, dtype=torch.float64)
        _, use = use_of(module, x, torch.randn_like(module(x)))
        assert isinstance(use.rule, OuterRule)
        sides = use.rule.factors(use)
        gradient, shift = use.rule.per_sample(use)
        torch.testing.assert_close(
            outer_norms(*sides, bias=False), gradient.flatten(1).norm(dim=1).square(), rtol=1e-12, atol=0
        )
        if bias:
            torch.testing.assert_close(use.rule.shift(use), shift)


def test_a_deep_convolution_with_few_places_does_not_make_its_gradients() -> None:
    module = nn.Conv2d(64, 64, 3, padding=1)
    x = torch.randn(2, 64, 4, 4)
    _, use = use_of(module, x, torch.randn(2, 64, 4, 4))
    assert not use.rule.materialises(use)
    torch.testing.assert_close(use.rule.squared_norms(use), sum_of_squares(use.rule.per_sample(use)), rtol=1e-5, atol=0)
    grouped = nn.Conv2d(64, 64, 3, padding=1, groups=2)
    assert use_of(grouped, x, torch.randn(2, 64, 4, 4))[1].rule.materialises(
        use_of(grouped, x, torch.randn(2, 64, 4, 4))[1]
    )


@pytest.mark.parametrize(
    ("size", "room", "lengths"), [(10, 25, [2, 2, 1]), (30, 25, [1] * 5), (5, 25, [5]), (0, 25, [5])]
)
def test_a_use_is_split_into_runs_that_fit(size: int, room: int, lengths: list[int]) -> None:
    use = linear_use(2, 3, 4, examples=5)
    runs = list(chunks(use, size, room))
    assert [len(run.e) for run in runs] == lengths
    assert torch.equal(joined([run.x for run in runs]), use.x)
    assert torch.equal(joined([run.e for run in runs]), use.e)


def test_norms_made_in_several_runs_are_the_norms_of_the_whole() -> None:
    # 600 * 600 weights of 8 bytes: 5 examples to a run.
    use = linear_use(350, 600, 600, examples=7)
    assert len(list(chunks(use, 600 * 601 * 8))) == 2
    expected = sum_of_squares(use.rule.per_sample(use))
    torch.testing.assert_close(use.rule.squared_norms(use), expected, rtol=1e-12, atol=0)


def test_a_norm_over_more_than_the_cache_is_the_norm_of_the_whole() -> None:
    module = nn.LayerNorm(64).double()
    x, e = (torch.randn(5, CACHE_BYTES // 64 // 8 // 2, 64, dtype=torch.float64) for _ in range(2))
    _, use = use_of(module, x, e)
    assert len(list(cached(use))) == 3
    weight, bias = use.rule.per_sample(use)
    normalised = torch.nn.functional.layer_norm(x, (64,), eps=module.eps)
    torch.testing.assert_close(weight, (e * normalised).sum(1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(bias, e.sum(1), rtol=1e-12, atol=1e-12)


def test_a_norm_of_a_long_gradient_keeps_single_precision() -> None:
    gradient: Tensor = torch.randn(2, 400, 500, generator=torch.Generator().manual_seed(3))
    expected = gradient.double().flatten(1).norm(dim=1).square()
    torch.testing.assert_close(sum_of_squares((gradient, None)).double(), expected, rtol=5e-7, atol=0)
    assert SCRATCH_BYTES >= CACHE_BYTES
