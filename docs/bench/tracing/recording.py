"""What recording costs while training: runs that record take turns with a run that records decisions only."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from aqpolicy.gate import attach

from .data import Data
from .parts import Size, net
from .results import Finding
from .setups import Setup, example_id, gate_inputs

WIDTHS, BATCH, ROUNDS, STEPS = (512, 1024, 1024, 10), 256, 15, 4
MOST = 0.10
"""Part of a step that recording may add."""


def recording(size: Size) -> Iterator[Finding]:
    """Yield what the record levels add to a whole step: forward, backward, optimizer, log."""
    rounds = ROUNDS if size.epochs == Size().epochs else 2
    torch.manual_seed(0)
    data = Data(
        "noise", torch.randn(4 * BATCH, 512), torch.randint(0, 10, (4 * BATCH,)), torch.zeros(0), torch.zeros(0)
    )
    build = partial(net, WIDTHS, nn.ReLU)
    owner = torch.arange(len(data.x)) % 4
    setup = Setup("recording", data, build, lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9), 0.01, owner, BATCH)
    numbers = sum(value.numel() for value in setup.model().parameters())
    say = partial(Finding, "recording", f"MLP of {numbers:,} parameters, batch {BATCH}")
    kinds = {"decisions": 8, "norms": 8, "sketch": 8, "factors": 8, "factors of 4 bits": 4}
    with tempfile.TemporaryDirectory() as name:
        runs = {kind: _run(Path(name) / kind.replace(" ", "-"), setup, kind, bits) for kind, bits in kinds.items()}
        runs["no gate"] = _plain(setup)
        taken: dict[str, list[float]] = {kind: [] for kind in runs}
        for run, _ in runs.values():
            run()
        for _ in range(rounds):
            for kind, (run, _) in runs.items():
                start = time.perf_counter()
                run()
                taken[kind].append(time.perf_counter() - start)
        for _, close in runs.values():
            close()
    base = taken["decisions"]
    yield say("decisions", "milliseconds per step", 1e3 * statistics.median(base) / STEPS)
    for kind, times in taken.items():
        if kind == "decisions":
            continue
        ratio = statistics.median(one / other for one, other in zip(times, base, strict=True))
        must = MOST if kind.startswith("factors") else None
        yield say(f"{kind}, beside decisions", "added part of a step", ratio - 1, must, "<=")


Turn = tuple[Callable[[], None], Callable[[], None]]
"""Makes some steps, and ends the run."""


def _run(folder: Path, setup: Setup, kind: str, bits: int) -> Turn:
    folder.mkdir()
    keys = gate_inputs(folder, setup)
    model = setup.model()
    gate = attach(
        model,
        setup.optimizer(list(model.parameters())),
        bundle=folder / "in.aqb",
        manifest=folder / "in.aqm",
        keyring=keys[0],
        lineage=folder / "run",
        log_key=keys[1],
        record=kind.partition(" ")[0],  # type: ignore[arg-type]  # one of the four
        factor_bits=bits,
    )
    parts = torch.arange(len(setup.data.x)).split(setup.batch)[:STEPS]

    def run() -> None:
        for index in parts:
            with gate.step([example_id(at) for at in index.tolist()]):
                scores = model(setup.data.x[index])
                gate.backward(functional.cross_entropy(scores, setup.data.y[index], reduction="none"))

    return run, gate.close


def _plain(setup: Setup) -> Turn:
    model = setup.model()
    optimizer = setup.optimizer(list(model.parameters()))
    parts = torch.arange(len(setup.data.x)).split(setup.batch)[:STEPS]

    def run() -> None:
        for index in parts:
            optimizer.zero_grad()
            functional.cross_entropy(model(setup.data.x[index]), setup.data.y[index]).backward()
            optimizer.step()

    return run, lambda: None
