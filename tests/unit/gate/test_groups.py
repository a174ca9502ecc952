"""Every trained parameter is in a group, or nothing is attached."""

from __future__ import annotations

import pytest
import torch
from support.gating import binding, open_gate, tables
from torch import nn

from aqpolicy.errors import IllegalTrainingSetupError, UngovernedParameterError, UnsupportedLayerError
from aqpolicy.gate.routing.groups import bind_groups


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4))


def test_groups_hold_the_models_own_parameters() -> None:
    model = net()
    groups = bind_groups(model, ["a", "b"], binding(model, (("0.",), ("2.",))))
    assert [group.names for group in groups] == [("0.weight", "0.bias"), ("2.weight", "2.bias")]
    assert groups[0].parameters[0] is model[0].weight
    assert [group.numel for group in groups] == [16, 20]


def test_a_trained_parameter_in_no_group_is_refused() -> None:
    model = net()
    with pytest.raises(UngovernedParameterError, match=r"`2.weight` is in no depth group \(2 in all\)"):
        bind_groups(model, ["a"], binding(model, (("0.",),)))


def test_a_frozen_parameter_needs_no_group() -> None:
    model = net()
    model[2].requires_grad_(False)
    assert bind_groups(model, ["a"], binding(model, (("0.",),)))[0].numel == 16


def test_a_parameter_that_is_tied_across_groups_is_in_each_of_them() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    groups = bind_groups(model, ["a", "b"], binding(model, (("0.",), ("1.",))))
    assert [group.names for group in groups] == [("0.weight", "0.bias"), ("1.weight", "1.bias")]
    assert groups[0].parameters[0] is groups[1].parameters[0]


def test_a_tied_parameter_counts_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert bind_groups(model, ["a"], binding(model, (("",),)))[0].numel == 24


@pytest.mark.parametrize(
    ("name", "shape", "message"), [("9.weight", (3,), "does not have"), ("0.bias", (5,), r"shape \(4,\)")]
)
def test_a_bundle_for_another_model_is_refused(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UngovernedParameterError, match=message):
        bind_groups(net(), ["a"], [[(name, shape)]])


REFUSED = {
    "batch norm": lambda: nn.BatchNorm1d(3),
    "batch norm without parameters": lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False)),
    "sparse": lambda: nn.Embedding(3, 3, sparse=True),
    "max norm": lambda: nn.Embedding(3, 3, max_norm=1.0),
    "frequencies": lambda: nn.Embedding(3, 3, scale_grad_by_freq=True),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_gated_exactly_is_refused_and_the_model_left_alone(case: str) -> None:
    model = nn.Sequential(REFUSED[case]())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UnsupportedLayerError):
        open_gate(model, optimizer, tables([[1.0]]), ["1-a"])
    assert all("forward" not in vars(module) for module in model.modules())


def test_the_optimizer_holds_exactly_the_governed_parameters() -> None:
    model = net()
    with pytest.raises(IllegalTrainingSetupError, match="0 too many, 2 missing"):
        open_gate(model, torch.optim.SGD(model[0].parameters(), lr=0.1), tables([[1.0]]), ["1-a"])


def test_an_optimizer_that_has_stepped_is_refused() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    with pytest.raises(IllegalTrainingSetupError, match="stepped before"):
        open_gate(model, optimizer, tables([[1.0]]), ["1-a"])
