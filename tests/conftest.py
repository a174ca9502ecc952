"""Where tensors of tests lie: `pytest --device cuda` tries the gate on a GPU (`make test-gpu`)."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="torch's default device")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--device") != "cpu":
        import torch

        torch.set_default_device(config.getoption("--device"))
