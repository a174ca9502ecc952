"""A small training that is stopped and gone on with: what it draws at random shows whether anything was forgotten."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from support.gating import binding, budget, tables
from torch import nn
from torch.nn import functional

from aqpolicy.bundle import Bundle, Tables, encode_bundle, seal_bundle
from aqpolicy.gate import Gate, attach
from aqpolicy.provenance import Credential, Field, Observation, Session, issue_manifest
from aqpolicy.trust import Keyring, SigningKey, sha256

NAMES = [f"{1 + number % 3}-{number}" for number in range(12)]
AUTHOR, ISSUER, LOG, READER = (
    SigningKey.from_seed(name, bytes([number]) * 32)
    for number, name in enumerate(("author", "issuer", "log", "reader"))
)
KEYRING = Keyring.of(
    [("policy-author", AUTHOR.verify_key), ("manifest-issuer", ISSUER.verify_key), ("log", LOG.verify_key)]
)
TABLE = tables(
    [[1, 1], [0.5, 1], [0, 0.25]],
    budgets=[budget("early", (0,), per_epoch=12_000_000), budget("all", (0, 1), per_update=900_000)],
)
STEPS, EPOCH = 24, 8


def write_inputs(folder: Path, table: Tables = TABLE, taxonomy: str = "words@1") -> None:
    """Write bundle, manifest and keyring."""
    bundle = Bundle(
        tables=table,
        policy_name="words",
        policy_version="1",
        taxonomy=taxonomy,
        parameters=binding(make_net(), (("0.",), ("3.",))),
        digests=dict.fromkeys(("source", "grammar", "taxonomy", "model"), f"sha256:{'0' * 64}"),
        source_map={},
        findings=(),
    )
    (folder / "policy.aqb").write_bytes(seal_bundle(encode_bundle(bundle), [AUTHOR]))
    credential = Credential(id="reader", key=READER.verify_key.text, holder="reader-1", authority="expert")
    seen = [Observation(name, sha256(b"x"), sha256(b"y"), "reader", 0, {"kind": name[0]}, ()) for name in NAMES]
    fields = [Field("kind", "category", ("1", "2", "3"))]
    issue_manifest(folder / "labels.aqm", "labels", taxonomy, fields, [Session(credential, READER, seen)], ISSUER)
    KEYRING.save(folder / "keyring.json")


def make_net() -> nn.Sequential:
    """Return a network that draws at random in every step."""
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 2))


def begin(folder: Path, net: nn.Module, *, resume: str | None = None, **options: Any) -> Gate:
    """Attach a gate to a network, to begin or to go on."""
    kind = options.pop("optimizer", "sgd")
    optimizer = (
        torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        if kind == "sgd"
        else torch.optim.AdamW(net.parameters(), lr=0.01)
    )
    usual = {
        "bundle": folder / "policy.aqb",
        "manifest": folder / "labels.aqm",
        "keyring": folder / "keyring.json",
        "lineage": folder / "run",
        "log_key": LOG,
        "record": "sketch",
    }
    return attach(net, optimizer, resume=resume, **{**usual, **options})


def go_on(gate: Gate, net: nn.Module, until: int, after: Callable[[int], None] = lambda _: None) -> None:
    """Train until so many steps are done; `after` is told how many are."""
    x = torch.linspace(-1, 1, 3 * len(NAMES)).reshape(-1, 3).sin()
    y = torch.arange(len(NAMES)) % 2
    while gate.state.step < until:
        if gate.state.step and gate.state.step % EPOCH == 0 and gate.state.epoch < gate.state.step // EPOCH:
            gate.start_epoch()
        pick = torch.randperm(len(NAMES))[:5]
        with gate.step([NAMES[index] for index in pick]):
            gate.backward(functional.cross_entropy(net(x[pick]), y[pick], reduction="none"))
        after(gate.state.step)


def whole(folder: Path, **options: Any) -> list[torch.Tensor]:
    """Train without a stop and return the parameters."""
    torch.manual_seed(5)
    net = make_net()
    gate = begin(folder, net, **options)
    go_on(gate, net, STEPS)
    gate.close()
    return [value.detach().clone() for value in net.parameters()]


def main(folder: Path) -> None:
    """Train, or go on with what was killed; a checkpoint after every third step."""
    torch.manual_seed(5)
    net = make_net()
    begun = "beginning" if (folder / "run" / "head.note").exists() else None
    gate = begin(folder, net, resume="latest" if list((folder / "run").glob("*.ckpt")) else begun)
    print("attached", gate.state.step, flush=True)
    go_on(gate, net, STEPS, lambda step: gate.checkpoint(f"at-{step % 2}") and None if step % 3 == 0 else None)
    gate.close()
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
