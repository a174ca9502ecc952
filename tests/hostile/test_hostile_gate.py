"""What goes wrong around the gate leaves no change without a record, and no untrusted input in use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.gating import Memory, binding, open_gate, tables
from torch import nn
from torch.nn import functional

from aqpolicy.bundle import Bundle, encode_bundle, seal_bundle
from aqpolicy.errors import (
    BundleError,
    BundleSignatureError,
    GateError,
    IllegalTrainingSetupError,
    InputError,
    LineageError,
    ManifestSignatureError,
    ProvenanceError,
    UngovernedParameterError,
    UnsupportedLayerError,
)
from aqpolicy.gate import attach
from aqpolicy.gate.gate import Gate
from aqpolicy.lineage import StepBlock
from aqpolicy.provenance import Credential, Field, Observation, Session, encode_manifest
from aqpolicy.trust import Keyring, SigningKey, sha256

NAMES = ["1-a", "2-a", "9-a"]


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


class Broken(Memory):
    """A log that takes some steps and then raises what it is told to."""

    def __init__(self, error: BaseException, after: int = 1) -> None:
        super().__init__()
        self.error, self.after = error, after

    def append_step(self, block: StepBlock) -> None:
        if len(self.blocks) >= self.after:
            raise self.error
        super().append_step(block)


def step(gate: Gate, net: nn.Module) -> None:
    names = NAMES[:2]
    with gate.step(names):
        gate.backward(functional.cross_entropy(net(torch.ones(2, 3)), torch.tensor([0, 1]), reduction="none"))


def steps(gate: Gate, net: nn.Module, count: int) -> None:
    for _ in range(count):
        step(gate, net)


def values(net: nn.Module) -> list[torch.Tensor]:
    return [value.detach().clone() for value in net.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError("no space left on device"), LineageError),
        (LineageError("the log takes no more entries"), LineageError),
        (MemoryError(), LineageError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_log_that_fails_takes_the_step_back(error: BaseException, raised: type[BaseException]) -> None:
    net, log = model(), Broken(error)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    gate = open_gate(net, optimizer, tables([[1.0], [0.5]]), NAMES, log=log)
    step(gate, net)
    before = values(net)
    with pytest.raises(raised):
        step(gate, net)
    assert same(before, values(net))
    assert gate.totals.steps == 1
    with pytest.raises(IllegalTrainingSetupError, match="the gate has halted"):
        step(gate, net)
    gate.close()
    assert log.models == []  # a halted run publishes nothing


def test_an_optimizer_that_fails_takes_the_step_back() -> None:
    class Failing(torch.optim.SGD):
        def step(self, closure: None = None) -> None:
            super().step(closure)
            raise RuntimeError("out of memory")

    net, log = model(), Memory()
    gate = open_gate(net, Failing(net.parameters(), lr=0.1), tables([[1.0], [0.5]]), NAMES, log=log)
    with pytest.raises(LineageError, match="out of memory"):
        step(gate, net)
    assert same(values(model()), values(net))
    assert log.blocks == []


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_step_to_infinity_is_taken_back(value: float) -> None:
    net, log = model(), Memory()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    gate = open_gate(net, optimizer, tables([[1.0], [1.0]]), NAMES, log=log)
    optimizer.register_step_post_hook(lambda *_: next(net.parameters()).data.fill_(value))
    with pytest.raises(IllegalTrainingSetupError, match="not finite"):
        step(gate, net)
    assert same(values(model()), values(net))
    assert log.blocks == []


def test_an_observation_that_fits_no_type_is_an_error_row() -> None:
    net, log = model(), Memory()
    gate = open_gate(net, torch.optim.SGD(net.parameters(), lr=0.1), tables([[1.0], [0.5]]), NAMES, log=log)
    with gate.step(["9-a"]):
        gate.backward(net(torch.ones(1, 3)).sum(1))
    (row,) = log.blocks[0].rows
    assert (row.effect, row.cause, row.route) == ("deny", "error", 0)
    assert same(values(model()), values(net))


def test_a_bundle_with_a_share_above_a_hundred_is_refused() -> None:
    net = model()
    with pytest.raises(BundleError, match="outside 0 to 100"):
        open_gate(net, torch.optim.SGD(net.parameters(), lr=0.1), tables([[100.5]]), NAMES)


def test_strange_ids_do_not_fill_the_memory() -> None:
    net, log = model(), Memory()
    gate = open_gate(net, torch.optim.SGD(net.parameters(), lr=0.1), tables([[1.0]]), NAMES, log=log)
    for number in range(20):
        with gate.step([f"stranger-{number}"]):
            gate.backward(net(torch.ones(1, 3)).sum(1))
    assert gate.machinery.decisions._seen == {}


class Inputs:
    """A signed bundle, a signed manifest and their keys, as files."""

    def __init__(self, folder: Path) -> None:
        self.author, self.issuer, reader = (SigningKey.generate(name) for name in ("author", "issuer", "reader"))
        self.keyring = Keyring.of(
            [("policy-author", self.author.verify_key), ("manifest-issuer", self.issuer.verify_key)]
        )
        self.net = model()
        self.contents = Bundle(
            tables=tables([[1.0], [0.5]]),
            policy_name="p",
            policy_version="1",
            taxonomy="words@1",
            parameters=binding(self.net, (("",),)),
            digests=dict.fromkeys(("source", "grammar", "taxonomy", "model"), f"sha256:{'0' * 64}"),
            source_map={},
            findings=(),
        )
        credential = Credential(id="reader", key=reader.verify_key.text, holder="reader-1", authority="expert")
        seen = [Observation(name, sha256(b"x"), sha256(b"y"), "reader", 0, {"kind": name[0]}, ()) for name in NAMES[:2]]
        fields = [Field("kind", "category", ("1", "2"))]
        sessions = [Session(credential, reader, seen)]
        self.folder, self.bundle, self.manifest = folder, folder / "policy.aqb", folder / "labels.aqm"
        self.bundle.write_bytes(seal_bundle(encode_bundle(self.contents), [self.author]))
        self.manifest.write_bytes(encode_manifest("labels", "words@1", fields, sessions, self.issuer))

    def attach(self, **changed: object) -> Gate:
        optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
        options = {
            "bundle": self.bundle,
            "manifest": self.manifest,
            "keyring": self.keyring,
            "lineage": self.folder / "run",
            "log_key": self.issuer,
        }
        return attach(self.net, optimizer, **(options | changed))


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return Inputs(tmp_path)


def refused(inputs: Inputs, kind: type[Exception], message: str, **changed: object) -> None:
    with pytest.raises(kind, match=message):
        inputs.attach(**changed)
    assert all("forward" not in vars(module) for module in inputs.net.modules())
    inputs.net(torch.ones(1, 3)).sum().backward()  # nobody watches any more


def test_no_log_is_no_training(inputs: Inputs) -> None:
    refused(inputs, GateError, "unsafe_without_lineage", lineage=None)


def test_no_log_on_purpose(inputs: Inputs) -> None:
    gate = inputs.attach(lineage=None, log_key=None, unsafe_without_lineage=True)
    step(gate, inputs.net)
    gate.close()
    assert gate.totals.steps == 1


def test_a_log_without_a_key(inputs: Inputs) -> None:
    refused(inputs, InputError, "log_key", log_key=None)


def test_a_file_without_a_keyring(inputs: Inputs) -> None:
    refused(inputs, InputError, "keyring", keyring=None)


def test_a_record_that_does_not_exist(inputs: Inputs) -> None:
    refused(inputs, InputError, "`everything`", record="everything")


def test_a_bundle_by_a_stranger(inputs: Inputs) -> None:
    inputs.bundle.write_bytes(seal_bundle(encode_bundle(inputs.contents), [SigningKey.generate("author")]))
    refused(inputs, BundleSignatureError, "signature|signed|trusted")


def test_a_bundle_signed_by_the_manifests_issuer(inputs: Inputs) -> None:
    inputs.bundle.write_bytes(seal_bundle(encode_bundle(inputs.contents), [inputs.issuer]))
    refused(inputs, BundleSignatureError, "signature|signed|trusted")


def test_a_manifest_by_a_stranger(inputs: Inputs) -> None:
    keyring = Keyring.of([("policy-author", inputs.author.verify_key), ("manifest-issuer", inputs.author.verify_key)])
    refused(inputs, ManifestSignatureError, "issuer", keyring=keyring)


@pytest.mark.parametrize("at", [-1, -40, 200])
def test_a_manifest_with_a_flipped_bit(inputs: Inputs, at: int) -> None:
    data = bytearray(inputs.manifest.read_bytes())
    data[at] ^= 1
    inputs.manifest.write_bytes(data)
    refused(inputs, ProvenanceError, "manifest|session|observation")


def test_a_bundle_and_a_manifest_of_different_vocabularies(inputs: Inputs) -> None:
    inputs.bundle.write_bytes(seal_bundle(encode_bundle(replace(inputs.contents, taxonomy="words@2")), [inputs.author]))
    refused(inputs, IllegalTrainingSetupError, "`words@2`, the manifest of `words@1`")


def test_a_bundle_for_another_model(inputs: Inputs) -> None:
    inputs.net.append(nn.Linear(2, 2))
    refused(inputs, UngovernedParameterError, r"`3\.weight`")


def test_a_folder_that_holds_a_log_already(inputs: Inputs) -> None:
    gate = inputs.attach()
    step(gate, inputs.net)
    gate.close()
    kept = {path.name: path.read_bytes() for path in (inputs.folder / "run").iterdir() if path.is_file()}
    inputs.bundle.write_bytes(seal_bundle(encode_bundle(replace(inputs.contents, policy_name="q")), [inputs.author]))
    refused(inputs, LineageError, "already holds a log")
    assert kept == {path.name: path.read_bytes() for path in (inputs.folder / "run").iterdir() if path.is_file()}


def test_two_gates_on_one_model(inputs: Inputs) -> None:
    gate = inputs.attach()
    with pytest.raises(UnsupportedLayerError, match="another gate"):
        inputs.attach(lineage=inputs.folder / "other")
    step(gate, inputs.net)
    gate.close()
