"""`nn.MultiheadAttention` and the encoder layers built on it: parameters used by function, batch second inside."""

from __future__ import annotations

import pytest
import torch
from support.operations import assert_equals_loop
from torch import Tensor, nn

B, T, S, D = 3, 4, 5, 6


def read_out(out: Tensor) -> Tensor:
    """One number per example that depends on every number of the output."""
    out = out.flatten(1)
    return (out.square() * torch.linspace(-1, 2, out.shape[1], dtype=out.dtype)).sum(1)


def sequence(length: int, *, first: bool) -> Tensor:
    x = torch.randn(B, length, D).double()
    return x if first else x.transpose(0, 1).contiguous()


class Attending(nn.Module):
    def __init__(self, *, first: bool, cross: bool, call: dict[str, object], **options: object) -> None:
        super().__init__()
        self.embed = nn.Linear(D, D)
        self.attention = nn.MultiheadAttention(D, 2, batch_first=first, **options)
        self.first, self.cross, self.call = first, cross, call

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        q = torch.tanh(self.embed(x))
        k = torch.tanh(self.embed(y)) if self.cross else q
        out, weights = self.attention(q, k, k, **self.call)
        out = out if self.first else out.transpose(0, 1)
        total = out.flatten(1).square().sum(1)
        return total if weights is None else total + weights.flatten(1).square().sum(1)


def padding(length: int) -> Tensor:
    mask = torch.zeros(B, length, dtype=torch.bool)
    mask[1, -1] = True
    return mask


CASES = {
    "self": {},
    "no weights": {"call": {"need_weights": False}},
    "causal": {"call": {"attn_mask": torch.ones(T, T).triu(1).bool(), "need_weights": False}},
    "weights of each head": {"call": {"average_attn_weights": False}},
    "padded": {"call": {"key_padding_mask": padding(T)}},
    "cross": {"cross": True},
    "cross padded": {"cross": True, "call": {"key_padding_mask": padding(S), "need_weights": False}},
    "no bias": {"bias": False},
    "extra key and value": {"add_bias_kv": True, "add_zero_attn": True},
    "separate projections": {"cross": True, "kdim": D, "vdim": D, "separate": True},
}


def loss_of(x: Tensor, y: Tensor) -> object:
    return lambda model: model(x, y)


@pytest.mark.parametrize("first", [True, False], ids=["batch first", "batch second"])
@pytest.mark.parametrize("case", CASES)
def test_attention(case: str, *, first: bool) -> None:
    torch.manual_seed(1)
    options = dict(CASES[case])
    separate = options.pop("separate", False)
    model = Attending(first=first, cross=options.pop("cross", False), call=options.pop("call", {}), **options).double()
    if separate:
        old = model.attention
        old._qkv_same_embed_dim = False
        for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
            old.register_parameter(name, nn.Parameter(torch.randn(D, D).double()))
        old.register_parameter("in_proj_weight", None)
    x, y = sequence(T, first=first), sequence(S, first=first)
    assert_equals_loop(model, loss_of(x, y), [["embed."], [""]], examples=B)


@pytest.mark.parametrize("first", [True, False], ids=["batch first", "batch second"])
def test_as_many_positions_as_examples(*, first: bool) -> None:
    torch.manual_seed(1)
    model = Attending(first=first, cross=False, call={}).double()
    model.embed = nn.Identity()  # a layer on its own cannot know which axis is the batch
    x = sequence(B, first=first)
    assert_equals_loop(model, loss_of(x, x), [["attention.in_proj"], [""]], examples=B)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("first", [True, False], ids=["batch first", "batch second"])
def test_encoder_stack(*, first: bool, norm_first: bool) -> None:
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(D, 2, 8, batch_first=first, norm_first=norm_first, dropout=0.0)
    model = nn.Sequential(nn.Linear(D, D), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)).double()
    x = sequence(T, first=first)

    def loss(model: nn.Module) -> Tensor:
        out = model(x)
        return read_out(out if first else out.transpose(0, 1))

    assert_equals_loop(model, loss, [["0.", "1.layers.0"], [""]], examples=B)


def test_decoder_layer_and_dropout() -> None:
    """Dropout is drawn once: gradients are those of the forward pass that was."""
    torch.manual_seed(1)
    model = nn.TransformerDecoderLayer(D, 2, 8, batch_first=True, dropout=0.3).double()
    x, y = sequence(T, first=True), sequence(S, first=True)
    assert_equals_loop(
        model,
        lambda model: read_out(model(x, y)),
        [["self_attn."], [""]],
        examples=B,
        before=lambda: torch.manual_seed(9),
    )
