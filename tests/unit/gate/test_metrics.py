"""Metrics look and change nothing, and what goes wrong with one is a typed error."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from support.promises import policy, promote, verify
from torch import nn

from aqpolicy.bundle.tables import StageTable
from aqpolicy.errors import BudgetExhaustedError, IllegalTrainingSetupError
from aqpolicy.gate.motion.metrics import OPERATORS, Metrics, evaluate, holds, metrics_of, undisturbed, unmet


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))


@pytest.mark.parametrize(
    ("value", "micro"),
    [
        (0.9, 900_000),
        (1, 1_000_000),
        (True, 1_000_000),
        (-0.25, -250_000),
        (2.0**-21, 0),  # 0.476837 millionths
        (3 * 2.0**-7 + 2.0**-20, 23_438),  # 23438.453...
        (0.5 / 2**6, 7_812),  # 7812.5 exactly: half to even
        (1.5 / 2**6, 23_438),  # 23437.5 exactly: half to even
        (torch.tensor(0.5), 500_000),
        (np.float32(0.5), 500_000),
        (9e9, 9 * 10**15),
    ],
)
def test_a_value_becomes_millionths_rounded_half_to_even(value: Any, micro: int) -> None:
    assert evaluate("m", lambda _: value, nn.Identity()) == micro


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e10, None, "much", torch.ones(2), 1j])
def test_what_is_no_finite_number_is_an_error(value: Any) -> None:
    with pytest.raises(IllegalTrainingSetupError, match=r"metric `m` (returned|failed)"):
        evaluate("m", lambda _: value, nn.Identity())


def test_an_error_of_a_metric_is_named_and_one_of_ours_passes() -> None:
    def fails(_: nn.Module) -> float:
        raise KeyError("gold.csv")

    def halts(_: nn.Module) -> float:
        raise BudgetExhaustedError("spent")

    with pytest.raises(IllegalTrainingSetupError, match=r"metric `m` failed: KeyError: 'gold\.csv'") as caught:
        evaluate("m", fails, nn.Identity())
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(BudgetExhaustedError):
        evaluate("m", halts, nn.Identity())


def test_a_metric_is_taken_in_eval_mode_without_gradient_or_autocast() -> None:
    net = model()

    def look(given: nn.Module) -> float:
        assert not any(module.training for module in given.modules())
        assert not torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")
        return float(given(torch.ones(1, 2)).sum())

    with torch.autocast("cpu", dtype=torch.bfloat16):
        first = evaluate("m", look, net)
        assert torch.is_autocast_enabled("cpu")
    assert torch.is_grad_enabled()
    assert evaluate("m", look, net) == first


@pytest.mark.parametrize("fails", [False, True])
def test_modes_and_random_states_are_put_back_even_after_an_error(fails: bool) -> None:
    net = model()
    net[0].eval()  # one module is frozen in eval mode on purpose

    def reckless(given: nn.Module) -> float:
        given.train()
        given[0].train()
        torch.manual_seed(7)
        random.seed(7)
        np.random.seed(7)  # noqa: NPY002 - numpy's global state is what is meant
        if fails:
            raise ValueError("no")
        return 1.0

    legacy = np.random.get_state
    states = torch.get_rng_state(), random.getstate(), legacy()
    if fails:
        with pytest.raises(IllegalTrainingSetupError):
            evaluate("m", reckless, net)
    else:
        evaluate("m", reckless, net)
    assert [module.training for module in net.modules()] == [True, False, True]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert all(np.array_equal(now, then) for now, then in zip(legacy(), states[2], strict=True))


def test_the_models_own_switch_between_modes_is_used() -> None:
    class Merging(nn.Linear):
        merged = False

        def train(self, mode: bool = True) -> Merging:
            self.merged = not mode
            return super().train(mode)

    net = Merging(1, 1)
    with undisturbed(net):
        assert net.merged
    assert not net.merged
    net.eval()
    with undisturbed(net):
        assert net.merged
    assert net.merged


@pytest.mark.parametrize("op", OPERATORS)
def test_comparisons_are_exact_at_the_value_itself(op: str) -> None:
    outcomes = [holds(now, op, 900_000) for now in (899_999, 900_000, 900_001)]
    assert (
        outcomes
        == {
            "=": [False, True, False],
            "<": [True, False, False],
            "<=": [True, True, False],
            ">": [False, False, True],
            ">=": [False, True, True],
        }[op]
    )


def test_all_that_a_certification_requires_must_hold() -> None:
    values = {"gold": 890_000, "bias": 100_000}
    requires = (("gold", ">=", 900_000), ("bias", "<", 200_000), ("gold", ">", 890_000))
    assert unmet(requires, values.__getitem__) == ("gold is 0.89, not >= 0.9", "gold is 0.89, not > 0.89")
    assert unmet(requires[1:2], values.__getitem__) == ()


def test_the_metrics_of_a_policy_are_those_of_its_obligations_and_stages() -> None:
    tables = policy((), (verify("gold"), promote("safety"), verify("gold")))
    stages = (StageTable("young"), StageTable("grown", (("calibration", ">=", 1),)))
    found = type(tables)(**{name: getattr(tables, name) for name in tables.__slots__} | {"stages": stages})
    assert metrics_of(found) == ("calibration", "gold", "safety")


def test_another_model_may_be_looked_at_such_as_a_merged_one() -> None:
    trained, merged = nn.Linear(1, 1), nn.Linear(2, 2)
    kept = Metrics(trained, {"size": lambda given: float(given.weight.numel())}, ())
    assert (kept.value("size"), kept.value("size", merged)) == (1_000_000, 4_000_000)


def test_a_missing_metric_is_refused_before_training() -> None:
    with pytest.raises(IllegalTrainingSetupError, match="the policy asks for `a`, `c`"):
        Metrics(nn.Identity(), {"b": lambda _: 1.0}, ("c", "b", "a"))
    with pytest.raises(IllegalTrainingSetupError, match="metric `b` cannot be called"):
        Metrics(nn.Identity(), {"b": 0.5}, ())
    kept = Metrics(nn.Identity(), {"b": lambda _: 0.5}, ("b",))
    assert kept.value("b") == 500_000
    with pytest.raises(IllegalTrainingSetupError, match="there is no metric `x`"):
        kept.value("x")
    assert Metrics(nn.Identity(), None, ()) is not None
