"""Other libraries on the same model, data and behaviours: dattri and captum, with the options their pages recommend."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from .setups import Setup, Trained, margins

Scores = Callable[[Trained, Tensor, Tensor], Tensor]
Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class Peer:
    """A way to score examples, (q, n); positive: the example raises the margin."""

    key: str
    title: str
    scores: Scores

    def timed(self, trained: Trained, x: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """Return scores, and the seconds that one behaviour took."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = time.perf_counter()
            found = self.scores(trained, x, labels)
        return found, (time.perf_counter() - start) / len(x)


def _task(trained: Trained, checkpoints: list[dict[str, Tensor]]) -> tuple[Any, Loss]:
    """Return dattri's task and its loss; some of its methods ask for one picture, others for a batch of them."""
    from dattri.task import AttributionTask

    model = trained.setup.model()

    def batch(pair: Any) -> tuple[Tensor, Tensor]:
        x, y = pair
        return (x.unsqueeze(0), y.unsqueeze(0)) if x.dim() == 1 else (x, y)

    def loss(parameters: Any, pair: Any) -> Tensor:
        x, y = batch(pair)
        return functional.cross_entropy(functional_call(model, parameters, (x,)), y)

    def margin(parameters: Any, pair: Any) -> Tensor:
        x, y = batch(pair)
        return margins(functional_call(model, parameters, (x,)), y).sum()

    return AttributionTask(loss, model, checkpoints, margin), loss


def _loaders(setup: Setup, x: Tensor, labels: Tensor) -> tuple[Any, Any]:
    train = DataLoader(TensorDataset(setup.data.x, setup.data.y), batch_size=len(setup.data.x))
    return train, DataLoader(TensorDataset(x, labels), batch_size=len(x))


def _tracin(trained: Trained, x: Tensor, labels: Tensor) -> Tensor:
    from dattri.algorithm import TracInAttributor

    task, _ = _task(trained, trained.checkpoints)
    found = TracInAttributor(task, torch.ones(len(trained.checkpoints)), normalized_grad=False)
    return -found.attribute(*_loaders(trained.setup, x, labels)).t()


def _influence(trained: Trained, x: Tensor, labels: Tensor) -> Tensor:
    from dattri.algorithm import IFAttributorCG

    task, _ = _task(trained, trained.checkpoints[-1:])
    found = IFAttributorCG(task, max_iter=20, regularization=1e-2)
    train, test = _loaders(trained.setup, x, labels)
    found.cache(train)
    return -found.attribute(train, test).t()


def _trak(trained: Trained, x: Tensor, labels: Tensor) -> Tensor:
    from dattri.algorithm import TRAKAttributor

    task, loss = _task(trained, trained.checkpoints[-5:])
    found = TRAKAttributor(
        task,
        lambda parameters, pair: torch.exp(-loss(parameters, pair)),
        {"proj_dim": 256, "device": "cpu"},
        regularization=1e-2,
    )
    train, test = _loaders(trained.setup, x, labels)
    found.cache(train)
    return -found.attribute(test).t()


def _captum(trained: Trained, x: Tensor, labels: Tensor) -> Tensor:
    from captum.influence import TracInCPFast

    model = trained.setup.model()
    last = [module for module in model if isinstance(module, nn.Linear)][-1]

    def load(into: nn.Module, state: Any) -> float:
        into.load_state_dict(state)
        return 1.0

    found = TracInCPFast(
        model,
        last,
        TensorDataset(trained.setup.data.x, trained.setup.data.y),
        trained.checkpoints,
        checkpoints_load_func=load,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=200,
    )
    # Of losses; a margin falls where its own loss rises, so the order of examples is the same.
    return found.influence((x, labels), k=None)


PEERS = (
    Peer("dattri-tracin", "dattri TracIn, weights after epochs", _tracin),
    Peer("captum-tracin", "captum TracInCPFast, last layer, weights after epochs", _captum),
    Peer("dattri-trak", "dattri TRAK, 256 numbers, last 5 epochs", _trak),
    Peer("dattri-if", "dattri influence by conjugate gradients, 20 iterations", _influence),
)
