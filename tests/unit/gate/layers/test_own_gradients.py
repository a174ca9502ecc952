"""Every example's own gradient, its norm, and weighted sums are exact, and made in single precision at least."""

from __future__ import annotations

import pytest
import torch
from support.layer_uses import catalogue, doubled, native, one_by_one, use_of
from torch import Tensor, nn

from aqpolicy.gate.routing.layers import Use, rule_for
from aqpolicy.gate.routing.layers import rule as rules
from aqpolicy.gate.routing.layers.conv import ConvolutionRule
from aqpolicy.gate.routing.layers.rule import SCRATCH_BYTES

LAYERS = catalogue()
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")


def assert_exact(use: Use, truth: list[tuple[Tensor | None, ...]], tolerance: float) -> None:
    """Compare what a rule makes per example with the gradients of each example alone, one tuple each."""
    own, squares = use.rule.per_sample(use), use.rule.squared_norms(use)
    columns = [None if column[0] is None else torch.stack(column) for column in zip(*truth, strict=True)]
    for made, true in zip(own, columns, strict=True):
        assert (made is None) == (true is None)
        if made is not None:
            assert (made - true).norm() <= tolerance * true.norm()
    true_squares = sum(column.flatten(1).norm(dim=1).square() for column in columns if column is not None)
    torch.testing.assert_close(
        squares.double(), true_squares, rtol=tolerance, atol=tolerance * float(true_squares.max())
    )


@pytest.mark.parametrize("name", LAYERS)
def test_own_gradients_equal_a_loop_over_the_examples(name: str) -> None:
    module, x = doubled(LAYERS[name][0]), LAYERS[name][1]
    x = x.double() if x.is_floating_point() else x
    _, e = native(module, x, torch.randn_like)
    _, use = use_of(module, x, e)
    assert_exact(use, list(one_by_one(module, x, e)), 1e-12)


