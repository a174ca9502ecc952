"""All trainings of the comparison, on two processes of one thread each.

An arm is a way to use the same labels. A training is given by relation, arm and seed alone, so its
result does not depend on what runs beside it.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import torch
from governance import Papers, flat_weights
from labels import AGREED, Label, Split, split
from sentences import RELATIONS, Relation, Sentence
from torch import Tensor
from training import Lesson, predict, train_governed, train_plainly

Arm = Literal["everything", "machine", "crowd", "agreed", "flat", "governed"]

ARMS: Final[Mapping[Arm, str]] = {
    "everything": "every label, ungoverned",
    "machine": "filtered: knowledge base and expert",
    "crowd": "filtered: crowd and expert",
    "agreed": "filtered: agreed crowd and expert",
    "flat": "every label, weighted the same at every depth",
    "governed": "every label, governed by the relation's policy",
}
LOGGED_SEED: Final = 0
"""The governed run of this seed is logged; the others differ in nothing else."""
MOST_WORKERS: Final = 2


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is trained and tested; the numbers of `labels.split`."""

    seeds: int
    steps: int
    reviewed: int
    unreviewed: int
    most_tested: int


FULL: Final = Scale(seeds=5, steps=48, reviewed=100, unreviewed=300, most_tested=450)
QUICK: Final = Scale(seeds=1, steps=4, reviewed=12, unreviewed=20, most_tested=60)


@dataclass(frozen=True, slots=True)
class Job:
    """One training."""

    relation: Relation
    arm: Arm
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one training, on adjudicated sentences that taught nothing."""

    job: Job
    labels: int
    tested: int
    f1: float
    accuracy: float
    area: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Setting:
    """What every process needs."""

    sentences: tuple[Sentence, ...]
    tokens: tuple[tuple[int, ...], ...]
    papers: Papers
    scale: Scale

    def run_folder(self, relation: Relation) -> Path:
        """Where the governed run that is logged goes."""
        return self.papers.folder / f"run-{relation}"


def jobs(scale: Scale) -> tuple[Job, ...]:
    """Return all trainings, seed after seed, so that whoever stops early has whole seeds."""
    return tuple(
        Job(relation, arm, seed) for seed in range(scale.seeds) for relation in RELATIONS for arm in tuple(ARMS)[::-1]
    )


def run_jobs(setting: Setting, wanted: Sequence[Job]) -> Iterator[Outcome]:
    """Yield what comes of the trainings, as they end; an error in one of them stops all."""
    # A fresh interpreter per process: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    workers = min(MOST_WORKERS, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, context, _prepare, (setting,)) as pool:
        yield from _as_they_come([pool.submit(_run, job) for job in wanted])


def _as_they_come(waiting: Sequence[Future[Outcome]]) -> Iterator[Outcome]:
    left = set(waiting)
    try:
        while left:
            done, left = wait(left, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for future in left:
            future.cancel()


_setting: list[Setting] = []
"""The setting of this process; set once when it starts."""


def _prepare(setting: Setting) -> None:
    torch.set_num_threads(1)
    _setting[:] = [setting]


def _run(job: Job) -> Outcome:
    setting, since = _setting[0], time.perf_counter()
    drawn = draw(setting, job.relation, job.seed)
    lesson = _lesson(setting, job, drawn)
    if job.arm == "governed":
        run = setting.run_folder(job.relation) if job.seed == LOGGED_SEED else None
        model = train_governed(lesson, setting.papers, run)
    else:
        model = train_plainly(lesson)
    log_odds = predict(model, [setting.tokens[at] for at in drawn.tested])
    truth = torch.tensor([setting.sentences[at].opinions[job.relation].adjudicated for at in drawn.tested])
    scores = f1(log_odds, truth), accuracy(log_odds, truth), area_under_curve(log_odds, truth)
    return Outcome(job, len(lesson.labels), len(drawn.tested), *scores, time.perf_counter() - since)


def draw(setting: Setting, relation: Relation, seed: int) -> Split:
    """Return the labels and test sentences of a seed; the same for all arms."""
    scale = setting.scale
    return split(
        setting.sentences,
        relation,
        seed,
        reviewed=scale.reviewed,
        unreviewed=scale.unreviewed,
        most_tested=scale.most_tested,
    )


def _lesson(setting: Setting, job: Job, drawn: Split) -> Lesson:
    kept = tuple(label for label in drawn.taught if keeps(job.arm, label))
    lesson = Lesson(job.relation, job.seed, setting.scale.steps, kept, setting.tokens)
    if job.arm != "flat":
        return lesson
    bundle, _ = setting.papers.load(job.relation)
    return replace(lesson, weights=flat_weights(bundle, kept))


def keeps(arm: Arm, label: Label) -> bool:
    """Return whether an arm learns from a label at all; a policy decides for itself, so `governed` gets every one."""
    if label.source == "expert" or arm in {"everything", "flat", "governed"}:
        return True
    if arm == "agreed":
        return label.source == "crowd" and label.agreement >= AGREED
    return label.source == arm


def f1(log_odds: Tensor, truth: Tensor) -> float:
    """Return the harmonic mean of precision and recall at even odds; 0 where nothing is found."""
    said = log_odds > 0
    found = int((said & truth).sum())
    return 2 * found / max(1, int(said.sum()) + int(truth.sum()))


def accuracy(log_odds: Tensor, truth: Tensor) -> float:
    """Return the part of sentences on the right side of even odds."""
    return float(((log_odds > 0) == truth).float().mean())


def area_under_curve(log_odds: Tensor, truth: Tensor) -> float:
    """Return how often a sentence that expresses the relation is ranked above one that does not; ties count half."""
    yes, no = log_odds[truth], log_odds[~truth]
    above = yes[:, None] - no[None]
    return float((above > 0).double().mean() + (above == 0).double().mean() / 2)
