"""Train one arm of the comparison: the same loop, with or without a gate.

Batches and initial weights depend on the seed alone, never on the arm, so arms
of one seed differ only in what their labels may teach.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aqpolicy import gate
from aqpolicy.bundle import Bundle
from aqpolicy.demo.labels import Labels
from aqpolicy.demo.model import NoduleNet, build_model
from aqpolicy.provenance import Manifest
from aqpolicy.trust import SigningKey

BATCH: Final = 64
EPOCHS: Final = 6
LEARNING_RATE: Final = 0.02
MOMENTUM: Final = 0.9
WEIGHT_DECAY: Final = 1e-3


@dataclass(frozen=True)
class Examples:
    """Training readings and held-out nodules as tensors.

    Shapes:
        images (n, 2, 32, 32), labels (n,); held_images (m, 2, 32, 32), held_labels (m,).
    """

    ids: tuple[str, ...]
    images: Tensor
    labels: Tensor
    held_images: Tensor
    held_labels: Tensor


@dataclass(frozen=True)
class Logged:
    """Where and by which key a run is logged; `sources` are files, so that the run's folder holds copies of them."""

    run: Path
    bundle: Path
    manifest: Path
    keyring: Path
    key: SigningKey


@dataclass(frozen=True)
class Arm:
    """One way to train: by a gate, logged or not, or plainly on some of the readings."""

    governed_by: tuple[Bundle, Manifest] | Logged | None = None
    refused: Collection[str] = ()
    """Examples denied by the gate."""
    kept: Collection[str] | None = None
    """Without a gate: the only examples that are trained on; None for all."""


def tensors(labels: Labels, images: NDArray[np.uint8]) -> Examples:
    """Gather what training and evaluation need."""
    training, held_out = labels.training, labels.held_out
    return Examples(
        tuple(reading.example_id for reading in training),
        _pixels(images, [reading.row for reading in training]),
        torch.tensor([float(reading.label or 0) for reading in training]),
        _pixels(images, [nodule.row for nodule in held_out]),
        torch.tensor([float(nodule.label) for nodule in held_out]),
    )


def train(arm: Arm, examples: Examples, seed: int) -> NoduleNet:
    """Return the network that an arm ends with."""
    model = build_model(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    if arm.governed_by is None:
        _train_plainly(model, optimizer, examples, arm.kept, seed)
    else:
        _train_governed(_attach(arm, model, optimizer), model, examples, seed)
    return model


def losses(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return each example's loss, in nats: its surprisal."""
    return nn.functional.binary_cross_entropy_with_logits(model(images), labels, reduction="none")


def _attach(arm: Arm, model: NoduleNet, optimizer: torch.optim.Optimizer) -> gate.Gate:
    source = arm.governed_by
    if isinstance(source, Logged):
        return gate.attach(
            model,
            optimizer,
            bundle=source.bundle,
            manifest=source.manifest,
            keyring=source.keyring,
            lineage=source.run,
            log_key=source.key,
            record="sketch",
            refused=arm.refused,
        )
    assert source is not None  # noqa: S101 - the caller checked
    bundle, manifest = source
    return gate.attach(
        model, optimizer, bundle=bundle, manifest=manifest, refused=arm.refused, unsafe_without_lineage=True
    )


def _train_governed(governed: gate.Gate, model: NoduleNet, examples: Examples, seed: int) -> None:
    for epoch, batches in enumerate(_epochs(range(len(examples.ids)), seed)):
        if epoch:
            governed.start_epoch()
        for batch in batches:
            with governed.step([examples.ids[at] for at in batch.tolist()]):
                governed.backward(losses(model, examples.images[batch], examples.labels[batch]))
    governed.close()


def _train_plainly(
    model: NoduleNet, optimizer: torch.optim.Optimizer, examples: Examples, kept: Collection[str] | None, seed: int
) -> None:
    chosen = [at for at, name in enumerate(examples.ids) if kept is None or name in kept]
    for batches in _epochs(chosen, seed):
        for batch in batches:
            optimizer.zero_grad()
            loss = losses(model, examples.images[batch], examples.labels[batch]).mean()
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            optimizer.step()


def _epochs(chosen: Sequence[int], seed: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield the batches of every epoch, shuffled by the seed."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.tensor(list(chosen))
    for _ in range(EPOCHS):
        yield torch.split(index[torch.randperm(len(index), generator=generator)], BATCH)


@torch.no_grad()
def predict(model: NoduleNet, images: Tensor) -> Tensor:
    """Return log-odds of malignancy."""
    return torch.as_tensor(model(images))


def accuracy(log_odds: Tensor, labels: Tensor) -> float:
    """Return the part of predictions on the right side of even odds."""
    return float(((log_odds > 0) == (labels > 0.5)).float().mean())


def area_under_curve(log_odds: Tensor, labels: Tensor) -> float:
    """Return how often a malignant nodule is ranked above a benign one; ties count half."""
    malignant, benign = log_odds[labels > 0.5], log_odds[labels <= 0.5]
    above = malignant[:, None] - benign[None]
    return float((above > 0).double().mean() + (above == 0).double().mean() / 2)


def _pixels(images: NDArray[np.uint8], rows: list[int]) -> Tensor:
    return torch.from_numpy(images[rows]).float() / 255
