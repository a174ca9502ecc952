"""A training that can be made through the gate, and hundreds of times at once without it.

Both take the same batches in the same order, and divide by the planned number of
examples; so a retraining without an example is the training in which the gate
denies it. That they agree is measured before anything else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from aqpolicy.bundle import NO_LIMIT, AttributeTable, Bundle, Row, Tables, encode_bundle, seal_bundle
from aqpolicy.gate import attach
from aqpolicy.provenance import Credential, Field, Observation, Session, issue_manifest
from aqpolicy.trace.run import Run, open_run
from aqpolicy.trust import Keyring, SigningKey, sha256
from aqpolicy.units import MICRO

from .data import Data


@dataclass(frozen=True)
class Setup:
    """What is trained, on what, and how.

    Shapes:
        owner (n,): number of the annotator of every example.
    """

    name: str
    data: Data
    build: Callable[[], nn.Sequential]
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer]
    rate: float
    owner: Tensor
    batch: int = 60
    epochs: int = 15
    warm: bool = True
    """Whether the learning rate rises over the first tenth, and falls to 0."""

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.epochs * (len(self.data.x) // self.batch)

    def model(self, seed: int = 0) -> nn.Sequential:
        """Return the untrained model."""
        torch.manual_seed(seed)
        return self.build()

    def batches(self, seed: int = 0) -> list[Tensor]:
        """Return the examples of every step."""
        chance = torch.Generator().manual_seed(1_000 + seed)
        count = len(self.data.x) // self.batch * self.batch
        orders = [torch.randperm(len(self.data.x), generator=chance)[:count] for _ in range(self.epochs)]
        return [part for order in orders for part in order.split(self.batch)]

    def rates(self) -> list[float]:
        """Return the learning rate of every step."""
        if not self.warm:
            return [self.rate] * self.steps
        up = max(1, self.steps // 10)
        return [self.rate * min((at + 1) / up, (self.steps - at) / (self.steps - up + 1)) for at in range(self.steps)]

    def layers(self) -> list[str]:
        """Return the names of the layers that have parameters: each is a depth group."""
        return [name for name, module in self.model().named_children() if isinstance(module, nn.Linear)]


def margins(scores: Tensor, labels: Tensor) -> Tensor:
    """Return by how much the right answer is ahead of all others together.

    Shapes:
        scores (..., n, classes), labels (n,) -> (..., n).
    """
    right = scores.gather(-1, labels.expand(scores.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    others = scores.masked_fill(torch.arange(scores.shape[-1]) == labels.unsqueeze(-1), -torch.inf)
    return right - others.logsumexp(-1)


# ---- through the gate


class Trained:
    """A run that the gate recorded, in a folder of its own that goes with it."""

    def __init__(self, setup: Setup, record: str = "factors", bits: int = 8) -> None:
        """Train; everybody may write everything."""
        self._stack, self.setup = ExitStack(), setup
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._keys = gate_inputs(folder, setup)
        self.model = setup.model()
        self.start = [parameter.detach().clone() for parameter in self.model.parameters()]
        self.checkpoints = _gated(setup, self.model, folder, self._keys, record, bits)
        self.run: Run = open_run(folder / "run", self._keys[0])

    def close(self) -> None:
        """Remove the folder."""
        self._stack.close()


def gated_without(setup: Setup, refused: Sequence[int]) -> nn.Sequential:
    """Return what the gate trains where some examples are refused."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = setup.model()
        _gated(setup, model, folder, gate_inputs(folder, setup), "decisions", 8, [example_id(at) for at in refused])
        return model


def example_id(number: int) -> str:
    """Return the id of an example."""
    return f"example-{number}"


def _gated(  # noqa: PLR0917 - what a gate is attached with
    setup: Setup,
    model: nn.Sequential,
    folder: Path,
    keys: tuple[Keyring, SigningKey],
    record: str,
    bits: int,
    refused: Sequence[str] = (),
) -> list[dict[str, Tensor]]:
    """Train through the gate; return the weights after every epoch."""
    optimizer = setup.optimizer(list(model.parameters()))
    gate = attach(
        model,
        optimizer,
        bundle=folder / "in.aqb",
        manifest=folder / "in.aqm",
        keyring=keys[0],
        lineage=folder / "run",
        log_key=keys[1],
        record=record,  # type: ignore[arg-type]  # one of the four
        factor_bits=bits,
        refused=refused,
    )
    every, saved = len(setup.data.x) // setup.batch, []
    for number, (index, rate) in enumerate(zip(setup.batches(), setup.rates(), strict=True)):
        optimizer.param_groups[0]["lr"] = rate
        with gate.step([example_id(at) for at in index.tolist()]):
            scores = model(setup.data.x[index])
            gate.backward(functional.cross_entropy(scores, setup.data.y[index], reduction="none"))
        if (number + 1) % every == 0:
            gate.start_epoch()
            saved.append({name: value.detach().clone() for name, value in model.state_dict().items()})
    gate.close()
    return saved


