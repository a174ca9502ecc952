"""A published table as a policy: which digits may shape which half of an autoencoder's code.

After table 2 of "Gradient routing" (arXiv 2410.04332): 0 to 4 are to live in one half
of the code, 5 to 9 in the other; a fresh decoder that sees the second half only is then
to restore 5 to 9 well and 0 to 4 badly. There the gradient is stopped at the code. A gate
closes parameters and leaves the signal through them as it is. Both are measured, and a
training in which all digits write everything beside them.

`make bench-routing` runs it; on 4,000 pictures, not 60,000.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from gate.pages import as_text
from torch import Tensor, nn
from tracing.data import Data, mnist

from aqpolicy.bundle import seal_bundle
from aqpolicy.gate import attach, describe_model
from aqpolicy.library import Files, read_source
from aqpolicy.pipeline import Pipeline
from aqpolicy.provenance import Credential, Field, Observation, Session, issue_manifest
from aqpolicy.report.data import Table
from aqpolicy.trust import Keyring, SigningKey, canonical_json, sha256

POLICIES = Path(__file__).parent / "routing_mnist"
CODE, BATCH, PENALTY = 32, 256, 3e-3


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    title: str
    policy: str
    stopped: bool = False
    """Whether the gradient is stopped at the code, in the model."""
    penalty: float = PENALTY
    """On the mean absolute value of the code."""
    published: str = ""
    """Errors in table 2, of 0 to 4 and of 5 to 9; without the correlation penalty they are 0.28 and 0.11."""


ARMS = (
    Arm("halves closed by the policy", "routing"),
    Arm("the same, no penalty on the code", "routing", penalty=0.0),
    Arm("gradient stopped at the code", "open", stopped=True, published="0.32 / 0.08"),
    Arm("the same, no penalty on the code", "open", stopped=True, penalty=0.0, published="0.32 / 0.32"),
    Arm("both", "routing", stopped=True),
    Arm("neither", "open", published="0.13 / 0.13"),
)

PAGE = """\
# A published table as a policy

This page is written by a run of `make bench-routing` and is not edited by hand.{quick}

```text
{facts}
```

Table 2 of "Gradient routing" (arXiv 2410.04332) trains an autoencoder of digits so that 0 to 4 live in one half of
its code and 5 to 9 in the other. There gradients are stopped at the code. As a policy
([routing.aqp](bench/routing_mnist/routing.aqp)) each half's own weights are closed to the other digits, while trunk
and decoder learn from all. All trainings run through the gate. Below is what a fresh decoder restores that sees the
second half of the code only: the mean absolute error per pixel (pixels standardised) on held-out pictures. The larger
it is on 0 to 4, the less of them lives there; a ratio of 1 is no separation.

{tables}

The published numbers are of 60,000 pictures and 200 epochs, with a penalty on correlations within a batch besides,
which a gate refuses: it mixes examples. They stand there for orientation.

