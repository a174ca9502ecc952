"""Train and test one model: the same loop, with or without a gate.

Weights at the start and batches depend on the seed and on which labels teach, never on the gate.
Every arm takes the same number of steps; one that has fewer labels sees them more often.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from encoder import RelationModel, build, padded
from governance import Papers
from labels import Label
from sentences import Relation
from torch import Tensor, nn

from aqpolicy import gate

BATCH: Final = 16
LEARNING_RATE: Final = 1.5e-4
"""In the first step; it falls in a straight line, and would be 0 after the last."""
_POOL: Final = 8
"""Batches of sentences of like length are made within pools of so many batches, which saves padding."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one training needs: labels with the tokens of their sentences, and what may go with them."""

    relation: Relation
    seed: int
    steps: int
    labels: tuple[Label, ...]
    tokens: tuple[tuple[int, ...], ...]
    """Of every sentence of the corpus."""
    weights: Tensor | None = None
    """Without a gate: what each label's loss is multiplied by."""


def train_plainly(lesson: Lesson) -> RelationModel:
    """Return the model that labels make of the encoder when nothing governs them."""
    model, optimizer = _fresh(lesson)
    model.train()
    for step, batch in enumerate(_batches(lesson)):
        _set_rate(optimizer, step, lesson)
        optimizer.zero_grad()
        loss = _losses(model, lesson, batch)
        (loss if lesson.weights is None else loss * lesson.weights[batch]).mean().backward()  # type: ignore[no-untyped-call]  # torch
        optimizer.step()
    return model


def train_governed(lesson: Lesson, papers: Papers, run: Path | None = None) -> RelationModel:
    """Return the model that the same labels make when the relation's policy governs them; logged into `run`."""
    model, optimizer = _fresh(lesson)
    model.train()
    if run is None:
        bundle, manifest = papers.load(lesson.relation)
        governed = gate.attach(model, optimizer, bundle=bundle, manifest=manifest, unsafe_without_lineage=True)
    else:
        governed = gate.attach(
            model,
            optimizer,
            bundle=papers.bundle(lesson.relation),
            manifest=papers.manifest,
            keyring=papers.keyring,
            lineage=run,
            log_key=papers.log_key,
        )
    taught = 0
    for step, batch in enumerate(_batches(lesson)):
        _set_rate(optimizer, step, lesson)
        if taught >= len(lesson.labels):
            governed.start_epoch()
            taught -= len(lesson.labels)
        with governed.step([lesson.labels[at].example_id for at in batch]):
            governed.backward(_losses(model, lesson, batch))
        taught += len(batch)
    governed.close()
    governed.detach()
    return model


@torch.no_grad()
def predict(model: RelationModel, tokens: Sequence[Sequence[int]], size: int = 64) -> Tensor:
    """Return the log-odds of every sentence; those of like length are read together."""
    model.eval()
    order = sorted(range(len(tokens)), key=lambda at: len(tokens[at]))
    log_odds = torch.empty(len(tokens))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        log_odds[chosen] = model(padded([tokens[at] for at in chosen]))
    return log_odds


def _fresh(lesson: Lesson) -> tuple[RelationModel, torch.optim.Optimizer]:
    model = build(lesson.seed)
    return model, torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, fused=True)


def _set_rate(optimizer: torch.optim.Optimizer, step: int, lesson: Lesson) -> None:
    for settings in optimizer.param_groups:
        settings["lr"] = LEARNING_RATE * (1 - step / lesson.steps)


def _losses(model: RelationModel, lesson: Lesson, batch: Sequence[int]) -> Tensor:
    """Return each label's loss, in nats: its surprisal."""
    labels = [lesson.labels[at] for at in batch]
    truth = torch.tensor([float(label.positive) for label in labels])
    log_odds = model(padded([lesson.tokens[label.sentence] for label in labels]))
    return nn.functional.binary_cross_entropy_with_logits(log_odds, truth, reduction="none")


def _batches(lesson: Lesson) -> Iterator[list[int]]:
    """Yield as many batches as there are steps, pass after pass over all labels."""
    dice = random.Random(lesson.seed)  # noqa: S311 - an order that anybody can repeat, no secret
    left = lesson.steps
    while left:
        order = list(range(len(lesson.labels)))
        dice.shuffle(order)
        batches = [
            batch for at in range(0, len(order), BATCH * _POOL) for batch in _alike(lesson, order[at:][: BATCH * _POOL])
        ]
        dice.shuffle(batches)
        yield from batches[:left]
        left -= min(left, len(batches))


def _alike(lesson: Lesson, pool: Sequence[int]) -> list[list[int]]:
    ordered = sorted(pool, key=lambda at: len(lesson.tokens[lesson.labels[at].sentence]))
    return [ordered[at : at + BATCH] for at in range(0, len(ordered), BATCH)]
