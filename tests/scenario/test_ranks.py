"""Two processes that train one model decide, spend, record and move as one process with the whole batch does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import ranked
from support.gating import open_gate, tables
from support.ranked import RUNS, Found, Net, Team
from torch import nn

from aqpolicy.errors import UnsupportedLayerError

TIMEOUT = 240
"""Seconds after which processes that wait for each other are given up."""

EXACT = ("spent", "effects", "steps", "run", "shown", "step")
CLOSE = ("norms", "movement", "factors")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Found], dict[str, Found]]:
    """Return what two processes found in every run."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(ranked.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(script), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    first, second = (torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2))
    return first, second


def same_values(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    for left, right in zip(one, other, strict=True):
        assert torch.allclose(left, right, rtol=1e-12, atol=1e-13)


def same_log(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        for name in CLOSE:
            assert torch.allclose(left[name], right[name], rtol=1e-9, equal_nan=True), name
        assert {k: v for k, v in left.items() if k not in CLOSE} == {k: v for k, v in right.items() if k not in CLOSE}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_are_one(name: str, two: tuple[dict[str, Found], dict[str, Found]]) -> None:
    alone = RUNS[name](Team(0, 1))
    for found in (ranks[name] for ranks in two):
        same_values(found["parameters"], alone["parameters"])
        assert {key: found[key] for key in EXACT} == {key: alone[key] for key in EXACT}
        assert found.get("said") == alone.get("said")
        assert found.get("stayed") == alone.get("stayed")
    same_log(two[0][name]["blocks"], alone["blocks"])
    assert two[1][name]["blocks"] == [], "one rank writes the log"


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_ranks_agree_bit_by_bit(name: str, two: tuple[dict[str, Found], dict[str, Found]]) -> None:
    for one, other in zip(*(found[name]["parameters"] for found in two), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_a_budget_is_that_of_the_whole_run(two: tuple[dict[str, Found], dict[str, Found]]) -> None:
    for found in two:
        assert 0 < found["shares_limits_and_budgets"]["spent"]["b"] <= 20_000_000
        assert found["attenuated"]["spent"]["b"] <= 15_000_000
        assert found["attenuated"]["spent"]["b"] > 14_999_900
        assert sum(sum(block["movement_charges"]) for block in two[0]["movement_budget"]["blocks"]) <= 40_000


@pytest.mark.slow
def test_the_runs_hold_what_they_are_about(two: tuple[dict[str, Found], dict[str, Found]]) -> None:
    first, second = two
    assert first["closed_on_all_ranks"]["stayed"] is True
    assert first["exposures"]["shown"][0][0] == 2
    assert first["movement_budget"]["blocks"][-1]["factors"][0] < 1
    for found in two:
        halted = found["halted_by_a_budget"]["said"]
        assert "BudgetExhaustedError" in halted[0] or "BudgetExhaustedError" in halted[1]
        assert "halted" in halted[-1]
        assert found["halted_by_the_log"]["said"] == ["", "LineageError", "IllegalTrainingSetupError"]
        assert found["halted_by_the_log"]["steps"] == 1
    assert second["not_finite_on_one_rank"]["effects"]["deny"] == 2


@pytest.mark.slow
def test_several_processes_without_ddp_are_refused(two: tuple[dict[str, Found], dict[str, Found]]) -> None:
    for found in two:
        assert "attach the gate to that" in found["refused"]["plain"]
        assert found["refused"]["clean"]


@pytest.mark.slow
def test_sharded_parameters_are_refused(two: tuple[dict[str, Found], dict[str, Found]]) -> None:
    for found in two:
        assert found["refused"]["sharded"].startswith("UnsupportedLayerError: the model is sharded")


class FullyShardedFSDP(nn.Module):
    """Looks like a wrapper that shards."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Net()


def test_a_module_that_shards_is_refused_by_its_type() -> None:
    net = FullyShardedFSDP()
    with pytest.raises(UnsupportedLayerError, match="use DistributedDataParallel"):
        open_gate(net, torch.optim.SGD(net.parameters(), lr=0.1), tables([[1]]), ["1-a"])
    assert all("forward" not in vars(module) for module in net.modules())
