"""LSTM, GRU and RNN, whole and as cells: exact, by running each example alone."""

from __future__ import annotations

import pytest
import torch
from support.operations import assert_equals_loop, cut, gated
from torch import Tensor, nn

from aqpolicy.errors import IllegalTrainingSetupError

B, T, D, H = 3, 4, 5, 2


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], *, start: bool = False, **options: object) -> None:
        super().__init__()
        self.embed = nn.Linear(D, D)
        self.layer = kind(D, H, **options)
        sides = (2 if self.layer.bidirectional else 1) * self.layer.num_layers
        self.start = nn.Parameter(torch.randn(sides, 1, H)) if start else None

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.embed(x))
        state = None if self.start is None else self.start.expand(-1, B, -1).contiguous()
        if state is not None and isinstance(self.layer, nn.LSTM):
            state = (state, torch.tanh(state))
        out, last = self.layer(h, state)
        out = out if self.layer.batch_first else out.transpose(0, 1)
        total = out.flatten(1).square().sum(1)
        for part in last if isinstance(last, tuple) else (last,):
            total = total + part.transpose(0, 1).flatten(1).sum(1)
        return total


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "options",
    [{}, {"batch_first": True}, {"batch_first": True, "bidirectional": True}, {"num_layers": 2, "bias": False}],
    ids=str,
)
def test_layers(kind: type[nn.RNNBase], options: dict[str, object]) -> None:
    torch.manual_seed(2)
    model = Recurrent(kind, **options).double()
    x = torch.randn(B, T, D).double()
    x = x if model.layer.batch_first else x.transpose(0, 1).contiguous()
    operated = assert_equals_loop(model, lambda m: m(x), [["embed."], [""]], examples=B)
    assert {use.partition(":")[0] for use in operated.slow} == {"layer"}


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("first", [True, False])
def test_learned_start_and_as_many_steps_and_layers_as_examples(kind: type[nn.RNNBase], *, first: bool) -> None:
    torch.manual_seed(2)
    model = Recurrent(kind, start=True, batch_first=first, num_layers=B).double()
    model.embed = nn.Identity()  # a layer on its own cannot know which axis is the batch
    x = torch.randn(B, B, D).double()
    assert_equals_loop(model, lambda m: m(x), [["start"], [""]], examples=B)


def test_layers_of_several_groups() -> None:
    torch.manual_seed(2)
    model = Recurrent(nn.LSTM, num_layers=2, batch_first=True).double()
    x = torch.randn(B, T, D).double()
    first = ["layer.weight_ih_l0", "layer.weight_hh_l0", "layer.bias_ih_l0", "layer.bias_hh_l0"]
    assert_equals_loop(model, lambda m: m(x), [first, [""]], examples=B)


def test_dropout_between_layers_is_drawn_once() -> None:
    torch.manual_seed(2)
    model = Recurrent(nn.LSTM, num_layers=2, batch_first=True, dropout=0.5).double()
    x = torch.randn(B, T, D).double()
    assert_equals_loop(model, lambda m: m(x), [[""]], examples=B, before=lambda: torch.manual_seed(4))


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells(kind: type[nn.RNNCellBase]) -> None:
    torch.manual_seed(2)
    cell = kind(D, H).double()
    x = torch.randn(B, T, D).double()

    def loss(model: nn.Module) -> Tensor:
        state = None
        for step in range(T):
            state = model(x[:, step], state)
        return (state[0] if isinstance(state, tuple) else state).square().sum(1)

    assert_equals_loop(cell, loss, examples=B)


def test_packed_sequences_are_refused() -> None:
    model = nn.LSTM(D, H, batch_first=True)
    x = torch.randn(B, T, D)

    def loss(model: nn.Module) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([4, 3, 2], device="cpu"), batch_first=True)
        return model(packed)[1][0][0].sum(1)

    with pytest.raises(IllegalTrainingSetupError, match="packed sequence, which has no example axis; pad it"):
        gated(model, loss, cut(model), torch.ones(B, 1))
