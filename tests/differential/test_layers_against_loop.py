"""Any configuration of any layer: bitwise autograd for the sum, and a loop over the examples for each alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.layer_uses import BATCH, INSTANCE, PLAIN, TRANSPOSED, doubled, native, one_by_one, settled, use_of
from torch import Tensor, nn

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")

Case = tuple[nn.Module, Tensor]
SMALL = st.integers(1, 3)
EXAMPLES = st.integers(1, 4)
BOOLEANS = st.booleans()
SEEDS = st.integers(0, 99)


@st.composite
def linears(draw: st.DrawFn) -> Case:
    torch.manual_seed(draw(SEEDS))
    positions = draw(st.lists(st.integers(1, 6), max_size=2))
    narrow, wide = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    return nn.Linear(narrow, wide, bias=draw(BOOLEANS)), torch.randn(draw(EXAMPLES), *positions, narrow)


@st.composite
def convolutions(draw: st.DrawFn) -> Case:
    torch.manual_seed(draw(SEEDS))
    spatial, groups = draw(SMALL), draw(st.integers(1, 2))
    mode = draw(st.sampled_from(["zeros", "zeros", "circular", "reflect", "replicate"]))
    size = [draw(SMALL) for _ in range(spatial)]
    dilation = [draw(st.integers(1, 2)) for _ in range(spatial)]
    padding = draw(st.sampled_from(["same", "valid", [draw(st.integers(0, 2)) for _ in range(spatial)]]))
    stride = [1] * spatial if padding == "same" else [draw(SMALL) for _ in range(spatial)]
    module = PLAIN[spatial - 1](
        groups * draw(SMALL),
        groups * draw(st.integers(1, 9)),
        size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(BOOLEANS),
        padding_mode=mode,
    )
    return module, torch.randn(draw(EXAMPLES), module.in_channels, *[draw(st.integers(5, 6)) for _ in range(spatial)])


@st.composite
def transposed(draw: st.DrawFn) -> Case:
    torch.manual_seed(draw(SEEDS))
    spatial, groups = draw(SMALL), draw(st.integers(1, 2))
    stride, dilation = ([draw(SMALL) for _ in range(spatial)] for _ in range(2))
    extra = [draw(st.integers(0, max(most) - 1)) for most in zip(stride, dilation, strict=True)]
    module = TRANSPOSED[spatial - 1](
        groups * draw(SMALL),
        groups * draw(st.integers(1, 9)),
        [draw(SMALL) for _ in range(spatial)],
        stride=stride,
        padding=[draw(st.integers(0, 1)) for _ in range(spatial)],
        output_padding=extra,
        groups=groups,
        bias=draw(BOOLEANS),
        dilation=dilation,
    )
    return module, torch.randn(draw(EXAMPLES), module.in_channels, *[draw(st.integers(3, 4)) for _ in range(spatial)])


@st.composite
def tables(draw: st.DrawFn) -> Case:
    torch.manual_seed(draw(SEEDS))
    rows, width = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    padding = draw(st.none() | st.integers(-rows, rows - 1))
    bag = draw(st.sampled_from([None, None, "sum", "mean", "max"]))
    if bag is not None:
        shape = (draw(EXAMPLES), draw(st.integers(1, 6)))
        return nn.EmbeddingBag(rows, width, mode=bag, padding_idx=padding), torch.randint(rows, shape)
    shape = (draw(EXAMPLES), *draw(st.lists(st.integers(1, 6), max_size=2)))
    return nn.Embedding(rows, width, padding_idx=padding), torch.randint(rows, shape)


@st.composite
def normalisations(draw: st.DrawFn) -> Case:
    torch.manual_seed(draw(SEEDS))
    shape = draw(st.lists(st.integers(2, 5), min_size=1, max_size=2))
    x = torch.randn(draw(EXAMPLES), *draw(st.lists(st.integers(1, 4), max_size=2)), *shape)
    if draw(BOOLEANS):
        return nn.RMSNorm(shape, eps=draw(st.none() | st.just(1e-4))), x
    return nn.LayerNorm(shape, eps=1e-4, bias=draw(BOOLEANS)), x


@st.composite
def channels(draw: st.DrawFn) -> Case:
    torch.manual_seed(draw(SEEDS))
    spatial, count = draw(SMALL), draw(st.integers(1, 4))
    x = 1.0 + torch.randn(draw(EXAMPLES), count, *[draw(st.integers(2, 4)) for _ in range(spatial)])
    kind = draw(st.sampled_from(["group", "instance", "frozen instance", "batch", "prelu", "one slope"]))
    if kind == "group":
        return nn.GroupNorm(draw(st.sampled_from([n for n in range(1, count + 1) if count % n == 0])), count), x
    if kind == "instance":
        return INSTANCE[spatial - 1](count, affine=True), x
    if kind == "frozen instance":
        return settled(INSTANCE[spatial - 1](count, affine=True, track_running_stats=True), x), x
    if kind == "batch":
        return settled(BATCH[spatial - 1](count), x), x
    return nn.PReLU(count if kind == "prelu" else 1), x


ANY = st.one_of(linears(), convolutions(), transposed(), tables(), normalisations(), channels())


@settings(max_examples=150, deadline=None)
@given(ANY)
def test_the_sum_is_bitwise_that_of_autograd(case: Case) -> None:
    module, x = case
    try:
        expected, e = native(module, x, torch.randn_like)
    except RuntimeError:  # torch has no such configuration, for instance an output of size 0
        assume(False)
    out, use = use_of(module, x, e)
    assert torch.equal(out, expected.out)
    if expected.grad_input is not None:
        assert torch.equal(use.rule.grad_input(use), expected.grad_input)
    for own, plain in zip(use.rule.gradients(use), expected.gradients, strict=True):
        assert own is None if plain is None else torch.equal(own, plain)


@settings(max_examples=150, deadline=None)
@given(ANY)
def test_each_example_is_what_a_loop_computes(case: Case) -> None:
    module, x = doubled(case[0]), case[1].double() if case[1].is_floating_point() else case[1]
    try:
        _, e = native(module, x, torch.randn_like)
    except RuntimeError:
        assume(False)
    _, use = use_of(module, x, e)
    truth = list(one_by_one(module, x, e))
    own, squares = use.rule.per_sample(use), use.rule.squared_norms(use)
    for column, made in enumerate(own):
        if made is not None:
            true = torch.stack([gradients[column] for gradients in truth])
            torch.testing.assert_close(made, true, rtol=1e-12, atol=1e-12 * float(true.norm()))
    expected = torch.stack([sum(g.norm().square() for g in gradients if g is not None) for gradients in truth])
    torch.testing.assert_close(squares, expected, rtol=1e-12, atol=1e-12 * float(expected.max()))
    factors = torch.rand(len(x), dtype=torch.float64)
    for summed, made in zip(use.rule.weighted(use, factors), own, strict=True):
        if made is not None:
            total = torch.tensordot(factors, made, 1)
            torch.testing.assert_close(summed, total, rtol=1e-12, atol=1e-12 * float(made.norm()))
