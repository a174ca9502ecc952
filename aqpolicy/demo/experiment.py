"""All trainings of the comparison, on as many processes as there is use for.

Every training is given by its arm and its seed alone and runs on one thread, so
the numbers do not depend on how many run beside each other.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch

from aqpolicy.bundle import load_bundle
from aqpolicy.demo.labels import HIGH_CONSENSUS, STOLEN, LabelledReading
from aqpolicy.demo.training import Arm, Examples, Logged, accuracy, area_under_curve, predict, train
from aqpolicy.provenance import load_manifest
from aqpolicy.report import Measured
from aqpolicy.trust import load_keyring, load_signing_key

Kind = Literal["ungoverned", "governed", "filtered"]
Without = Literal["", "low consensus", "stolen"]

SEEDS: Final = (0, 1, 2)
LOGGED_SEED: Final = 0
MOST_WORKERS: Final = 2
WITHOUT: Final[tuple[Without, ...]] = ("low consensus", "stolen")
ARMS: Final[Mapping[Kind, str]] = {"ungoverned": "open", "governed": "radiology", "filtered": ""}
"""Each way to train, with the name of its bundle."""


@dataclass(frozen=True, slots=True)
class Job:
    """One training; `without` names the labels that are denied in it."""

    kind: Kind
    seed: int
    without: Without = ""
    logged: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What one training came to; `weights` per depth group, flat."""

    job: Job
    accuracy: float
    area: float
    weights: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Setting:
    """What every process needs: files to load, data, and which examples each removal denies."""

    folder: Path
    examples: Examples
    denied: Mapping[str, frozenset[str]]
    trusted_panel: frozenset[str]
    """What the simple alternative keeps: panel readings of high consensus."""


def setting_of(folder: Path, examples: Examples, training: Sequence[LabelledReading]) -> Setting:
    """Return the setting for the readings that are trained on."""
    low = frozenset(reading.example_id for reading in training if reading.low_consensus)
    stolen = frozenset(reading.example_id for reading in training if reading.credential == STOLEN)
    kept = (
        reading.example_id
        for reading in training
        if reading.authority == "panel" and reading.consensus >= HIGH_CONSENSUS
    )
    return Setting(folder, examples, {"low consensus": low, "stolen": stolen}, frozenset(kept))


def jobs(seeds: Sequence[int] = SEEDS) -> tuple[Job, ...]:
    """Return all trainings, the two that are logged first: they take longest and are needed next."""
    plain = [Job(kind, seed, logged=kind != "filtered" and seed == LOGGED_SEED) for seed in seeds for kind in ARMS]
    removals = [Job(kind, seed, out) for seed in seeds for kind in ("ungoverned", "governed") for out in WITHOUT]
    return tuple(sorted((*plain, *removals), key=lambda job: not job.logged))


def run_jobs(
    setting: Setting, wanted: Sequence[Job], progress: Callable[[int, int, Job | None], None]
) -> dict[Job, Result]:
    """Run trainings and return what came of each; an error in one of them stops all."""
    results: dict[Job, Result] = {}
    workers = min(MOST_WORKERS, os.cpu_count() or 1)
    progress(0, len(wanted), None)
    if workers == 1:
        _prepare(setting)
        for job in wanted:
            results[job] = _run(job)
            progress(len(results), len(wanted), job)
        return results
    # A fresh interpreter per process: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _prepare, (setting,)) as pool:
        for result in _as_they_come([pool.submit(_run, job) for job in wanted]):
            results[result.job] = result
            progress(len(results), len(wanted), result.job)
    return results


def _as_they_come(waiting: Sequence[Future[Result]]) -> Iterator[Result]:
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


def _run(job: Job) -> Result:
    setting = _setting[0]
    examples = setting.examples
    model = train(_arm(job, setting), examples, job.seed)
    log_odds = predict(model, examples.held_images)
    weights = {
        name: tuple(torch.cat([p.detach().reshape(-1) for p in child.parameters()]).tolist())
        for name, child in model.named_children()
    }
    return Result(
        job, accuracy(log_odds, examples.held_labels), area_under_curve(log_odds, examples.held_labels), weights
    )


def _arm(job: Job, setting: Setting) -> Arm:
    folder, bundle = setting.folder, f"{ARMS[job.kind]}.aqb"
    if job.kind == "filtered":
        return Arm(kept=setting.trusted_panel)
    keyring = folder / "keyring.json"
    if job.logged:
        key = load_signing_key(folder / "keys" / "log.key")
        return Arm(Logged(folder / job.kind, folder / bundle, folder / "labels.aqm", keyring, key))
    trusted = load_keyring(keyring)
    loaded = load_bundle(folder / bundle, trusted), load_manifest(folder / "labels.aqm", trusted)
    return Arm(loaded, refused=setting.denied[job.without] if job.without else frozenset())


def displacement(results: Mapping[Job, Result], kind: Kind, without: Without) -> dict[str, Measured]:
    """Return how far each depth group ends from where it ends when some labels are denied, over the seeds."""
    per_group: dict[str, list[float]] = {}
    for job, result in sorted(results.items(), key=lambda item: item[0].seed):
        if job.kind != kind or job.without:
            continue
        other = results[Job(kind, job.seed, without)]
        for group, weights in result.weights.items():
            squares = ((a - b) ** 2 for a, b in zip(weights, other.weights[group], strict=True))
            per_group.setdefault(group, []).append(sum(squares) ** 0.5)
    return {group: Measured(tuple(values)) for group, values in per_group.items()}


def result_of(results: Mapping[Job, Result], kind: Kind, what: Literal["accuracy", "area"]) -> Measured:
    """Return a result over the seeds, in their order."""
    chosen = sorted((job.seed, result) for job, result in results.items() if job.kind == kind and not job.without)
    return Measured(tuple(getattr(result, what) for _, result in chosen))
