"""Whole runs on disk for tests of the trace: keys, a signed manifest, a sealed bundle, and real training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from support.gating import binding, tables
from torch import nn

from aqpolicy import gate as gates
from aqpolicy.bundle import Bundle, encode_bundle, seal_bundle
from aqpolicy.bundle.tables import Tables
from aqpolicy.provenance import ConsensusEvent, Credential, Field, Observation, Session, example_digest, issue_manifest
from aqpolicy.provenance import label_digest as digest_of_label
from aqpolicy.trust import Keyring, SigningKey

AUTHOR = SigningKey.generate("author")
ISSUER = SigningKey.generate("issuer")
LOG = SigningKey.generate("log")
KEYRING = Keyring.of(
    [("policy-author", AUTHOR.verify_key), ("manifest-issuer", ISSUER.verify_key), ("log", LOG.verify_key)]
)


@dataclass
class Story:
    """What a run is made of; `owners` maps example ids to credentials, ids begin with the number of their row."""

    owners: Mapping[str, str]
    table: Tables = field(default_factory=lambda: tables([[1.0, 1.0]]))
    groups: Sequence[Sequence[str]] = (("0.",), ("1.",))
    epochs: int = 2
    batch: int = 4
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD
    settings: Mapping[str, Any] = field(default_factory=lambda: {"lr": 0.1})
    record: str = "sketch"
    witnesses: Mapping[str, Sequence[str]] = field(default_factory=dict)
    refused: Sequence[str] = ()
    extra: Sequence[str] = ()
    """Ids that are trained on and are not in the manifest."""
    attach: Mapping[str, Any] = field(default_factory=dict)
    """What else the gate is attached with."""
    before: Callable[[Any, int], None] = lambda *_: None
    """Called with the gate and the number of the next step."""


def small_model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def linear_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 1, bias=False))


def data_of(names: Sequence[str], width: int = 3) -> torch.Tensor:
    """Return inputs that depend on the example's name only."""
    rows = []
    for name in names:
        generator = torch.Generator().manual_seed(sum(ord(letter) * 31**at for at, letter in enumerate(name)) % 2**31)
        rows.append(torch.randn(width, generator=generator))
    return torch.stack(rows)


def write_manifest(path: Path, story: Story) -> None:
    credentials = sorted(set(story.owners.values()))
    keys = {name: SigningKey.generate(name) for name in credentials}
    sessions = []
    for name in credentials:
        observations = [
            Observation(
                example_id=example,
                example_digest=example_digest(example.encode()),
                label_digest=digest_of_label(example, b"0"),
                credential=name,
                observed_at=1_700_000_000,
                attributes={"kind": example.partition("-")[0]},
                history=tuple(
                    ConsensusEvent(witness, 500_000, 2, 1_700_000_000) for witness in story.witnesses.get(example, ())
                ),
            )
            for example, owner in story.owners.items()
            if owner == name
        ]
        held = Credential(name, keys[name].verify_key.text, f"holder of {name}", "reader")
        sessions.append(Session(held, keys[name], observations))
    kinds = tuple(story.table.attributes[0].values)
    issue_manifest(path, "test", "tests.kinds@1", [Field("kind", "category", kinds)], sessions, ISSUER)


def write_bundle(path: Path, story: Story, model: nn.Module) -> None:
    bundle = Bundle(
        story.table, "test", "1", "tests.kinds@1", binding(model, story.groups), {"source": "sha256:00"}, {}, ()
    )
    path.write_bytes(seal_bundle(encode_bundle(bundle), [AUTHOR]))


def train(
    folder: Path,
    story: Story,
    model: nn.Module | None = None,
    loss: Callable[[nn.Module, Sequence[str]], torch.Tensor] | None = None,
    after: Callable[[Any], None] | None = None,
) -> Path:
    """Train a model through the gate and return the run's folder."""
    model = model or small_model()
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder / "in.aqm", story)
    write_bundle(folder / "in.aqb", story, model)
    KEYRING.save(folder / "in.json")
    optimizer = story.optimizer(model.parameters(), **story.settings)
    run = folder / "run"
    gate = gates.attach(
        model,
        optimizer,
        bundle=folder / "in.aqb",
        manifest=folder / "in.aqm",
        keyring=folder / "in.json",
        lineage=run,
        log_key=LOG,
        record=story.record,
        refused=story.refused,
        **story.attach,
    )
    names = [*story.owners, *story.extra]
    for epoch in range(story.epochs):
        if epoch:
            gate.start_epoch()
        for start in range(0, len(names), story.batch):
            batch = names[start : start + story.batch]
            story.before(gate, gate.totals.steps)
            with gate.step(batch):
                gate.backward((loss or plain_loss)(model, batch))
    gate.close()
    if after is not None:
        after(gate)
    return run


def plain_loss(model: nn.Module, batch: Sequence[str]) -> torch.Tensor:
    return model(data_of(batch)).square().sum(1)
