"""Measure what the gate costs: step time beside plain training, interleaved, in one run.

`make bench` runs it. Each cell is the median over rounds of the ratio between a
gated step and a plain step of the same model on the same batch, by CPU time and
by wall clock. Two rounds that follow each other see the same machine, so the
ratio holds where the milliseconds do not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

from aqpolicy.bundle import NO_LIMIT, AttributeTable, BudgetTable, Bundle, Row, Tables
from aqpolicy.gate import attach
from aqpolicy.provenance import Credential, Field, Manifest, Observation, Session, issue_manifest, load_manifest
from aqpolicy.trust import Keyring, SigningKey, sha256

MICRO = 1_000_000
OBSERVATIONS = 512
NAMES = [f"example-{number}" for number in range(OBSERVATIONS)]


class Transformer(nn.Module):
    """Two pre-norm encoder blocks."""

    def __init__(self, wide: int = 128, length: int = 64) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(1000, wide), nn.Embedding(length, wide)
        self.blocks = nn.ModuleList(Block(wide) for _ in range(2))
        self.head = nn.Linear(wide, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        h = self.words(x) + self.places(torch.arange(x.shape[1]).expand(x.shape))
        for block in self.blocks:
            h = block(h)
        return self.head(h.mean(1))


class Block(nn.Module):
    """Attention and a feed-forward layer."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(wide), nn.LayerNorm(wide)
        self.mix, self.out = nn.Linear(wide, 3 * wide), nn.Linear(wide, wide)
        self.up, self.down = nn.Linear(wide, 4 * wide), nn.Linear(4 * wide, wide)

    def forward(self, h: Tensor) -> Tensor:
        """Add attention, then the feed-forward layer."""
        b, t, d = h.shape
        query, key, value = self.mix(self.first(h)).view(b, t, 3, 4, d // 4).permute(2, 0, 3, 1, 4)
        h = h + self.out(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(b, t, d))
        return h + self.down(functional.gelu(self.up(self.second(h))))


def convnet() -> nn.Module:
    """Return a small convnet for 32 by 32 images with two channels: about 15 thousand parameters."""
    return nn.Sequential(
        nn.Conv2d(2, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 32),
        nn.ReLU(),
        nn.Linear(32, 2),
    )


@dataclass(frozen=True)
class Case:
    """A model, its data, and its depth groups by prefixes of parameter names."""

    name: str
    build: Callable[[], nn.Module]
    batch: Callable[[], Tensor]
    groups: tuple[tuple[str, ...], ...]


CASES = (
    Case("convnet 15k, 32x32x2, B=64", convnet, lambda: torch.randn(64, 2, 32, 32), (("0.", "3."), ("6.",), ("1",))),
    Case(
        "transformer d=128, T=64, B=32",
        Transformer,
        lambda: torch.randint(0, 1000, (32, 64)),
        (("words", "places"), ("blocks.0",), ("blocks.1", "head")),
    ),
)


@dataclass(frozen=True)
class Mode:
    """A policy and what is recorded."""

    name: str
    shares: tuple[tuple[float, ...], ...]
    limit: float | None = None
    record: str = "norms"
    lineage: bool = True
    budget: bool = False


OPEN, MIXED = ((1.0, 1.0, 1.0),), ((1.0, 1.0, 1.0), (0.5, 0.25, 1.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0))
MODES = (
    Mode("all rows open, no log", OPEN, lineage=False),
    Mode("all rows open", OPEN),
    Mode("mixed shares", MIXED),
    Mode("mixed shares, norm limits, budget", MIXED, limit=1.0, budget=True),
    Mode("the same with sketches", MIXED, limit=1.0, budget=True, record="sketch"),
)


def tables(mode: Mode) -> Tables:
    """Return the mask tables of a mode: row by the attribute `kind`."""
    budget = BudgetTable("all", (0, 1, 2), 5 * MICRO, NO_LIMIT, 10**15, NO_LIMIT, "deny")
    limit = NO_LIMIT if mode.limit is None else round(mode.limit * MICRO)
    rows = [Row("deny", "error", (0, 0, 0), (NO_LIMIT,) * 3, (0,) * mode.budget, (), "error")]
    for shares in mode.shares:
        micro = tuple(round(share * MICRO) for share in shares)
        cost = (max(micro),) * mode.budget
        rows.append(Row("modulate", "granted", micro, (limit,) * 3, cost, (), "because"))
    count = len(mode.shares)
    kinds = AttributeTable("kind", "category", KINDS[:count], (), 0, 1, tuple(1 << n for n in range(count)))
    vectors = {1 << number: number + 1 for number in range(count)}
    return Tables(("early", "middle", "late"), (kinds,), tuple(rows), vectors, (budget,) * mode.budget)


KINDS = ("a", "b", "c", "d")


def manifest(folder: Path, kinds: int) -> tuple[Manifest, Keyring, SigningKey]:
    """Return a signed manifest of examples whose kinds alternate."""
    issuer, reader = SigningKey.generate("issuer"), SigningKey.generate("reader")
    credential = Credential(id="reader", key=reader.verify_key.text, holder="reader-1", authority="expert")
    observations = tuple(
        Observation(name, sha256(name.encode()), sha256(b""), "reader", 0, {"kind": KINDS[number % kinds]}, ())
        for number, name in enumerate(NAMES)
    )
    keyring = Keyring.of([("manifest-issuer", issuer.verify_key)])
    path = folder / "labels.aqm"
    fields = [Field("kind", "category", KINDS)]
    issue_manifest(path, "bench", "bench@1", fields, [Session(credential, reader, observations)], issuer)
    return load_manifest(path, keyring), keyring, issuer


def plain_step(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """Return one step of plain training."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def gated_step(model: nn.Module, x: Tensor, y: Tensor, plan: tuple[Case, Mode], stack: ExitStack) -> Callable[[], None]:
    """Return one step under a policy, with its log in a temporary folder."""
    case, mode = plan
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    labels, keyring, key = manifest(folder, len(mode.shares))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    known = [(name, tuple(value.shape)) for name, value in model.named_parameters()]
    bound = tuple(tuple(entry for entry in known if entry[0].startswith(group)) for group in case.groups)
    gate = attach(
        model,
        optimizer,
        bundle=Bundle(tables(mode), "bench", "1", "bench@1", bound, {}, {}, (), sha256(b"bench")),
        manifest=labels,
        keyring=keyring,
        lineage=folder / "run" if mode.lineage else None,
        log_key=key,
        record=mode.record,
        unsafe_without_lineage=not mode.lineage,
    )
    stack.callback(gate.close)
    names = NAMES[: len(x)]

    def step() -> None:
        with gate.step(names):
            gate.backward(functional.cross_entropy(model(x), y, reduction="none"))

    return step


def timed(step: Callable[[], None], repeats: int) -> tuple[float, float]:
    """Return seconds of CPU and of wall clock per step."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.process_time() - cpu) / repeats, (time.perf_counter() - wall) / repeats


def measure(case: Case, mode: Mode, rounds: int, repeats: int) -> tuple[float, float, float]:
    """Return milliseconds of a plain step, and the ratios by CPU time and wall clock."""
    torch.manual_seed(0)
    model, x = case.build(), case.batch()
    y = torch.randint(0, 2, (len(x),))
    with ExitStack() as stack:
        plain = plain_step(deepcopy(model), x, y)
        gated = gated_step(model, x, y, (case, mode), stack)
        timed(plain, 3), timed(gated, 3)
        pairs = [(timed(plain, repeats), timed(gated, repeats)) for _ in range(rounds)]
    cpu = median(other[0] / one[0] for one, other in pairs)
    wall = median(other[1] / one[1] for one, other in pairs)
    return 1000 * median(one[1] for one, _ in pairs), cpu, wall


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=4, help="steps per round")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    print(f"{'model':<32}{'policy':<36}{'plain ms':>9}{'cpu':>7}{'wall':>7}")
    for case in CASES:
        for mode in MODES:
            milliseconds, cpu, wall = measure(case, mode, args.rounds, args.repeats)
            print(f"{case.name:<32}{mode.name:<36}{milliseconds:>9.2f}{cpu:>7.2f}{wall:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
