"""An open gate is bitwise plain training: every rule calls the kernels that autograd calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.layer_uses import catalogue, native, use_of
from torch import Tensor, nn

LAYERS = catalogue()
pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same'"),
    pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight"),
]


def assert_native(module: nn.Module, x: Tensor, make_e: Callable[[Tensor], Tensor] = torch.randn_like) -> None:
    expected, e = native(module, x, make_e)
    out, use = use_of(module, x, e)
    assert torch.equal(out, expected.out)
    assert out.stride() == expected.out.stride()
    if expected.grad_input is not None:
        assert torch.equal(use.rule.grad_input(use), expected.grad_input)
    for own, plain in zip(use.rule.gradients(use), expected.gradients, strict=True):
        assert (own is None) == (plain is None)
        if own is not None:
            assert torch.equal(own, plain)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_bitwise_what_autograd_computes(name: str) -> None:
    assert_native(*LAYERS[name])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_layer_is_bitwise_what_autograd_computes_in_every_precision(name: str, dtype: torch.dtype) -> None:
    module, x = catalogue()[name]
    assert_native(module.to(dtype), x.to(dtype) if x.is_floating_point() else x)


@pytest.mark.parametrize("name", [name for name in LAYERS if "norm" in name or "instance" in name or "batch" in name])
def test_a_normalisation_with_single_precision_weights_takes_low_precision_inputs(name: str) -> None:
    module, x = LAYERS[name]
    assert_native(module, x.bfloat16())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "x",
    [
        torch.randn(4, 6, 3).transpose(1, 2),
        torch.randn(6, 4).t(),
        torch.randn(4, 1, 6).expand(4, 5, 6),
        torch.randn(4, 2, 3, 12)[..., ::2],
        torch.randn(1, 6),
    ],
    ids=["transposed", "by columns", "expanded", "with gaps", "one example"],
)
def test_a_linear_layer_is_native_on_inputs_with_gaps(x: Tensor, bias: bool) -> None:
    assert_native(nn.Linear(6, 5, bias=bias), x)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 6, 3),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True),
        nn.PReLU(4),
        nn.ConvTranspose2d(4, 6, 3),
    ],
)
@pytest.mark.parametrize("by_channel", [True, False])
def test_a_layer_is_native_on_images_with_channels_last(module: nn.Module, by_channel: bool) -> None:
    layout = torch.channels_last if by_channel else torch.contiguous_format
    x = torch.randn(3, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    assert_native(module, x, lambda out: torch.randn(out.shape).contiguous(memory_format=layout))


@pytest.mark.parametrize("make", [lambda: nn.RMSNorm(64), lambda: nn.LayerNorm(64), lambda: nn.PReLU(32)])
def test_a_layer_is_native_on_inputs_larger_than_the_cache(make: Callable[[], nn.Module]) -> None:
    assert_native(make(), torch.randn(5, 32, 64, 64))


@pytest.mark.parametrize("name", LAYERS)
def test_only_wanted_gradients_are_made(name: str) -> None:
    module, x = LAYERS[name]
    expected, e = native(module, x, torch.randn_like)
    for chosen, plain in enumerate(expected.gradients):
        if plain is None:
            continue
        wanted = [number == chosen for number in range(len(expected.gradients))]
        _, use = use_of(module, x, e, wanted)
        for gradients in (
            use.rule.gradients(use),
            use.rule.per_sample(use),
            use.rule.weighted(use, torch.ones(len(x))),
        ):
            assert [gradient is not None for gradient in gradients] == wanted
        assert torch.equal(use.rule.gradients(use)[chosen], plain)


@pytest.mark.parametrize("name", LAYERS)
def test_no_parameter_is_read_from_the_module(name: str) -> None:
    module, x = catalogue()[name]
    expected, e = native(module, x, torch.randn_like)
    _, use = use_of(module, x, e)
    for parameter in list(module._parameters):
        module.__dict__["_parameters"][parameter] = None
    if expected.grad_input is not None:
        assert torch.equal(use.rule.grad_input(use), expected.grad_input)
    total = [None if own is None else own.sum(0) for own in use.rule.per_sample(use)]
    for own, added, plain in zip(use.rule.gradients(use), total, expected.gradients, strict=True):
        if plain is not None:
            assert torch.equal(own, plain)
            torch.testing.assert_close(added, plain, rtol=1e-4, atol=1e-4)
    assert use.rule.squared_norms(use).shape == (len(x),)


def test_the_linear_layer_of_gpt2_is_native() -> None:
    conv = pytest.importorskip("transformers.pytorch_utils").Conv1D
    for shape in ((4, 6), (4, 3, 6), (4, 2, 30, 6)):
        assert_native(conv(5, 6), torch.randn(shape))
