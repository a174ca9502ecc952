"""A rule belongs to an exact type; options and inputs without a gradient per example are refused with advice."""

from __future__ import annotations

import re
import sys
import types

import pytest
import torch
from support.layer_uses import catalogue
from torch import Tensor, nn

from aqpolicy.errors import UnsupportedLayerError
from aqpolicy.gate.routing.layers import NAMED_RULES, RULES, known_rule, rule_for


class Doubling(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_the_catalogue_of_the_tests_has_every_type() -> None:
    assert {type(module) for module, _ in catalogue().values()} == set(RULES)


def test_a_rule_names_the_type_that_it_is_for() -> None:
    odd = {"NonDynamicallyQuantizableLinear": "Linear"}
    assert all(rule.type_name == odd.get(kind.__name__, kind.__name__) for kind, rule in RULES.items())
    assert all(rule.type_name == name.rpartition(".")[2] for name, rule in NAMED_RULES.items())


def test_a_subclass_and_an_unknown_type_have_no_rule() -> None:
    for module in (Doubling(2, 2), nn.LSTM(2, 2), nn.Bilinear(2, 2, 2), nn.SyncBatchNorm(2)):
        assert known_rule(module) is None
        with pytest.raises(UnsupportedLayerError, match=f"`net` of type `{type(module).__name__}`.*freeze it"):
            rule_for(module, "net")


def test_a_type_of_another_package_is_known_by_its_full_name(monkeypatch: pytest.MonkeyPatch) -> None:
    same = type("Conv1D", (nn.Module,), {"__module__": "transformers.pytorch_utils"})
    other = type("Conv1D", (nn.Module,), {"__module__": "elsewhere"})
    monkeypatch.setitem(sys.modules, "elsewhere", types.ModuleType("elsewhere"))
    assert known_rule(same()) is NAMED_RULES["transformers.pytorch_utils.Conv1D"]
    assert known_rule(other()) is None


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        (nn.Embedding(3, 2, max_norm=1.0), "`max_norm` edits the table outside the optimizer; remove it"),
        (nn.Embedding(3, 2, scale_grad_by_freq=True), "`scale_grad_by_freq` makes one example's gradient depend"),
        (nn.Embedding(3, 2, sparse=True), "`sparse` gradients are not supported; remove it"),
        (nn.EmbeddingBag(3, 2, sparse=True), "`sparse` gradients are not supported; remove it"),
        (nn.EmbeddingBag(3, 2, max_norm=1.0), "`max_norm` edits the table"),
        (nn.EmbeddingBag(3, 2, include_last_offset=True), "give it one row of indices per example"),
        (nn.BatchNorm1d(3, track_running_stats=False), "swap it for a GroupNorm"),
    ],
)
def test_an_option_that_has_no_exact_gradient_is_refused_with_advice(module: nn.Module, advice: str) -> None:
    assert known_rule(module) is not None
    with pytest.raises(UnsupportedLayerError, match=advice):
        rule_for(module, "net")


@pytest.mark.parametrize(
    ("module", "x", "reason"),
    [
        (nn.Linear(3, 2), torch.randn(3), "no example axis"),
        (nn.LayerNorm((2, 3)), torch.randn(2, 3), "no example axis"),
        (nn.RMSNorm(3), torch.randn(3), "no example axis"),
        (nn.GroupNorm(1, 3), torch.randn(3), "no example axis"),
        (nn.Conv2d(3, 2, 1), torch.randn(3, 4, 4), "no example axis"),
        (nn.ConvTranspose1d(3, 2, 1), torch.randn(3, 4), "no example axis"),
        (nn.InstanceNorm2d(3), torch.randn(3, 4, 4), "no example axis"),
        (nn.BatchNorm2d(3).eval(), torch.randn(3, 4), "no example axis"),
        (nn.PReLU(3), torch.randn(3), "no example axis"),
        (nn.EmbeddingBag(5, 2), torch.tensor([1, 2, 4]), "one row of indices per bag"),
        (nn.BatchNorm1d(3), torch.randn(4, 3), r"freeze it with .eval\(\).*GroupNorm.*ungoverned on purpose"),
        (nn.InstanceNorm1d(3, track_running_stats=True), torch.randn(4, 3, 5), r"freeze it with .eval\(\)"),
    ],
)
def test_an_input_without_examples_or_a_mode_that_mixes_them_is_refused(
    module: nn.Module, x: Tensor, reason: str
) -> None:
    found = rule_for(module, "net").input_refusal(module, x)
    assert found is not None
    assert re.search(reason, found)


def test_a_frozen_normalisation_is_taken() -> None:
    for module in (nn.BatchNorm1d(3).eval(), nn.InstanceNorm1d(3, track_running_stats=True).eval()):
        assert rule_for(module, "net").input_refusal(module, torch.randn(4, 3, 5)) is None
