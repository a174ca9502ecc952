"""A rule says of its layer what torch's own autocast does to it."""

from __future__ import annotations

import pytest
import torch
from support.layer_uses import catalogue
from torch import Tensor, nn

from aqpolicy.gate.routing.layers import rule_for

LAYERS = catalogue()
pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same'"),
    pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight"),
]


def under_autocast(module: nn.Module, x: Tensor) -> torch.dtype:
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        out: Tensor = module(x)
    return out.dtype


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_runs_in_the_precision_that_cpu_autocast_gives_it(name: str) -> None:
    module, x = LAYERS[name]
    precision = rule_for(module, name).precision("cpu")
    assert (under_autocast(module, x) == torch.bfloat16) == (precision == "low")
    if x.is_floating_point():
        assert (under_autocast(module, x.bfloat16()) == torch.float32) == (precision == "full")


def test_cuda_autocast_normalises_in_single_precision() -> None:
    full = {type(module).__name__ for module, _ in LAYERS.values() if rule_for(module, "x").precision("cuda") == "full"}
    assert full == {"LayerNorm", "RMSNorm", "GroupNorm"}
