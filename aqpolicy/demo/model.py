"""The demo's network: four named stretches of depth, small enough to train in seconds.

There is no BatchNorm: it mixes the examples of a batch, so no share could be
per example. `build_model` is what `aqpolicy describe` is pointed at.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn


class NoduleNet(nn.Module):
    """Outlines of a nodule to the log-odds that its reader calls it malignant.

    Shapes:
        input (n, 2, 32, 32); output (n).
    """

    def __init__(self) -> None:
        super().__init__()
        self.surface = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(2, 8, 5, stride=2, padding=2), relu=nn.ReLU()),
        )
        self.structure = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(8, 16, 3, stride=2, padding=1), relu=nn.ReLU()),
        )
        self.semantic = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(16, 32, 3, stride=2, padding=1),
                norm=nn.GroupNorm(4, 32),
                relu=nn.ReLU(),
            ),
        )
        self.head = nn.Linear(32 * 4 * 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return one log-odds per image."""
        deep = self.semantic(self.structure(self.surface(images)))
        return torch.as_tensor(self.head(deep.flatten(1)).squeeze(1))


def build_model(seed: int = 0) -> NoduleNet:
    """Return the network with the weights of a seed; the global random state stays as it was."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return NoduleNet()