def gate_inputs(folder: Path, setup: Setup) -> tuple[Keyring, SigningKey]:
    """Write a signed bundle and a signed manifest: every annotator has a row, in which all is admitted."""
    author, issuer = SigningKey.generate("author"), SigningKey.generate("issuer")
    kinds = tuple(f"a{number}" for number in range(int(setup.owner.max()) + 1))
    layers, model = setup.layers(), setup.model()
    known = [(name, tuple(value.shape)) for name, value in model.named_parameters()]
    binding = tuple(tuple(one for one in known if one[0].startswith(f"{layer}.")) for layer in layers)
    none, count = (NO_LIMIT,) * len(layers), len(layers)
    rows = [Row("deny", "error", (0,) * count, none, (), (), "error")]
    rows += [Row("admit", "granted", (MICRO,) * count, none, (), (f"rule {kind}",), "admitted") for kind in kinds]
    vectors = tuple(1 << number for number in range(len(kinds)))
    attribute = AttributeTable("kind", "category", kinds, (), 0, 1, vectors)
    names = tuple(f"layer {layer}" for layer in layers)
    tables = Tables(names, (attribute,), tuple(rows), {vector: at + 1 for at, vector in enumerate(vectors)}, ())
    bundle = Bundle(tables, "bench", "1", "bench@1", binding, {"source": "sha256:00"}, {}, ())
    (folder / "in.aqb").write_bytes(seal_bundle(encode_bundle(bundle), [author]))
    sessions = []
    for number, kind in enumerate(kinds):
        key = SigningKey.generate(kind)
        credential = Credential(id=kind, key=key.verify_key.text, holder=f"annotator {kind}", authority="reader")
        own = (setup.owner == number).nonzero().squeeze(1).tolist()
        observations = tuple(_observation(at, int(setup.data.y[at]), kind) for at in own)
        sessions.append(Session(credential, key, observations))
    issue_manifest(folder / "in.aqm", "bench", "bench@1", [Field("kind", "category", kinds)], sessions, issuer)
    roles = [("policy-author", author), ("manifest-issuer", issuer), ("log", issuer)]
    return Keyring.of([(role, key.verify_key) for role, key in roles]), issuer


def _observation(number: int, label: int, kind: str) -> Observation:
    name = example_id(number)
    return Observation(name, sha256(name.encode()), sha256(bytes([label])), kind, 0, {"kind": kind}, ())


# ---- without it, many at once


def retrain(setup: Setup, weights: Tensor, seed: int = 0) -> list[nn.Sequential]:
    """Return one model per line of weights, trained by plain torch, all at once.

    Args:
        setup: What is trained.
        weights: What each example may write into each layer.
        seed: Of the initial weights and the order.

    Shapes:
        weights (k, n, layers), or (k, n) where all layers get the same.
    """
    model, count = setup.model(seed), len(weights)
    layers = setup.layers()
    stacked = {
        name: value.detach().expand(count, *value.shape).clone().requires_grad_()
        for name, value in model.named_parameters()
    }
    optimizer = setup.optimizer(list(stacked.values()))
    alike = weights.dim() == 2
    forward = vmap(lambda parameters, x: functional_call(model, parameters, (x,)), in_dims=(0, None))
    for index, rate in zip(setup.batches(seed), setup.rates(), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        scores = forward(stacked, setup.data.x[index])
        labels = setup.data.y[index].expand(count, -1)
        losses = functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="none").view(count, -1)
        part = weights[:, index] / len(index)
        if alike:
            found = torch.autograd.grad((part * losses).sum(), list(stacked.values()))
            for value, gradient in zip(stacked.values(), found, strict=True):
                value.grad = gradient
        else:
            for number, layer in enumerate(layers):
                own = [value for name, value in stacked.items() if name.startswith(f"{layer}.")]
                total, last = (part[:, :, number] * losses).sum(), number + 1 == len(layers)
                for value, gradient in zip(own, torch.autograd.grad(total, own, retain_graph=not last), strict=True):
                    value.grad = gradient
        optimizer.step()
    return [_loaded(setup, {name: value.detach()[at] for name, value in stacked.items()}) for at in range(count)]


def _loaded(setup: Setup, state: dict[str, Tensor]) -> nn.Sequential:
    model = setup.model()
    model.load_state_dict(state)
    return model


def behaviours(models: Sequence[nn.Module], x: Tensor, labels: Tensor) -> Tensor:
    """Return the margins of models on pictures, (k, q)."""
    with torch.no_grad():
        return torch.stack([margins(model(x), labels) for model in models]).double()
