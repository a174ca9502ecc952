"""A weight that two modules share: described, compiled, gated, recorded and audited as one parameter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from support.policy_text import SMALL
from torch import Tensor, nn
from torch.nn import functional

from aqpolicy.bundle import ENFORCED, decode_bundle, encode_bundle, seal_bundle
from aqpolicy.diagnostics import Source
from aqpolicy.errors import PolicyError
from aqpolicy.gate import attach
from aqpolicy.gate.describe import describe_model
from aqpolicy.lineage import verify_log
from aqpolicy.pipeline import Pipeline
from aqpolicy.provenance import Credential, Field, Observation, Session, issue_manifest
from aqpolicy.trace.auditing.audit import audit_run
from aqpolicy.trust import Keyring, SigningKey, canonical_json, sha256

POLICY = SMALL.replace(
    'surface = modules "a"; semantic = modules "b"; head = modules "c"',
    'words = modules "first", "head"; semantic = modules "second"',
).replace("surface 0.5; head 0.25", "words 0.5; semantic 0.25")
POLICY += """
rule trusted when authority >= expert admit full
rule crowd when authority is crowd admit weak
budget b on all surprisal at most 1000 nat per run, at most 20 nat per update
"""
SHARES = {"crowd": (0.5, 0.25), "board": (1.0, 1.0)}
NAMES = ["crowd-0", "board-0", "crowd-1", "board-1"]


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Embedding(7, 5)
        self.second = nn.Linear(5, 5)
        self.head = nn.Linear(5, 7, bias=False)
        self.head.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(self.first(x)))).mean(1)


def pipeline() -> Pipeline:
    return Pipeline(Source("policy.aqp", POLICY))


def description(model: nn.Module) -> bytes:
    return canonical_json(describe_model(model))


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return functional.cross_entropy(model(x), torch.ones(len(x)).long(), reduction="none")


def signed(folder: Path, model: nn.Module) -> tuple[Keyring, SigningKey]:
    author, issuer, log, reader = (SigningKey.generate(name) for name in ("author", "issuer", "log", "reader"))
    (folder / "policy.aqb").write_bytes(seal_bundle(pipeline().payload(description(model)), [author]))
    known = {"review": "approved", "consensus": 900_000, "judgments": 3_000_000}
    seen = [
        Observation(name, sha256(b"x"), sha256(b"y"), "reader", 0, {"authority": name.split("-")[0], **known}, ())
        for name in NAMES
    ]
    fields = [
        Field("authority", "category", ("crowd", "expert", "board")),
        Field("review", "category", ("draft", "approved", "rejected")),
        Field("consensus", "numeric"),
        Field("judgments", "numeric"),
    ]
    credential = Credential(id="reader", key=reader.verify_key.text, holder="reader-1", authority="expert")
    issue_manifest(folder / "labels.aqm", "labels", "t@1", fields, [Session(credential, reader, seen)], issuer)
    return Keyring.of(
        [(r, k.verify_key) for r, k in (("policy-author", author), ("manifest-issuer", issuer), ("log", log))]
    ), log


def test_a_bundle_says_that_a_model_ties_parameters() -> None:
    plain, tied = Words(), Words()
    plain.head.weight = nn.Parameter(plain.head.weight.detach().clone())
    assert "tied parameters" not in pipeline().bundle(description(plain)).tables.requires
    bundle = pipeline().bundle(description(tied))
    assert bundle.tables.requires == ("share", "surprisal budget", "tied parameters")
    assert [name for name, _ in bundle.parameters[0]] == ["first.weight"]
    assert decode_bundle(encode_bundle(bundle)).tables == bundle.tables


def test_ties_are_not_compiled_for_a_gate_that_does_not_know_them(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["aqpolicy.compiler.demands"]  # in its package the name is that of a function
    monkeypatch.setattr(module, "ENFORCED", ENFORCED - {"tied parameters"})
    with pytest.raises(PolicyError, match="cannot govern a parameter that several modules") as caught:
        pipeline().bundle(description(Words()))
    assert [finding.code for finding in caught.value.diagnostics] == ["AQ322"]
    assert len(caught.value.diagnostics[0].labels) == 2


def test_a_run_writes_a_tied_weight_by_its_groups_share_and_is_audited(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Words(), torch.randint(0, 7, (4, 3))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    wanted = {name: torch.zeros_like(value) for name, value in before.items()}
    for number, name in enumerate(NAMES):
        own = torch.autograd.grad(loss_of(model, x)[number], list(model.parameters()))
        for (parameter, _), part in zip(model.named_parameters(), own, strict=True):
            wanted[parameter] += SHARES[name.split("-")[0]][parameter.startswith("second")] * part / len(NAMES)
    keyring, log = signed(tmp_path, model)
    files = {"bundle": tmp_path / "policy.aqb", "manifest": tmp_path / "labels.aqm", "lineage": tmp_path / "run"}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    gate = attach(model, optimizer, keyring=keyring, log_key=log, record="sketch", **files)
    with gate.step(NAMES):
        gate.backward(loss_of(model, x))
    gate.close()
    for name, value in model.named_parameters():
        assert torch.allclose(before[name] - value, 0.5 * wanted[name], rtol=1e-4, atol=1e-7)
    verify_log(tmp_path / "run", keyring)
    assert audit_run(tmp_path / "run", keyring).steps == 1
