"""Behaviours of the demo's network, for `aqpolicy trace --behaviour aqpolicy.demo.behaviour:FUNCTION:NODULE`."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aqpolicy.demo.images import draw
from aqpolicy.demo.labels import HeldOut, label_readings
from aqpolicy.demo.lidc import read_lidc
from aqpolicy.errors import InputError


def log_odds(model: nn.Module, nodule: str) -> Tensor:
    """Return the log-odds of malignancy that a model gives to a held-out nodule."""
    held_out, images = _held_out()
    return _log_odds(model, images[_find(held_out, nodule).row])


def wrong_margin(model: nn.Module, nodule: str) -> Tensor:
    """Return by how much, in log-odds, a model prefers the wrong answer for a held-out nodule."""
    held_out, images = _held_out()
    found = _find(held_out, nodule)
    return margin_of(model, torch.from_numpy(images[found.row]).float() / 255, found.label)


def held_out_loss(model: nn.Module) -> Tensor:
    """Return the mean loss, in nats, on the nodules that their panels agree on."""
    held_out, images = _held_out()
    pixels = torch.from_numpy(images[[each.row for each in held_out]]).float() / 255
    return loss_of(model, pixels, torch.tensor([float(each.label) for each in held_out]))


def loss_of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss in nats.

    Shapes:
        images (n, 2, 32, 32), labels (n,); result ().
    """
    return nn.functional.binary_cross_entropy_with_logits(model(images), labels)


def margin_of(model: nn.Module, image: Tensor, label: float) -> Tensor:
    """Return the log-odds of the answer that the label is not.

    Shapes:
        image (2, 32, 32); result ().
    """
    return torch.as_tensor(model(image[None])).reshape(()) * (1 - 2 * label)


def _log_odds(model: nn.Module, image: NDArray[np.uint8]) -> Tensor:
    return margin_of(model, torch.from_numpy(image).float() / 255, 0)


def _find(held_out: tuple[HeldOut, ...], nodule: str) -> HeldOut:
    for each in held_out:
        if each.example_id == nodule:
            return each
    raise InputError(f"`{nodule}` is no held-out nodule; try `{held_out[0].example_id}`")


@cache
def _held_out() -> tuple[tuple[HeldOut, ...], NDArray[np.uint8]]:
    readings, outlines = read_lidc()
    return label_readings(readings).held_out, draw(outlines, len(readings))
