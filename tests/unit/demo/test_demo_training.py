"""The demo's loop: the open policy changes nothing at all, and results are what they are called."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aqpolicy.bundle import load_bundle
from aqpolicy.demo import evidence, policies, training
from aqpolicy.demo.experiment import Job, Result, displacement, jobs, result_of
from aqpolicy.demo.labels import Labels, is_held_out, label_readings
from aqpolicy.demo.lidc import Reading
from aqpolicy.demo.training import Arm, Examples, accuracy, area_under_curve, tensors, train
from aqpolicy.demo.workspace import Workspace, issue_labels
from aqpolicy.provenance import load_manifest


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Labels, Examples, object]:
    """Return a folder with keys, labels and bundles for a handful of made-up readings."""
    work = Workspace.create(tmp_path_factory.mktemp("demo") / "out")
    generator = np.random.default_rng(0)
    patients = [name for name in map(str, range(60)) if not is_held_out(name)]
    held = [name for name in map(str, range(60)) if is_held_out(name)]
    readings = [
        Reading(scan * 4 + at, name, scan, 0, at, int(generator.integers(1, 6)))
        for scan, name in enumerate(patients)
        for at in range(3)
    ]
    readings += [Reading(900 + at, held[0], 999, 0, at, 5) for at in range(3)]
    images = generator.integers(0, 256, (len(readings), 2, 32, 32), dtype=np.uint8)
    labels = label_readings(readings)
    keys, keyring = work.make_keys()
    issue_labels(work.manifest_path, labels.readings, [images[each.row].tobytes() for each in labels.readings], keys)
    for name, pipeline in policies.copy_policies(work).items():
        if name != "broken":
            policies.compile_policy(work, name, pipeline, keys["author"])
    return work, labels, tensors(labels, images), keyring


def _governed(
    small: tuple[Workspace, Labels, Examples, object], name: str, refused: frozenset[str] = frozenset()
) -> Arm:
    work, _, _, keyring = small
    return Arm((load_bundle(work.path(f"{name}.aqb"), keyring), load_manifest(work.manifest_path, keyring)), refused)


def test_the_open_policy_gives_the_weights_of_plain_training_bit_for_bit(small, monkeypatch) -> None:
    monkeypatch.setattr(training, "EPOCHS", 2)
    plain, opened = train(Arm(), small[2], 1), train(_governed(small, "open"), small[2], 1)
    for one, other in zip(plain.parameters(), opened.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_radiology_policy_and_a_removal_change_the_weights(small, monkeypatch) -> None:
    monkeypatch.setattr(training, "EPOCHS", 1)
    governed = train(_governed(small, "radiology"), small[2], 1)
    without = train(_governed(small, "radiology", frozenset(small[2].ids[:40])), small[2], 1)
    opened = train(_governed(small, "open"), small[2], 1)
    assert not torch.equal(governed.head.weight, opened.head.weight)
    assert not torch.equal(governed.head.weight, without.head.weight)


def test_area_and_accuracy_of_known_rankings() -> None:
    labels = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert area_under_curve(torch.tensor([-2.0, -1.0, 1.0, 2.0]), labels) == 1.0
    assert area_under_curve(torch.tensor([0.0, 0.0, 0.0, 0.0]), labels) == 0.5
    assert area_under_curve(torch.tensor([1.0, -1.0, 0.0, 2.0]), labels) == 0.75
    assert accuracy(torch.tensor([1.0, -1.0, 0.5, 2.0]), labels) == 0.75


def test_every_comparison_has_its_training_and_the_logged_ones_come_first() -> None:
    wanted = jobs((0, 1))
    assert len(set(wanted)) == len(wanted) == 14
    assert [job.kind for job in wanted if job.logged] == [job.kind for job in wanted[:2]] == ["ungoverned", "governed"]
    for job in wanted:
        if job.without:
            assert any((other.kind, other.seed, other.without) == (job.kind, job.seed, "") for other in wanted)


def test_displacement_is_the_distance_per_seed() -> None:
    results = {}
    for seed in (0, 1):
        for without, at in (("", 0.0), ("stolen", 3.0 + seed)):
            job = Job("governed", seed, without, logged=seed == 0 and not without)
            results[job] = Result(job, 0.5 + seed / 10, 0.9, {"head": (at, 4.0 if without else 0.0)})
    assert displacement(results, "governed", "stolen")["head"].values == (5.0, pytest.approx(32**0.5))
    assert result_of(results, "governed", "accuracy").values == (0.5, 0.6)


def test_classes_of_the_heat_map_tell_agreeing_panels_apart() -> None:
    said = [
        evidence.consensus_class({"authority": authority, "consensus": consensus})
        for authority, consensus in (("single", 1_000_000), ("panel", 750_000), ("panel", 749_999))
    ]
    assert said == ["single reader", "panel, consensus from 0.75", "panel, consensus under 0.75"]