Whatever the errors are, a closed half's weights moved by exactly nothing for the other digits: the log says so for
every visit, and an audit derives it again. But a closed group is no wall for information: the trunk learns from all
digits what helps any of them, and a half carries on what the trunk gives it. To keep digits out of a representation,
and not only out of parameters, the model has to stop the gradient; the policy says, and the log shows, who wrote what.
"""


class Halved(nn.Module):
    """An autoencoder whose code has two halves with weights of their own."""

    def __init__(self, wide: Sequence[int]) -> None:
        super().__init__()
        first, second = wide
        self.trunk = nn.Sequential(nn.Linear(784, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU())
        self.low_half, self.high_half = nn.Linear(second, CODE // 2), nn.Linear(second, CODE // 2)
        self.decoder = decoder(CODE, wide)

    def code(self, x: Tensor) -> Tensor:
        """Return both halves."""
        h = self.trunk(x)
        return torch.cat([self.low_half(h), self.high_half(h)], dim=1)


def decoder(code: int, wide: Sequence[int]) -> nn.Sequential:
    """Return a decoder."""
    first, second = wide
    return nn.Sequential(nn.Linear(code, second), nn.ReLU(), nn.Linear(second, first), nn.ReLU(), nn.Linear(first, 784))


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    wide: tuple[int, int] = (2048, 512)
    epochs: int = 30
    seeds: int = 1


QUICK = Size((64, 32), 2, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small model for a short time, to see that all works")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page of the docs")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    size, start, data = (QUICK if args.quick else Size()), time.perf_counter(), mnist()
    rows = []
    for arm in ARMS:
        found = [_restored(size, data, seed, arm) for seed in range(size.seeds)]
        low, high, whole = (torch.tensor(column) for column in zip(*found, strict=True))
        rows.append((arm.title, _said(low), _said(high), f"{(low / high).mean():.2f}", _said(whole), arm.published))
        print(f"{time.perf_counter() - start:7.1f} s  {rows[-1]}", file=sys.stderr, flush=True)
    columns = ("", "0 to 4", "5 to 9", "ratio", "own decoder, all digits", "published: 0 to 4 / 5 to 9")
    table = as_text(Table("error from the second half of the code", columns, tuple(rows)))
    print(table)
    if args.page is not None:
        facts = {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "machine": f"{platform.machine()}, {args.threads} threads",
            "torch": torch.__version__,
            "data": f"{data.name}, {len(data.x)} to learn from",
            "model": f"784-{size.wide[0]}-{size.wide[1]}-{CODE} and back, Adam 1e-3, weight decay 5e-5",
            "training": f"{size.epochs} epochs, batches of {BATCH}, {size.seeds} seeds",
            "took": f"{time.perf_counter() - start:.0f} s",
        }
        quick = "\n**It was a quick run: that all works, and nothing else, can be read from it.**" if args.quick else ""
        lines = "\n".join(f"{name:<12} {value}" for name, value in facts.items())
        args.page.write_text(PAGE.format(quick=quick, facts=lines, tables=f"```text\n{table}\n```"), encoding="utf-8")
    return 0


def _said(values: Tensor) -> str:
    spread = f" ± {float(values.std()):.3f}" if len(values) > 1 else ""
    return f"{float(values.mean()):.3f}{spread}"


def _restored(size: Size, data: Data, seed: int, arm: Arm) -> tuple[float, float, float]:
    """Train a model and a decoder of its second half; return errors on 0 to 4, on 5 to 9, and of its own decoder."""
    torch.manual_seed(seed)
    model = Halved(size.wide)
    with tempfile.TemporaryDirectory() as name:
        _train(Path(name), model, data, size, seed, arm)
    with torch.no_grad():
        codes, held = model.code(data.x), model.code(data.test_x)
        own = float((model.decoder(held) - data.test_x).abs().mean())
    fresh = decoder(CODE // 2, size.wide)
    optimizer = torch.optim.Adam(fresh.parameters(), lr=1e-3, weight_decay=5e-5)
    for index in _batches(len(data.x), size.epochs, seed + 100):
        optimizer.zero_grad()
        (fresh(codes[index, CODE // 2 :]) - data.x[index]).abs().mean().backward()
        optimizer.step()
    with torch.no_grad():
        errors = (fresh(held[:, CODE // 2 :]) - data.test_x).abs().mean(1)
    small = data.test_y < 5
    return float(errors[small].mean()), float(errors[~small].mean()), own


def _train(folder: Path, model: Halved, data: Data, size: Size, seed: int, arm: Arm) -> None:  # noqa: PLR0917 - what a training is
    roles = {"author": "policy-author", "issuer": "manifest-issuer", "log": "log", "picture": "annotator"}
    keys = {name: SigningKey.generate(name) for name in roles}
    keyring = Keyring.of([(role, keys[name].verify_key) for name, role in roles.items()])
    way = Pipeline(read_source(POLICIES / f"{arm.policy}.aqp"), Files(None))
    payload = way.payload(canonical_json(describe_model(model)))
    (folder / "in.aqb").write_bytes(seal_bundle(payload, [keys["author"]]))
    credential = Credential("picture", keys["picture"].verify_key.text, holder="the data set", authority="picture")
    observations = [_observation(at, int(label)) for at, label in enumerate(data.y)]
    schema = [Field("authority", "category", ("picture",)), Field("digits", "category", ("low", "high"))]
    session = Session(credential, keys["picture"], observations)
    issue_manifest(folder / "in.aqm", "bench", "bench.digits@1", schema, [session], keys["issuer"])
    gate = attach(
        model,
        torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=5e-5),
        bundle=folder / "in.aqb",
        manifest=folder / "in.aqm",
        keyring=keyring,
        lineage=folder / "run",
        log_key=keys["log"],
        record="decisions",
    )
    for index in _batches(len(data.x), size.epochs, seed):
        with gate.step([f"picture-{at}" for at in index.tolist()]):
            code = model.code(data.x[index])
            if arm.stopped:
                first = torch.arange(CODE) < CODE // 2
                code = torch.where((data.y[index] < 5).unsqueeze(1) == first, code, code.detach())
            errors = (model.decoder(code) - data.x[index]).abs().mean(1)
            gate.backward(errors + arm.penalty * code.abs().mean(1))
    gate.close()


def _observation(number: int, label: int) -> Observation:
    name = f"picture-{number}"
    said = {"authority": "picture", "digits": "low" if label < 5 else "high"}
    return Observation(name, sha256(name.encode()), sha256(bytes([label])), "picture", 0, said, ())


def _batches(count: int, epochs: int, seed: int) -> list[Tensor]:
    chance = torch.Generator().manual_seed(seed)
    orders = (torch.randperm(count, generator=chance)[: count // BATCH * BATCH] for _ in range(epochs))
    return [part for order in orders for part in order.split(BATCH)]


if __name__ == "__main__":
    sys.exit(main())
