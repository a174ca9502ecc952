"""A whole run from signed files: the log verifies and tells what the gate did and which model it published."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.gating import binding, budget, tables
from torch import nn
from torch.nn import functional

from aqpolicy.bundle import Bundle, Tables, capabilities, encode_bundle, seal_bundle
from aqpolicy.errors import BudgetExhaustedError, BundleError
from aqpolicy.gate import SketchPlan, attach
from aqpolicy.lineage import LineageReader, verify_log
from aqpolicy.provenance import Credential, Field, Observation, Session, issue_manifest, load_manifest
from aqpolicy.trace.auditing.audit import audit_run
from aqpolicy.trust import Keyring, SigningKey, decode_base64, example_key, sha256

NAMES = [f"{1 + number % 3}-{number}" for number in range(12)]
STEPS = 20
ROWS = [[1, 1], [0.5, 1], [0, 0.25]]


def signed(folder: Path, net: nn.Module, table: Tables | None = None) -> tuple[Keyring, SigningKey]:
    author, issuer, log, reader = (SigningKey.generate(name) for name in ("author", "issuer", "log", "reader"))
    table = table or tables(ROWS, budgets=[budget("early", (0,), per_update=400_000)])
    bundle = Bundle(
        tables=table,
        policy_name="words",
        policy_version="1",
        taxonomy="words@1",
        parameters=binding(net, (("0.",), ("2.",))),
        digests=dict.fromkeys(("source", "grammar", "taxonomy", "model"), f"sha256:{'0' * 64}"),
        source_map={},
        findings=(),
    )
    (folder / "policy.aqb").write_bytes(seal_bundle(encode_bundle(bundle), [author]))
    credential = Credential(id="reader", key=reader.verify_key.text, holder="reader-1", authority="expert")
    seen = [Observation(name, sha256(b"x"), sha256(b"y"), "reader", 0, {"kind": name[0]}, ()) for name in NAMES]
    fields = [Field("kind", "category", ("1", "2", "3"))]
    issue_manifest(folder / "labels.aqm", "labels", "words@1", fields, [Session(credential, reader, seen)], issuer)
    keys = [("policy-author", author), ("manifest-issuer", issuer), ("log", log)]
    keyring = Keyring.of([(role, key.verify_key) for role, key in keys])
    keyring.save(folder / "keyring.json")
    return keyring, log


@pytest.mark.parametrize("record", ["norms", "sketch"])
def test_a_run_leaves_a_verifiable_folder(tmp_path: Path, record: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    start = [value.detach().clone() for value in net.parameters()]
    keyring, log = signed(tmp_path, net)
    run = tmp_path / "run"
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    gate = attach(
        net,
        optimizer,
        bundle=tmp_path / "policy.aqb",
        manifest=tmp_path / "labels.aqm",
        keyring=tmp_path / "keyring.json",
        lineage=run,
        log_key=log,
        record=record,
    )
    x, y = torch.randn(len(NAMES), 3), torch.randint(0, 2, (len(NAMES),))
    for number in range(STEPS):
        if number == STEPS // 2:
            gate.start_epoch()
        pick = torch.randperm(len(NAMES))[:5]
        with gate.step([NAMES[index] for index in pick]):
            gate.backward(functional.cross_entropy(net(x[pick]), y[pick], reduction="none"))
    gate.close()

    verify_log(run, keyring)
    manifest = load_manifest(run / "manifest.aqm", keyring)
    with LineageReader(run, keyring) as reader:
        steps = list(reader.steps())
        facts = reader.models
        genesis = reader.genesis
    assert [block.step for block in steps] == list(range(STEPS))
    assert [block.epoch for block in steps] == [0] * (STEPS // 2) + [1] * (STEPS // 2)
    for row in (row for block in steps for row in block.rows):
        assert manifest.index_of_key(row.example_key) == row.manifest_index
        assert row.example_key == example_key(NAMES[row.manifest_index])
        assert row.route == 1 + row.manifest_index % 3
    assert all(residual < 1e-4 for block in steps for residual in block.book.residual)
    assert {name: (run / name).exists() for name in ("bundle.aqb", "manifest.aqm", "keyring.json")} == {
        "bundle.aqb": True,
        "manifest.aqm": True,
        "keyring.json": True,
    }
    (published,) = facts
    assert published["step"] == STEPS
    assert published["model"] == sha256((run / "model.pt").read_bytes()).hex()
    state = torch.load(run / "model.pt", weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in net.named_parameters())
    assert genesis["sketch_kind"] == published["sketch_kind"] == "ring-1"
    assert genesis["trained"] == ["3", "3"]
    plan = SketchPlan((((8, 3), (8,)), ((2, 8), (2,))), genesis["sketch_k"], genesis["sketch_seed"])
    assert list(plan.sizes) == genesis["sizes"]
    for group, text in enumerate(published["travelled"]):
        packed = decode_base64(text)
        moved = torch.cat(
            [(now - then).detach().flatten() for now, then in zip(net.parameters(), start, strict=True)][
                2 * group : 2 * group + 2
            ]
        )
        sketch = plan.sketch(group, moved)
        assert torch.equal(torch.tensor(struct.unpack(f"<{len(packed) // 4}f", packed)), sketch)
    sketched = [bool(row.sketch) for block in steps for row in block.rows]
    assert all(sketched) if record == "sketch" else not any(sketched)


def test_two_runs_of_one_seed_are_one_run(tmp_path: Path) -> None:
    ends = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        keyring, log = signed(folder, net)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        files = {"bundle": folder / "policy.aqb", "manifest": folder / "labels.aqm"}
        gate = attach(net, optimizer, keyring=keyring, lineage=folder / "run", log_key=log, record="sketch", **files)
        for _ in range(4):
            with gate.step(NAMES[:4]):
                gate.backward(functional.cross_entropy(net(torch.ones(4, 3)), torch.ones(4).long(), reduction="none"))
        gate.close()
        with LineageReader(folder / "run", keyring) as reader:
            ends.append([(block.rows, block.book) for block in reader.steps()])
    assert ends[0] == ends[1]


@pytest.mark.parametrize("record", ["norms", "sketch"])
@pytest.mark.parametrize("on_exhaust", ["deny", "defer", "attenuate", "halt"])
def test_an_auditor_derives_every_row_again(tmp_path: Path, on_exhaust: str, record: str) -> None:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    budgets = [
        budget("early", (0,), per_update=300_000, per_epoch=4_000_000, on_exhaust=on_exhaust),
        budget("all", (0, 1), per_run=25_000_000, exposures=9, on_exhaust="attenuate"),
    ]
    table = tables(ROWS, norms=[[None, 0.5], [0.1, None], [None, None]], budgets=budgets)
    keyring, log = signed(tmp_path, net, table)
    gate = attach(
        net,
        torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.5),
        bundle=tmp_path / "policy.aqb",
        manifest=tmp_path / "labels.aqm",
        keyring=keyring,
        lineage=tmp_path / "run",
        log_key=log,
        record=record,
        refused=[NAMES[4]],
    )
    names = [*NAMES, "stranger"]
    x, y = 3 * torch.randn(len(names), 3), torch.randint(0, 2, (len(names),))

    def train() -> None:
        for number in range(STEPS):
            if number % 7 == 6:
                gate.start_epoch()
            pick = torch.randint(0, len(names), (6,))
            with gate.step([names[index] for index in pick]):
                loss = functional.cross_entropy(net(x[pick]), y[pick], reduction="none")
                gate.backward(torch.where(torch.arange(6) == number, torch.inf, loss))

    if on_exhaust == "halt":
        with pytest.raises(BudgetExhaustedError):
            train()
    else:
        train()
    gate.close()
    report = audit_run(tmp_path / "run", keyring)
    assert report.rows == gate.totals.examples
    assert report.models == (0 if on_exhaust == "halt" else 1)
    assert report.effects == gate.totals.effects
    assert report.causes["error"] > 0
    assert {"limit per update", "loss not finite"} < set(report.exceptions)
    assert report.spent == gate.totals.spent
    assert all(residual < 1e-4 for residual in report.worst_residual.values())


def test_a_bundle_that_asks_for_more_than_the_gate_enforces_is_not_attached(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    table = replace(tables(ROWS), requires=("evidence weighting", "share", "telepathy"))
    _, log = signed(tmp_path, net, table)
    with pytest.raises(BundleError, match="does not enforce: evidence weighting, telepathy"):
        attach(
            net,
            torch.optim.SGD(net.parameters(), lr=0.1),
            bundle=tmp_path / "policy.aqb",
            manifest=tmp_path / "labels.aqm",
            keyring=tmp_path / "keyring.json",
            lineage=tmp_path / "run",
            log_key=log,
        )
    assert not (tmp_path / "run").exists()
    assert all("forward" not in vars(module) for module in net.modules())


def test_a_run_of_a_gate_that_enforced_more_is_not_audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    keyring, log = signed(tmp_path, net, replace(tables(ROWS), requires=("norm", "share")))
    gate = attach(
        net,
        torch.optim.SGD(net.parameters(), lr=0.1),
        bundle=tmp_path / "policy.aqb",
        manifest=tmp_path / "labels.aqm",
        keyring=keyring,
        lineage=tmp_path / "run",
        log_key=log,
    )
    gate.close()
    audit_run(tmp_path / "run", keyring)
    monkeypatch.setattr(capabilities, "ENFORCED", frozenset({"share"}))
    with pytest.raises(BundleError, match="does not enforce: norm"):
        audit_run(tmp_path / "run", keyring)