@pytest.mark.parametrize("name", [name for name in LAYERS if "conv" in name.lower()])
@pytest.mark.parametrize("room", [1, SCRATCH_BYTES])
def test_a_convolution_unfolded_as_on_an_accelerator_gives_the_same(
    name: str, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x = doubled(LAYERS[name][0]), LAYERS[name][1].double()
    _, e = native(module, x, torch.randn_like)
    _, use = use_of(module, x, e)
    assert isinstance(use.rule, ConvolutionRule)
    extent, (weight, _) = use.rule.extent(use), use.rule.per_sample(use)
    assert weight is not None
    if extent is None:
        assert module.groups > 1, "only groups of channels have no outer products"
        return
    monkeypatch.setattr(rules, "scratch", lambda _: room)
    torch.testing.assert_close(use.rule.unfolded(use, extent), weight, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_own_gradients_of_a_low_precision_layer_are_made_in_single_precision(name: str, dtype: torch.dtype) -> None:
    module, x = catalogue()[name]
    module = nn.RMSNorm(module.normalized_shape, eps=1e-6) if isinstance(module, nn.RMSNorm) else module
    module, x = module.to(dtype), x.to(dtype) if x.is_floating_point() else x
    _, e = native(module, x, torch.randn_like)
    _, use = use_of(module, x, e)
    assert all(own.dtype == torch.float32 for own in use.rule.per_sample(use) if own is not None)
    assert use.rule.squared_norms(use).dtype == torch.float32
    # The truth has the same inputs and weights; what a rule makes of them loses no more than single precision does.
    wide = doubled(module)
    assert_exact(use, list(one_by_one(wide, x.double() if x.is_floating_point() else x, e.double())), 2e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_the_weighted_sum_is_that_of_the_own_gradients(name: str) -> None:
    module, x = doubled(LAYERS[name][0]), LAYERS[name][1]
    x = x.double() if x.is_floating_point() else x
    _, e = native(module, x, torch.randn_like)
    _, use = use_of(module, x, e)
    factors = torch.tensor([0.5, 0.0, 1.0, 3.25], dtype=torch.float64)
    for summed, own in zip(use.rule.weighted(use, factors), use.rule.per_sample(use), strict=True):
        if own is not None:
            torch.testing.assert_close(summed, torch.tensordot(factors, own, 1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_a_use_of_some_examples_has_their_gradients_and_norms(name: str) -> None:
    module, x = doubled(LAYERS[name][0]), LAYERS[name][1]
    x = x.double() if x.is_floating_point() else x
    _, e = native(module, x, torch.randn_like)
    _, use = use_of(module, x, e)
    for some, rows in ((use.rows(torch.tensor([3, 1])), [3, 1]), (use.between(1, 3), [1, 2])):
        for made, whole in zip(use.rule.per_sample(some), use.rule.per_sample(use), strict=True):
            if whole is not None:
                torch.testing.assert_close(made, whole[rows], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(use.rule.squared_norms(some), use.rule.squared_norms(use)[rows], rtol=1e-12, atol=0)


POSITIONWISE = [name for name, (module, _) in LAYERS.items() if rule_for(module, name).positionwise]


@pytest.mark.parametrize("name", POSITIONWISE)
def test_positions_of_a_positionwise_layer_may_be_cut_and_joined(name: str) -> None:
    module, x = doubled(LAYERS[name][0]), LAYERS[name][1]
    x = x.double() if x.is_floating_point() else x
    trailing = rule_for(module, name).trailing(module)
    x = x.reshape(len(x), -1, *x.shape[x.dim() - (trailing if x.is_floating_point() else 0) :])
    x = torch.cat([x, x.flip(0)], dim=1)
    _, e = native(module, x, torch.randn_like)
    _, whole = use_of(module, x, e)
    parts = [use_of(module, x[:, run], e[:, run])[1] for run in (slice(0, 1), slice(1, None))]
    for own, *cut in zip(whole.rule.per_sample(whole), *(part.rule.per_sample(part) for part in parts), strict=True):
        if own is not None:
            torch.testing.assert_close(sum(cut), own, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("broken", [float("inf"), float("nan")])
def test_an_example_without_a_finite_gradient_does_not_touch_the_others(name: str, broken: float) -> None:
    module, x = LAYERS[name]
    _, e = native(module, x, torch.randn_like)
    spoiled = e.clone()
    spoiled[1] = broken
    others = torch.tensor([0, 2, 3])
    (_, plain), (_, hurt) = use_of(module, x, e), use_of(module, x, spoiled)
    norms, found = plain.rule.squared_norms(plain), hurt.rule.squared_norms(hurt)
    torch.testing.assert_close(found[others], norms[others])
    assert not found[1].isfinite()
    for own, made in zip(plain.rule.per_sample(plain), hurt.rule.per_sample(hurt), strict=True):
        if own is not None:
            torch.testing.assert_close(made[others], own[others])


@pytest.mark.parametrize("broken", [float("inf"), float("nan")])
def test_what_arrives_at_the_padding_row_is_not_counted(broken: float) -> None:
    module, x, e = nn.Embedding(5, 3, padding_idx=2), torch.tensor([[0, 2, 2, 4], [1, 1, 2, 0]]), torch.randn(2, 4, 3)
    _, clean = use_of(module, x, e)
    _, use = use_of(module, x, torch.where((x == 2).unsqueeze(2), broken, e))
    assert torch.equal(use.rule.squared_norms(use), clean.rule.squared_norms(clean))
    assert torch.equal(use.rule.per_sample(use)[0], clean.rule.per_sample(clean)[0])


def test_a_factor_is_not_rounded_to_a_low_precision() -> None:
    # Rounded to bfloat16 the factor would be 0.6992, for the whole gradient alike.
    e = torch.randn(1, 4000).bfloat16()
    _, use = use_of(nn.Linear(2, 4000).bfloat16(), torch.randn(1, 2).bfloat16(), e)
    scaled = use.scaled(torch.tensor([0.7011])).e
    assert float(scaled.float().norm() / e.float().norm()) == pytest.approx(0.7011, abs=3e-4)
